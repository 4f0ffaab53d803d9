"""A look at images: equal ones by their pixels, near copies by thumbnails."""

import hashlib

import PIL
from PIL import Image

from tlx.data.images.near import near_pairs, thumbnail
from tlx.data.images.read import load_image
from tlx.data.items import Medium
from tlx.data.scan import Looks


def pixel_key(image: Image.Image) -> str:
    """A hash of an image's pixels: equal for equal pixels, whatever the file."""
    head = f"{image.mode} {image.width}x{image.height}:".encode()
    return hashlib.blake2b(head + image.tobytes(), digest_size=16).hexdigest()


def _seen(image: Image.Image) -> tuple[str, bytes]:
    return pixel_key(image), thumbnail(image)


MEDIUM = Medium("image", "an image", near_pairs, "re-encoded, resized or mirrored")
LOOKS = Looks(MEDIUM, load_image, _seen, f"2-{PIL.__version__}")
