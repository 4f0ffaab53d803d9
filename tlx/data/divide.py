"""From the items of a source to its splits: division, duplicates, fingerprint, notes."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from tlx.data import copies
from tlx.data import draw as subset
from tlx.data.copies import Noun
from tlx.data.draw import Draw, Items
from tlx.data.splits import Labels, Split
from tlx.data.targets import KINDS

LOG = logging.getLogger(__name__)
_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)
UNLABELLED = re.compile(
    r"(un|non?|not|without)[\W_]*(sup|supervised|labell?ed|labels?|annotated)", re.IGNORECASE
)
"""Names of folders of items without a label, as sets are packed."""

A: Mapping[Noun, str] = {"image": "an image", "text": "a text"}


class Pool(Split, Protocol):
    """A split that can be divided.

    Attributes:
        keys: hashes of the items' content; empty where an item was not looked at.
    """

    @property
    def keys(self) -> Sequence[str]:
        """One an item."""

    def take(self, positions: Sequence[int]) -> Self:
        """The items at some positions, in that order."""

    def without(self, positions: Collection[int]) -> Self:
        """The items at all other positions."""


P = TypeVar("P", bound=Pool)


@dataclass(frozen=True)
class Divided(Generic[P]):
    """Splits of a source, with their fingerprint and notes; see `Splits`."""

    train: P
    val: P
    test: P
    extra: Mapping[str, P]
    fingerprint: str
    notes: Mapping[str, Any]


@contextmanager
def whole() -> Iterator[None]:
    """Within it, sources give other data than a run was trained on, to be judged: all of it.

    Nothing is split off, drawn or dropped: what is not divided is all test. Only a division that
    belongs to a data set stays, since a run may have been trained on the other part.
    """
    token = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def is_whole() -> bool:
    """Whether data is wanted whole, for a source that divides by itself."""
    return _WHOLE.get()


def divide(
    pools: Mapping[str, P],
    labels: Labels,
    *,
    draw: Draw,
    noun: Noun,
    drop_duplicates: bool = False,
    notes: Mapping[str, Any] | None = None,
    content: str = "",
    own_division: bool = False,
) -> Divided[P]:
    """Divides what a source has not divided yet, and thins it out.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        noun: what an item is, for messages.
        drop_duplicates: remove from train what is in another split, and all but one of equal items
            (all, where they have several labels); from val what is in test.
        notes: of the source, for the record.
        content: hash of the source, where not every item has a key.
        own_division: whether the division by `split_seed` is the data set's own, for all runs.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few items.
    """
    named = dict(pools)
    entire = is_whole() and not own_division
    if entire and not len(named["train"]) and any(map(len, named.values())):
        pools = {name: pool for name, pool in pools.items() if name != "train"}
    for name, pool in pools.items():
        _check(name, pool, labels, noun)
    if entire:
        return _undivided(named, labels, notes=notes, content=content)
    train, val, test = named.pop("train"), named.pop("val", None), named.pop("test", None)
    if test is None:
        chosen = subset.test_positions(_items(train, labels), draw)
        train, test = train.without(chosen), train.take(chosen)
    removed: list[copies.Item] = []

    def without(split: str, pool: P, places: Sequence[int]) -> P:
        removed.extend(copies.items_of(split, pool.take(places)))
        return pool.without(places) if places else pool

    def cleaned(split: str, pool: P, *others: P | None) -> P:
        if not drop_duplicates:
            return pool
        seen = {key for other in others if other is not None for key in other.keys} - {""}
        return without(split, pool, [i for i, key in enumerate(pool.keys) if key in seen])

    # test is what figures are told of: nothing is ever taken out of it
    if val is not None:
        val = cleaned("val", val, test)
        if not len(val):
            raise ValueError(f"every {noun} of val is in test too; give val others of its own")
    train = cleaned("train", train, val, test, *named.values())
    if drop_duplicates:
        train = without("train", train, copies.repeated(train))
    if val is None:
        chosen = subset.val_positions(_items(train, labels), draw)
        train, val = train.without(chosen), train.take(chosen)
    # train first: where it has too few, no other treatment of val can help
    train = train.take(subset.limited_train(_items(train, labels), draw))
    val = val.take(subset.limited_val(_items(val, labels), draw))
    made = {"train": train, "val": val, "test": test, **named}
    _check_classes(made, labels, draw, noun)
    if not len(train):
        raise ValueError(f"too few {noun}s: train has none once val and test are split off")
    untested = _untested(train, test, labels, noun)
    noted = {
        **(notes or {}),
        **untested,
        "sizes": {name: len(split) for name, split in made.items()},
    }
    noted |= copies.report(made, labels, noun=noun, removed=removed)
    if drop_duplicates:
        noted["duplicates_removed"] = [item.id for item in removed]
    mark = fingerprint(made, labels, content=content)
    return Divided(train, val, test, named, mark, noted)


def _undivided(
    pools: Mapping[str, P], labels: Labels, *, notes: Mapping[str, Any] | None, content: str
) -> Divided[P]:
    """The splits as they are; where there is only train, that is the test."""
    none = pools["train"].take([])
    made = {"train": pools["train"], "val": none, "test": none, **pools}
    if "val" not in pools and "test" not in pools:
        made |= {"train": none, "test": pools["train"]}
    mark = fingerprint(made, labels, content=content)
    noted = {**(notes or {}), "sizes": {name: len(split) for name, split in made.items()}}
    train, val, test = (made.pop(name) for name in ("train", "val", "test"))
    return Divided(train, val, test, made, mark, noted)


def fingerprint(splits: Mapping[str, Pool], labels: Labels, *, content: str = "") -> str:
    """A hash of names, labels, ids, targets and keys of all splits, and of the source."""
    head = [labels.kind, list(labels.names), *([content] if content else [])]
    digest = hashlib.sha256(json.dumps(head).encode())
    for name in sorted(splits):
        split = splits[name]
        digest.update(json.dumps([name, len(split)]).encode())
        for item in zip(split.ids, split.targets, split.keys, strict=True):
            digest.update(json.dumps(item).encode())
    return digest.hexdigest()


def _items(pool: Pool, labels: Labels) -> Items:
    return Items(pool.ids, subset.single_classes(pool.targets, labels.kind), labels.names)


def _check(name: str, pool: Pool, labels: Labels, noun: Noun) -> None:
    if not len(pool):
        raise ValueError(f"the {name} split has no {noun}s")
    if len(set(pool.ids)) < len(pool):
        twice = Counter(pool.ids).most_common(1)[0][0]
        raise ValueError(f"the {name} split has {twice!r} twice; ids must be unique")
    if labels.kind not in KINDS:
        return  # of a task of somebody's own
    targets = KINDS[labels.kind](labels)
    for item, target in zip(pool.ids, pool.targets, strict=True):
        if wrong := targets.check(target):
            raise ValueError(f"{name}: {item} {wrong}")


def _untested(train: Pool, test: Pool, labels: Labels, noun: Noun) -> dict[str, Any]:
    """Notes on classes that are never tested; warns of them, and of names that are no classes'."""
    if labels.kind not in ("single", "multi", "tags"):
        return {}
    for name in labels.names:
        if UNLABELLED.fullmatch(name):
            LOG.warning("%r is trained as a class; %ss without a label belong to none", name, noun)
    trained, tested = held(train.targets, labels.kind), held(test.targets, labels.kind)
    lacking = sorted(set(trained) - set(tested))
    if not lacking:
        return {}
    shown = ", ".join(f"{labels.names[c]!r} ({trained[c]})" for c in lacking[:8])
    hint = f" ({noun}s without a label belong to no class)" if labels.kind == "single" else ""
    LOG.warning(
        "test has none of %d classes of train: %s%s; its figures say nothing of them%s",
        len(lacking),
        shown,
        ", ..." if len(lacking) > 8 else "",
        hint,
    )
    return {"classes_without_test": [labels.names[c] for c in lacking]}


def held(targets: Sequence[Any], kind: str) -> Counter[int]:
    """How many items have each class or label; of tags, how many words."""
    if kind == "single":
        return Counter(targets)
    if kind == "tags":
        return Counter(c for row in targets for c in row)
    return Counter(c for row in targets for c, value in enumerate(row) if value)


def _check_classes(splits: Mapping[str, Pool], labels: Labels, draw: Draw, noun: Noun) -> None:
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
                f"the {name} split has classes without {A[noun]} in train: {shown}"
                f"{', ...' if len(missing) > 8 else ''}; add some, or leave the classes out"
            )
