"""From the images of a source to its Splits."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from PIL import Image

from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.images.inputs import ImageInputs
from tlx.data.images.scan import MEDIUM, pixel_key
from tlx.data.items import LazyInputs, Pool
from tlx.data.splits import Labels, Splits

FLIPS = frozenset({"horizontal_flip", "vertical_flip"})


def image_pool(
    ids: Sequence[str],
    targets: Sequence[object],
    keys: Sequence[str],
    load: Callable[[int], Image.Image],
    *,
    content: Callable[[int], str] | None = None,
    thumbnails: Sequence[bytes] = (),
) -> Pool:
    """Images that are read when asked for.

    Args:
        ids: unique and stable.
        targets: class indices, tuples of 0 and 1, or tuples of numbers.
        keys: hashes of the pixels; empty where an image was not looked at.
        load: place -> image.
        content: place -> a hash of what the image there is made of, sooner had than its pixels;
            None, or an empty text: its pixels have to do.
        thumbnails: by which near copies are found; none where they are not looked for.
    """
    inputs = LazyInputs(load, range(len(ids)), partial(_key, load=load, content=content))
    return Pool(ids, targets, keys, inputs, marks=thumbnails)


def _key(
    place: int, *, load: Callable[[int], Image.Image], content: Callable[[int], str] | None
) -> str:
    return (content(place) if content else "") or pixel_key(load(place))


def assemble(
    pools: Mapping[str, Pool],
    labels: Labels,
    *,
    draw: Draw,
    label_changing: frozenset[str] = frozenset(),
    notes: Mapping[str, object] | None = None,
    content: str = "",
    own_division: bool = False,
) -> Splits:
    """The Splits of a source of images; arguments as for `divide`.

    Args:
        pools: see there.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        label_changing: augmentations that change the labels.
        notes: of the source, for the record.
        content: hash of the source, where not every image has a key.
        own_division: whether the division by `split_seed` is the data set's own, for all runs.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few items.
    """
    return divide(
        pools,
        labels,
        draw=draw,
        medium=MEDIUM,
        inputs=ImageInputs(label_changing),
        notes=notes,
        content=content,
        own_division=own_division,
    )
