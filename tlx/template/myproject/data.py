"""Where the data comes from: here it is drawn, so that nothing needs to be downloaded."""

import math
from typing import Annotated, Unpack

import numpy as np
from PIL import Image, ImageDraw

from tlx.base.ranges import Range
from tlx.data.draw import Dividing, Draw
from tlx.data.images.own import image_splits
from tlx.data.splits import Labels, Splits

MODALITY = "image"
DIRECTIONS = ("flat", "rising", "upright", "falling")
SIDE = 16


def bars(
    *,
    tilt: float = 0.0,
    noise: Annotated[float, Range(least=0)] = 0.4,
    images_per_class: Annotated[int, Range(least=20)] = 120,
    **draw: Unpack[Dividing],
) -> Splits:
    """Grey images of a bar, whose direction is the class.

    Args:
        tilt: degrees by which every bar is turned: a shifted target domain.
        noise: standard deviation, of the range from black to white.
        images_per_class: of all splits together.
        draw: which of them are trained on, `labels_per_class` and others: see `Draw`.
    """
    targets = [place % len(DIRECTIONS) for place in range(images_per_class * len(DIRECTIONS))]
    images = [_bar(place, 45 * target + tilt, noise) for place, target in enumerate(targets)]
    labels = Labels("single", DIRECTIONS)
    return image_splits(images.__getitem__, targets, labels, draw=Draw(**draw))


def _bar(number: int, degrees: float, noise: float) -> Image.Image:
    random = np.random.default_rng(number)  # the same image in every process
    angle = math.radians(degrees + random.normal(0, 6))
    x, y = SIDE / 2 + random.normal(0, 1, 2)
    reach = SIDE * random.uniform(0.3, 0.5)
    across, up = reach * math.cos(angle), -reach * math.sin(angle)
    canvas = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(canvas).line((x - across, y - up, x + across, y + up), fill=255, width=2)
    values = np.asarray(canvas) / 255 + random.normal(0, noise, (SIDE, SIDE))
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
