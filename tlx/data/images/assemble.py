"""From the images of a source to its Splits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from PIL import Image

from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.images.inputs import collate, image_encoder
from tlx.data.images.scan import pixel_key
from tlx.data.splits import Labels, Sample, Splits

FLIPS = frozenset({"horizontal_flip", "vertical_flip"})


@final
@dataclass(frozen=True)
class Images:
    """A split of images that are read when asked for.

    Attributes:
        ids: unique and stable.
        targets: class indices, tuples of 0 and 1, or tuples of numbers.
        keys: hashes of the pixels; empty where an image was not looked at.
        load: place in the source -> image.
        places: of the items in the source; None where they are all of it, in order.
        content: place in the source -> a hash of what the image there is made of, sooner had than
            its pixels; None, or an empty text: its pixels have to do.
        thumbnails: by which near copies are found; none where they are not looked for.
    """

    ids: Sequence[str]
    targets: Sequence[Any]
    keys: Sequence[str]
    load: Callable[[int], Image.Image]
    places: Sequence[int] | None = None
    content: Callable[[int], str] | None = None
    thumbnails: Sequence[bytes] = ()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The raw sample at a position."""
        place = index if self.places is None else self.places[index]
        return {"id": self.ids[index], "input": self.load(place), "target": self.targets[index]}

    def key_of(self, index: int) -> str:
        """A hash of the content of an item, also of one that was not looked at."""
        if self.keys[index]:
            return self.keys[index]
        place = index if self.places is None else self.places[index]
        return (self.content(place) if self.content else "") or pixel_key(self.load(place))

    def take(self, positions: Sequence[int]) -> "Images":
        """The items at some positions, in that order."""
        places = range(len(self)) if self.places is None else self.places
        return replace(
            self,
            ids=[self.ids[i] for i in positions],
            targets=[self.targets[i] for i in positions],
            keys=[self.keys[i] for i in positions],
            places=[places[i] for i in positions],
            thumbnails=[self.thumbnails[i] for i in positions] if self.thumbnails else (),
        )

    def without(self, positions: Collection[int]) -> "Images":
        """The items at all other positions."""
        gone = set(positions)
        return self.take([i for i in range(len(self)) if i not in gone])


def assemble(
    pools: Mapping[str, Images],
    labels: Labels,
    *,
    draw: Draw,
    drop_duplicates: bool = False,
    label_changing: frozenset[str] = frozenset(),
    notes: Mapping[str, Any] | None = None,
    content: str = "",
    own_division: bool = False,
) -> Splits:
    """The Splits of a source.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        drop_duplicates: remove copies, see `divide`.
        label_changing: augmentations that change the labels.
        notes: of the source, for the record.
        content: hash of the source, where not every image has a key.
        own_division: whether the division by `split_seed` is the data set's own, for all runs.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few items.
    """
    made = divide(
        pools,
        labels,
        draw=draw,
        noun="image",
        drop_duplicates=drop_duplicates,
        notes=notes,
        content=content,
        own_division=own_division,
    )
    return Splits(
        train=made.train,
        val=made.val,
        test=made.test,
        extra=made.extra,
        labels=labels,
        encoder=partial(image_encoder, label_changing=label_changing),
        collate=collate,
        fingerprint=made.fingerprint,
        label_changing=label_changing,
        notes=made.notes,
    )
