"""A source of images of whatever one has: a dataset of torch, a table, a list."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from tlx.data.draw import Draw
from tlx.data.images.assemble import assemble, image_pool
from tlx.data.images.scan import pixel_key
from tlx.data.splits import Labels, Splits


def image_splits(
    load: Callable[[int], Image.Image],
    targets: Sequence[object],
    labels: Labels,
    *,
    draw: Draw,
    ids: Sequence[str] | None = None,
    content: str = "",
) -> Splits:
    """Splits of images that a function reads, divided by `draw`.

    Args:
        load: from an item's place to its image of PIL.
        targets: one an item: class indices, tuples of 0 and 1, or tuples of numbers.
        labels: what the targets are.
        draw: how much is for validation and test, and how much of the rest is kept.
        ids: unique and stable; None: the items' places.
        content: what tells these images from others with the same ids and targets: a version, a
            hash of their file; empty: each image is looked at once, before training.

    Raises:
        ValueError: targets do not fit the labels, ids stand twice, or there are too few items.
    """
    places = range(len(targets))
    first = load(0) if len(targets) else None
    if first is not None and not isinstance(first, Image.Image):
        raise ValueError(
            f"a source of images gives {type(first).__name__} for its first item; give PIL images "
            "(torchvision.transforms.functional.to_pil_image makes one of a tensor)"
        )
    targets = [_plain(target) for target in targets]
    keys = ["" if content else pixel_key(load(place)) for place in places]
    names = list(ids) if ids is not None else [f"{place:06d}" for place in places]
    pool = image_pool(names, list(targets), keys, load)
    return assemble({"train": pool}, labels, draw=draw, content=content)


def _plain(target: object) -> object:
    """A number of torch or numpy as Python's own."""
    if isinstance(target, torch.Tensor | np.generic) and target.ndim == 0:
        value: object = target.item()
        return value
    return target
