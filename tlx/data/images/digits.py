"""Data that needs no download: handwritten digits, rendered glyphs, digits under shift."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal, Unpack

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from tlx.base.ranges import Range
from tlx.data.draw import Draw, Few
from tlx.data.images.assemble import FLIPS, assemble, image_pool
from tlx.data.images.scan import pixel_key
from tlx.data.items import Pool
from tlx.data.splits import Labels, Splits
from tlx.methods.order import sample_seed

MODALITY = "image"

Pixels = npt.NDArray[np.uint8]

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSerif-Italic", "DejaVuSerif-Bold", "STIXGeneral", "STIXGeneralItalic", "cmr10",
)  # fmt: skip
"""Text fonts that matplotlib carries."""
GLYPH_SIDE = 32
EXTRA = {"digits_shifted": ["noise", "rotation", "contrast"]}
"""Function to the evaluation sets that it makes besides, for checking names in a config."""

TEST_SHARE, VAL_SHARE = 0.4, 0.25
NOISE, ROTATION, CONTRAST = 0.3, 25.0, 0.35
"""Sizes of the shifts: standard deviation, degrees, share of the range that is left."""


def digits(
    *,
    classes: Annotated[list[int] | None, Range(least=0, most=9)] = None,
    shift: Literal["noise", "rotation", "contrast", "inversion", "labels"] | None = None,
    **draw: Unpack[Few],
) -> Splits:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 pixels: 40% test, 15% validation.

    Args:
        classes: the digits that there are; None: all ten.
        shift: of every image: noise, rotation and contrast as in `digits_shifted`, inversion for
            black on white; `labels` leaves the images, and gives each digit another's name.
        draw: see `Draw`.

    Raises:
        ValueError: classes that are not two or more different digits.

    Source: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits".
    """
    parts = Draw(val_fraction=VAL_SHARE, test_fraction=TEST_SHARE, **draw)
    kept = list(range(10)) if classes is None else sorted(classes)
    if len(set(kept)) != len(kept) or len(kept) < 2 or not set(kept) <= set(range(10)):
        raise ValueError(f"dataset.classes={classes}; give two or more different digits, 0 to 9")
    images, targets = _digits()
    chosen = [i for i, target in enumerate(targets) if target in kept]
    images = [_shifted(shift, images[i], i) for i in chosen]
    turn = 3 if shift == "labels" else 0  # a cycle: every digit has another's name
    targets = [(kept.index(targets[i]) + turn) % len(kept) for i in chosen]
    return _splits("digits", images, targets, names=[DIGITS[k] for k in kept], draw=parts)


def preload() -> None:
    """Decodes the digits, for all processes that are forked from this one."""
    digits()


def _shifted(shift: str | None, image: Image.Image, number: int) -> Image.Image:
    seed = sample_seed(0, 0, f"digits/{number:05d}/{shift}")
    if shift == "noise":
        return _noisy(NOISE, image, seed)
    if shift == "rotation":
        return _rotated(ROTATION, image, seed)
    if shift == "contrast":
        return _faded(CONTRAST, image, seed)
    return ImageOps.invert(image) if shift == "inversion" else image


def digits_shifted(
    *,
    noise: Annotated[float, Range(least=0)] = 0.3,
    rotation: Annotated[float, Range()] = 25.0,
    contrast: Annotated[float, Range(least=0)] = 0.35,
    **draw: Unpack[Few],
) -> Splits:
    """`digits`, and its test images again with noise, rotated, and at low contrast.

    Args:
        noise: standard deviation, of the range from black to white.
        rotation: degrees, to one side or the other.
        contrast: share of the range that is left.
        draw: see `Draw`.
    """
    base = digits(**draw)
    shifts = {
        "noise": partial(_noisy, noise),
        "rotation": partial(_rotated, rotation),
        "contrast": partial(_faded, contrast),
    }
    extra = {}
    for name, shift in shifts.items():
        samples = [base.test[i] for i in range(len(base.test))]
        shifted = [shift(s["input"], sample_seed(0, 0, f"{name}/{s['id']}")) for s in samples]
        extra[name] = _images(list(base.test.ids), shifted, list(base.test.targets))
    sizes = {**base.notes["sizes"], **{name: len(split) for name, split in extra.items()}}
    return replace(
        base,
        extra=extra,
        fingerprint=f"{base.fingerprint}-{noise:g}-{rotation:g}-{contrast:g}",
        notes={**base.notes, "sizes": sizes},
    )


def glyphs(
    *,
    characters: Literal["digits", "alnum"] = "alnum",
    images_per_class: Annotated[int, Range(least=10)] = 60,
    **draw: Unpack[Few],
) -> Splits:
    """Characters in the fonts that matplotlib carries, randomly warped: a source domain.

    Args:
        characters: the ten digits, or digits and letters (62 classes).
        images_per_class: of all splits together; 10% are test, 10% validation.
        draw: see `Draw`; `split_seed` changes no image.

    Raises:
        ValueError: fewer than 10 images a class.
    """
    if images_per_class < 10:
        raise ValueError(f"dataset.images_per_class={images_per_class}; give 10 or more")
    names = DIGITS if characters == "digits" else DIGITS + LETTERS
    parts = Draw(val_fraction=0.1, test_fraction=0.1, **draw)
    return _splits("glyphs", *_glyphs(names, images_per_class), names=names, draw=parts)


def _splits(
    source: str, images: list[Image.Image], targets: list[int], *, names: Sequence[str], draw: Draw
) -> Splits:
    ids = [f"{source}/{i:05d}" for i in range(len(images))]
    return assemble(
        {"train": _images(ids, images, targets)},
        Labels("single", tuple(names)),
        draw=draw,
        label_changing=FLIPS,
        own_division=True,
    )


def _images(ids: list[str], images: list[Image.Image], targets: list[int]) -> Pool:
    keys = [pixel_key(image) for image in images]
    return image_pool(ids, targets, keys, images.__getitem__)


@lru_cache(maxsize=1)
def _digits() -> tuple[list[Image.Image], list[int]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (np.clip(bunch.images / 16, 0, 1) * 255 + 0.5).astype(np.uint8)
    return [_rgb(image) for image in pixels], [int(t) for t in bunch.target]


def _rgb(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels).convert("RGB")


# -- shifts -----------------------------------------------------------------------------------


def _noisy(sigma: float, image: Image.Image, seed: int) -> Image.Image:
    values = np.asarray(image.convert("L"), dtype=np.float64) / 255
    noisy = values + np.random.Generator(np.random.PCG64(seed)).normal(0, sigma, values.shape)
    return _rgb((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8))


def _rotated(degrees: float, image: Image.Image, seed: int) -> Image.Image:
    sign = 1 if random.Random(seed).random() < 0.5 else -1
    large = image.resize((64, 64), Image.Resampling.BICUBIC)
    turned = large.rotate(sign * degrees, Image.Resampling.BICUBIC)
    return turned.resize(image.size, Image.Resampling.BOX)


def _faded(share: float, image: Image.Image, seed: int) -> Image.Image:
    values = np.asarray(image.convert("L"), dtype=np.float64) / 255
    faded = 0.5 + (values - 0.5) * share
    return _rgb((np.clip(faded, 0, 1) * 255 + 0.5).astype(np.uint8))


# -- glyphs -----------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _glyphs(names: str, count: int) -> tuple[list[Image.Image], list[int]]:
    images, targets = [], []
    for label, character in enumerate(names):
        for number in range(count):
            draw = random.Random(f"{character}-{number}")
            images.append(_rgb(_rendered(character, draw)))
            targets.append(label)
    return images, targets


def _rendered(character: str, draw: random.Random) -> Pixels:
    """One warped character, white on black, as coarse as the digits are."""
    side = 2 * GLYPH_SIDE
    font = _font(draw.choice(FONTS), draw.randint(38, 52))
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    width = draw.choice((0, 0, 1, 2))
    pen.text((side / 2, side / 2), character, 255, font, anchor="mm", stroke_width=width)
    turn, shear = math.radians(draw.gauss(0, 9)), draw.gauss(0, 0.18)
    wide, high = draw.uniform(0.8, 1.25), draw.uniform(0.8, 1.25)
    a, b = wide * math.cos(turn), wide * (math.sin(turn) + shear)
    c, d = -high * math.sin(turn), high * math.cos(turn)
    x, y = side / 2 + draw.gauss(0, 2.5), side / 2 + draw.gauss(0, 2.5)
    centre = side / 2
    matrix = (a, b, x - a * centre - b * centre, c, d, y - c * centre - d * centre)
    warped = canvas.transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    blurred = warped.filter(ImageFilter.GaussianBlur(draw.uniform(0.5, 2.5)))
    inner = blurred.crop(_box(blurred, draw))
    coarse = inner.resize((8, 8), Image.Resampling.BOX)
    values = np.asarray(coarse, dtype=np.float64)
    values *= draw.uniform(0.8, 1.0) * 255 / max(values.max(), 1)
    noise = np.random.Generator(np.random.PCG64(draw.getrandbits(32))).normal(0, 8, values.shape)
    return np.clip(values + noise * (values > 8) + 0.5, 0, 255).astype(np.uint8)


def _box(image: Image.Image, draw: random.Random) -> tuple[int, int, int, int]:
    """The character's own box with a little room, as the digits fill their frame."""
    box = image.point(lambda value: 255 * (value > 40)).getbbox() or (0, 0, *image.size)
    room = [draw.randint(-1, 5) for _ in range(4)]
    left, top = max(box[0] - room[0], 0), max(box[1] - room[1], 0)
    right, low = min(box[2] + room[2], image.width), min(box[3] + room[3], image.height)
    pad = max((low - top) - (right - left), 0) // 2 if draw.random() < 0.7 else 0
    return left - pad, top, right + pad, low


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size)
