"""From the images of a source to its Splits: division, duplicates, fingerprint, notes."""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from PIL import Image

from tlx.data import subset
from tlx.data.images import collate, image_encoder, target_tensor
from tlx.data.splits import Labels, Sample, Splits
from tlx.data.subset import Draw, Items

LOG = logging.getLogger(__name__)
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
    """

    ids: Sequence[str]
    targets: Sequence[Any]
    keys: Sequence[str]
    load: Callable[[int], Image.Image]
    places: Sequence[int] | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The raw sample at a position."""
        place = index if self.places is None else self.places[index]
        return {"id": self.ids[index], "input": self.load(place), "target": self.targets[index]}

    def take(self, positions: Sequence[int]) -> "Images":
        """The items at some positions, in that order."""
        places = range(len(self)) if self.places is None else self.places
        return replace(
            self,
            ids=[self.ids[i] for i in positions],
            targets=[self.targets[i] for i in positions],
            keys=[self.keys[i] for i in positions],
            places=[places[i] for i in positions],
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
) -> Splits:
    """The Splits of a source.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        drop_duplicates: remove from training what is in an evaluation split, pixel by pixel.
        label_changing: augmentations that change the labels.
        notes: of the source, for the record.
        content: hash of the source, where not every image has a key.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few items.
    """
    named = dict(pools)
    for name, pool in named.items():
        _check(name, pool, labels)
    train, val, test = named.pop("train"), named.pop("val", None), named.pop("test", None)
    if test is None:
        chosen = subset.test_positions(_items(train, labels), draw)
        train, test = train.without(chosen), train.take(chosen)
    removed: list[str] = []

    def cleaned(pool: Images, *others: Images | None) -> Images:
        if not drop_duplicates:
            return pool
        seen = {key for other in others if other is not None for key in other.keys} - {""}
        copies = [i for i, key in enumerate(pool.keys) if key in seen]
        removed.extend(pool.ids[i] for i in copies)
        return pool.without(copies) if copies else pool

    train = cleaned(train, val, test, *named.values())
    if val is None:
        chosen = subset.val_positions(_items(train, labels), draw)
        train, val = train.without(chosen), train.take(chosen)
        train = cleaned(train, val)
    # train first: where it has too few, no other treatment of val can help
    train = train.take(subset.limited_train(_items(train, labels), draw))
    val = val.take(subset.limited_val(_items(val, labels), draw))
    made = {"train": train, "val": val, "test": test, **named}
    _check_classes(made, labels, draw)
    noted = {**(notes or {}), "sizes": {name: len(split) for name, split in made.items()}}
    if pairs := duplicates(train, {k: v for k, v in made.items() if k != "train"}):
        noted["duplicates"] = pairs
    if drop_duplicates:
        noted["duplicates_removed"] = removed
    return Splits(
        train=train,
        val=val,
        test=test,
        extra=named,
        labels=labels,
        encoder=partial(image_encoder, label_changing=label_changing),
        collate=collate,
        fingerprint=fingerprint(made, labels, content=content),
        label_changing=label_changing,
        notes=noted,
        encode_target=target_tensor,
    )


def duplicates(train: Images, others: Mapping[str, Images]) -> dict[str, list[list[str]]]:
    """Pairs of ids with equal pixels in training and in each other split, with a warning."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for key, name in zip(train.keys, train.ids, strict=True):
        if key:
            by_key[key].append(name)
    found = {
        split: [
            [mine, theirs]
            for key, theirs in zip(images.keys, images.ids, strict=True)
            for mine in by_key.get(key, ())
        ]
        for split, images in others.items()
    }
    found = {split: pairs for split, pairs in found.items() if pairs}
    for split, pairs in found.items():
        shown = ", ".join(f"{mine} = {theirs}" for mine, theirs in pairs[:3])
        LOG.warning(
            "%d images of train are in %s too (%s%s); dataset.drop_duplicates=true removes them "
            "from train",
            len({mine for mine, _ in pairs}),
            split,
            shown,
            ", ..." if len(pairs) > 3 else "",
        )
    return found


def fingerprint(splits: Mapping[str, Images], labels: Labels, *, content: str = "") -> str:
    """A hash of names, labels, ids, targets and pixels of all splits, and of the source."""
    head = [labels.kind, list(labels.names), *([content] if content else [])]
    digest = hashlib.sha256(json.dumps(head).encode())
    for name in sorted(splits):
        split = splits[name]
        digest.update(json.dumps([name, len(split)]).encode())
        for item in zip(split.ids, split.targets, split.keys, strict=True):
            digest.update(json.dumps(item).encode())
    return digest.hexdigest()


def _items(pool: Images, labels: Labels) -> Items:
    return Items(pool.ids, subset.single_classes(pool.targets, labels.kind), labels.names)


def _check(name: str, pool: Images, labels: Labels) -> None:
    if not len(pool):
        raise ValueError(f"the {name} split has no images")
    if len(set(pool.ids)) < len(pool):
        twice = next(i for i in pool.ids if list(pool.ids).count(i) > 1)
        raise ValueError(f"the {name} split has {twice!r} twice; ids must be unique")
    width = len(labels.names)
    for item, target in zip(pool.ids, pool.targets, strict=True):
        if labels.kind == "single":
            if not isinstance(target, int) or not 0 <= target < width:
                raise ValueError(
                    f"{name}: {item} has label {target}, and there are {width} classes, counted "
                    f"from 0 to {width - 1}"
                )
        elif len(target) != width:
            raise ValueError(f"{name}: {item} has {len(target)} values for {width} names")


def _check_classes(splits: Mapping[str, Images], labels: Labels, draw: Draw) -> None:
    """Classes that are evaluated and never trained.

    Raises:
        ValueError: there are some, and no protocol that draws without regard to classes.
    """
    if labels.kind != "single" or draw.protocol is not None:
        return
    trained = set(splits["train"].targets)
    for name, split in splits.items():
        missing = sorted(set(split.targets) - trained)
        if missing:
            shown = ", ".join(repr(labels.names[c]) for c in missing[:8])
            raise ValueError(
                f"the {name} split has classes without an image in train: {shown}"
                f"{', ...' if len(missing) > 8 else ''}; add some, or leave the classes out"
            )
