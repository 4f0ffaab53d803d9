"""Reading images rightly, or not at all."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tlx.data.scan import content_of
from tlx.data.splits import Unreadable

EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".jp2", ".avif"),
    }
)
# no EPS, which Pillow hands to another program; no formats that any file may pass for
FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF"),
    *("PPM", "JPEG2000", "AVIF"),
)
MAX_PIXELS = 89_478_485
"""More is taken for a decompression bomb; Pillow's own figure, a quarter of a gigabyte of RGB."""

UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError),
    *(TypeError, AttributeError, OverflowError, ZeroDivisionError, MemoryError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow's decoders raise at broken files."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(Unreadable):
    """A file that is no image, or one that cannot be read rightly; the message says why."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def load_image(source: str | Path | bytes) -> Image.Image:
    """The image in a file, or in its bytes, as upright RGB with 8 bits a channel.

    Of an animation the first frame; 16 bits are scaled to 8, not clipped; CMYK is converted;
    transparency is dropped and the colours beneath it stay, as timm and torchvision do.

    Raises:
        BadImage: it is missing, empty, cut short, no image, too large, or of a depth without a
            fixed range.
        OSError: the system failed (too many open files, an unreachable disk), not the file.
    """
    data = content_of(source, BadImage)
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            return to_rgb(image)
    except UnidentifiedImageError:
        raise BadImage("is no image of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_too_large("its size")) from None
    except BadImage:
        raise
    except UNREADABLE as error:
        raise _undecodable(error) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image as upright RGB, as `load_image` gives it.

    Raises:
        BadImage: it cannot be decoded, is too large, or of a depth without a fixed range.
        OSError: the system failed, not the file.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(_too_large(f"{width}×{height}"))
    try:
        image.load()
        turn = TURNS.get(_orientation(image))
        return _rgb(image if turn is None else image.transpose(turn), image)
    except BadImage:
        raise
    except UNREADABLE as error:
        raise _undecodable(error) from None


def _undecodable(error: BaseException) -> BadImage:
    """What is wrong with a file; an error of the system is raised as it is."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return BadImage(f"cannot be decoded: {error or type(error).__name__}")


def _too_large(size: str) -> str:
    return (
        f"is too large: {size} is over {MAX_PIXELS} pixels (a decompression bomb?); scale it down"
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the block is damaged."""
    try:
        found = image.getexif().get(0x0112, 1)
    except UNREADABLE:
        return 1
    return found if isinstance(found, int) else 1


def _rgb(image: Image.Image, opened: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image if image is not opened else image.copy()
    deep = image.mode.startswith("I;16") or (image.mode == "I" and opened.format in {"PNG", "PPM"})
    if deep:
        return _from_16_bits(image, opened).convert("RGB")
    if image.mode in {"I", "F"}:
        raise BadImage(
            f"has 32 bits a pixel (mode {image.mode}), which have no fixed range; convert it to 8 "
            "or 16 bits"
        )
    if image.mode == "P" and "transparency" in image.info:
        # straight to RGB, Pillow warns at transparency stored as bytes
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image, opened: Image.Image) -> Image.Image:
    tags = getattr(opened, "tag_v2", {})
    bits = tags.get(258, (16,))
    highest = 2 ** min((bits[0] if isinstance(bits, tuple) else bits), 16) - 1
    values = np.asarray(image).astype(np.int64)
    scaled = (values.clip(0, highest) * 255 + highest // 2) // highest
    if tags.get(262) == 0:  # white is zero
        scaled = 255 - scaled
    return Image.fromarray(scaled.astype(np.uint8))
