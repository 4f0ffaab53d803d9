"""Images of other libraries' datasets: checked by samples, or all of them where that is wanted."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from tlx.data.draw import Draw
from tlx.data.images.assemble import FLIPS, assemble, image_pool
from tlx.data.images.read import BadImage
from tlx.data.images.scan import LOOKS
from tlx.data.scan import scan_each
from tlx.data.splits import Labels, Splits

SAMPLED = 64
"""Images of each split that are hashed, evenly spaced, the first and the last among them."""


@dataclass(frozen=True)
class LibrarySplit:
    """A split as a library gives it: targets, and images by place.

    Attributes:
        targets: of all items.
        load: place -> image.
        content: place -> a hash of what the image is made of, without decoding it, or an empty
            text.
    """

    targets: Sequence[object]
    load: Callable[[int], Image.Image]
    content: Callable[[int], str] | None = None


def from_library(
    name: str,
    sources: Mapping[str, LibrarySplit],
    labels: Labels,
    *,
    draw: Draw,
    flips: bool,
    notes: Mapping[str, object] | None = None,
) -> Splits:
    """Splits of a library's dataset, with ids of name, split and position.

    The fingerprint rests on ids, targets and the pixels of a sample of each split. To drop
    duplicates, every image is decoded and hashed.

    Raises:
        ValueError: an image that was looked at is bad, or the data do not fit together.
    """
    pools = {}
    for split, source in sources.items():
        ids = [f"{name}/{split}/{i:06d}" for i in range(len(source.targets))]
        keys, small = _looked_at(ids, source, every=draw.drop_duplicates)
        targets = list(source.targets)
        pools[split] = image_pool(
            ids, targets, keys, source.load, content=source.content, thumbnails=small
        )
    looked_at = {split: [key for key in pool.keys if key] for split, pool in pools.items()}
    content = hashlib.sha256(json.dumps(looked_at, sort_keys=True).encode()).hexdigest()
    counts = {split: len(keys) for split, keys in looked_at.items()}
    return assemble(
        pools,
        labels,
        draw=draw,
        label_changing=frozenset() if flips else FLIPS,
        notes={
            "fingerprint": "ids, targets, pixels of some images",
            "looked_at": counts,
            **(notes or {}),
        },
        content=content,
    )


def sample(count: int) -> list[int]:
    """At most 64 positions, evenly spaced from first to last."""
    if count <= SAMPLED:
        return list(range(count))
    return [i * (count - 1) // (SAMPLED - 1) for i in range(SAMPLED)]


def _looked_at(
    ids: Sequence[str], source: LibrarySplit, *, every: bool
) -> tuple[list[str], list[bytes]]:
    """Keys and thumbnails, empty of what was not looked at."""
    places = range(len(ids)) if every else sample(len(ids))
    # one thread: not every library's dataset can be read by several at once
    found = scan_each((partial(source.load, place) for place in places), LOOKS)
    if found.bad:
        lines = "\n".join(f"  {ids[places[i]]} {reason}" for i, reason in found.bad.items())
        raise ValueError(f"{len(found.bad)} images cannot be used:\n{lines}")
    keys, thumbnails = [""] * len(ids), [b""] * len(ids)
    for place, key, small in zip(places, found.keys, found.marks, strict=True):
        keys[place], thumbnails[place] = key, small
    return keys, thumbnails


def named_classes(targets: Mapping[str, Sequence[int]], names: Sequence[str]) -> tuple[str, ...]:
    """The library's class names, or the numbers of the classes where these are too few."""
    highest = max((max(found) for found in targets.values() if len(found)), default=-1)
    return tuple(names) if len(names) > highest else tuple(str(i) for i in range(highest + 1))


def as_image(value: object) -> Image.Image:
    """The value, if it is a PIL image.

    Raises:
        BadImage: it is not.
    """
    if not isinstance(value, Image.Image):
        raise BadImage(f"is no PIL image but {type(value).__name__}")
    return value
