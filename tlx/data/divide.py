"""From the items of a source to its splits: division, duplicates, fingerprint, notes."""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from tlx.data import copies, grouping
from tlx.data import draw as subset
from tlx.data.draw import Candidates, Draw
from tlx.data.items import Medium, Pool
from tlx.data.split_names import SPLITS
from tlx.data.splits import Inputs, Labels, Splits
from tlx.data.targets import KINDS

LOG = logging.getLogger(__name__)
_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)
UNLABELLED = re.compile(
    r"(un|non?|not|without)[\W_]*(sup|supervised|labell?ed|labels?|annotated)", re.IGNORECASE
)
"""Names of folders of items without a label, as sets are packed."""


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
    pools: Mapping[str, Pool],
    labels: Labels,
    *,
    draw: Draw,
    medium: Medium,
    inputs: Inputs[Any],
    notes: Mapping[str, object] | None = None,
    content: str = "",
    own_division: bool = False,
    source: str | None = None,
) -> Splits:
    """The splits of a source: divides what it has not divided yet, and thins it out.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        medium: what an item is.
        inputs: makes a network's inputs of the items.
        notes: of the source, for the record.
        content: hash of the source, where not every item has a key.
        own_division: whether the division by `split_seed` is the data set's own, for all runs.
        source: which extra set is of what the network comes from, see `Splits`.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few items.
    """
    entire = is_whole() and not own_division
    if draw.group_pattern is not None:
        pools = {name: _grouped(pool, draw.group_pattern) for name, pool in pools.items()}
    untrained = entire and not len(pools["train"]) and any(map(len, pools.values()))
    for name, pool in pools.items():
        if not (untrained and name == "train"):
            _check(name, pool, labels, medium.noun)
    removed: list[copies.SplitItem] = []
    if entire:
        parts = _undivided(pools)
    else:
        parts, removed = _divided(pools, labels, draw, medium.noun)
    noted = {
        **(notes or {}),
        **({} if entire else _checked(parts, labels, draw, medium)),
        **_groups_of(parts),
        "sizes": {name: len(split) for name, split in parts.items()},
        **({} if entire else copies.report(parts, labels, medium=medium, removed=removed)),
    }
    if draw.drop_duplicates and not entire:
        noted["duplicates_removed"] = [item.id for item in removed]
    return Splits(
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        extra={name: split for name, split in parts.items() if name not in SPLITS},
        source=source,
        labels=labels,
        inputs=inputs,
        fingerprint=fingerprint(parts, labels, content=content),
        notes=noted,
    )


def _grouped(pool: Pool, pattern: str) -> Pool:
    """The items with the groups that their ids tell."""
    if pool.groups:
        raise ValueError("dataset.group_column and dataset.group_pattern: give one of them")
    return replace(pool, groups=grouping.by_pattern(pool.ids, pattern))


def _divided(
    pools: Mapping[str, Pool], labels: Labels, draw: Draw, noun: str
) -> tuple[dict[str, Pool], list[copies.SplitItem]]:
    """Train, val, test and extra sets, in this order, and the copies that were taken out.

    Raises:
        ValueError: there are too few items.
    """
    extra = dict(pools)
    train, val, test = extra.pop("train"), extra.pop("val", None), extra.pop("test", None)
    if test is not None and draw.folds is not None:
        raise ValueError(
            f"dataset.folds={draw.folds} makes tests of all items, and this data has a test "
            "already; leave it out, or give the data undivided"
        )
    if test is None:
        chosen = subset.test_positions(_items(train, labels), draw)
        train, test = train.without(chosen), train.take(chosen)
    removed: list[copies.SplitItem] = []

    def without(split: str, pool: Pool, places: Sequence[int]) -> Pool:
        removed.extend(copies.items_of(split, pool.take(places)))
        return pool.without(places) if places else pool

    def cleaned(split: str, pool: Pool, *others: Pool | None) -> Pool:
        if not draw.drop_duplicates:
            return pool
        seen = {key for other in others if other is not None for key in other.keys} - {""}
        return without(split, pool, [i for i, key in enumerate(pool.keys) if key in seen])

    # test is what figures are told of: nothing is ever taken out of it
    if val is not None:
        val = cleaned("val", val, test)
        if not len(val):
            raise ValueError(f"every {noun} of val is in test too; give val others of its own")
    train = cleaned("train", train, val, test, *extra.values())
    if draw.drop_duplicates:
        train = without("train", train, copies.repeated(train))
    if val is None:
        chosen = subset.val_positions(_items(train, labels), draw)
        train, val = train.without(chosen), train.take(chosen)
    # train first: where it has too few, no other treatment of val can help
    train = train.take(subset.limited_train(_items(train, labels), draw))
    val = val.take(subset.limited_val(_items(val, labels), draw))
    parts = {"train": train, "val": val, "test": test, **extra}
    grouping.check_apart({name: pool.groups for name, pool in parts.items()})
    return parts, removed


def _undivided(pools: Mapping[str, Pool]) -> dict[str, Pool]:
    """The splits as they are; where there is only train, that is the test."""
    none = pools["train"].take([])
    parts = {"train": pools["train"], "val": none, "test": none, **pools}
    if "val" not in pools and "test" not in pools:
        parts |= {"train": none, "test": pools["train"]}
    return parts


def _groups_of(parts: Mapping[str, Pool]) -> dict[str, object]:
    """Notes on what the items of each split belong to: how many, and of the test which."""
    counts = {name: len({*pool.groups}) for name, pool in parts.items() if pool.groups}
    return {"groups": {**counts, "of_test": sorted({*parts["test"].groups})}} if counts else {}


def _checked(
    parts: Mapping[str, Pool], labels: Labels, draw: Draw, medium: Medium
) -> dict[str, object]:
    """Notes on classes that are never tested.

    Raises:
        ValueError: nothing trains, or not all classes that are evaluated.
    """
    _check_classes(parts, labels, draw, medium.one)
    if not len(parts["train"]):
        raise ValueError(f"too few {medium.noun}s: train has none once val and test are split off")
    return _untested(parts["train"], parts["test"], labels, medium.noun)


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


def _items(pool: Pool, labels: Labels) -> Candidates:
    classes = subset.single_classes(pool.targets, labels.kind)
    return Candidates(pool.ids, classes, labels.names, pool.groups)


def _check(name: str, pool: Pool, labels: Labels, noun: str) -> None:
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


def _untested(train: Pool, test: Pool, labels: Labels, noun: str) -> dict[str, object]:
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


def _check_classes(splits: Mapping[str, Pool], labels: Labels, draw: Draw, one: str) -> None:
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
                f"the {name} split has classes without {one} in train: {shown}"
                f"{', ...' if len(missing) > 8 else ''}; add some, or leave the classes out"
            )
