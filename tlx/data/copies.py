"""Copies among the items of a source: equal ones, equal ones with other labels, near ones."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tlx.data.items import Medium, Pool
from tlx.data.splits import Labels

LOG = logging.getLogger(__name__)
MAX_PAIRS = 1000
"""Of copies in the record, for each two splits."""

Pairs = dict[str, list[list[str]]]
"""Of ids. By split: pairs of train with it (`train`: within train); else by two: `val+test`."""


@dataclass(frozen=True)
class SplitItem:
    """One item, by the split that it is in, or was in before it was removed."""

    split: str
    id: str
    key: str
    target: object


def items_of(split: str, pool: Pool) -> list[SplitItem]:
    """The items of a split."""
    rows = zip(pool.ids, pool.keys, pool.targets, strict=True)
    return [SplitItem(split, name, key, target) for name, key, target in rows]


def repeated(pool: Pool) -> list[int]:
    """Positions of copies to remove: of equal items all but the first.

    Where they have several labels all of them: none is known to be right.
    """
    gone: list[int] = []
    for places in _by_key(pool.keys).values():
        several = len({_written(pool.targets[i]) for i in places}) > 1
        gone += places if several else places[1:]
    return sorted(gone)


def report(
    splits: Mapping[str, Pool], labels: Labels, *, medium: Medium, removed: Sequence[SplitItem]
) -> dict[str, object]:
    """Notes on copies within and between splits, with a warning for each kind.

    Args:
        splits: as they are used, train first.
        labels: what the targets are.
        medium: what an item is, and how near copies are found.
        removed: items that were taken out as copies: of their labels alone is told.
    """
    everything = [item for name, pool in splits.items() for item in items_of(name, pool)]
    notes = {
        "duplicates": duplicates(splits, noun=medium.noun),
        "contradictory_labels": contradictions([*everything, *removed], labels, noun=medium.noun),
        "near_duplicates": near_duplicates(splits, everything, medium=medium),
    }
    return {name: note for name, note in notes.items() if note}


def duplicates(splits: Mapping[str, Pool], *, noun: str) -> Pairs:
    """Pairs of equal items, within a split the first with each other one; with warnings."""
    places = {name: _by_key(pool.keys) for name, pool in splits.items()}
    names, pairs = list(splits), Pairs()
    for index, first in enumerate(names):
        for second in names[index:]:
            mine, theirs = splits[first].ids, splits[second].ids
            if first == second:
                groups = [each for each in places[first].values() if len(each) > 1]
                every = ([mine[each[0]], mine[i]] for each in groups for i in each[1:])
                count = sum(len(each) - 1 for each in groups)
                where = "more than once"
            else:
                shared = [key for key in places[second] if key in places[first]]
                every = (
                    [mine[i], theirs[j]]
                    for j, key in sorted((j, key) for key in shared for j in places[second][key])
                    for i in places[first][key]
                )
                count = sum(len(places[first][key]) for key in shared)
                where = f"in {second} too"
            if not count:
                continue
            some = pairs[_between(first, second)] = list(islice(every, MAX_PAIRS))
            LOG.warning(
                "%d %ss of %s are %s (%s%s)%s",
                count,
                noun,
                first,
                where,
                ", ".join(f"{one} = {other}" for one, other in some[:3]),
                ", ..." if len(some) > 3 else "",
                _fix(first, second),
            )
    return pairs


def contradictions(
    items: Iterable[SplitItem], labels: Labels, *, noun: str
) -> list[list[dict[str, object]]]:
    """Groups of equal items with several labels, each with all of them; with a warning."""
    groups: dict[str, list[SplitItem]] = defaultdict(list)
    for item in items:
        if item.key:
            groups[item.key].append(item)
    several = [
        group
        for group in groups.values()
        if len(group) > 1 and len({_written(item.target) for item in group}) > 1
    ]
    if not several:
        return []
    shown = [
        " = ".join(f"{item.id} {_label(item.target, labels)!r}" for item in group[:3])
        for group in several[:3]
    ]
    LOG.warning(
        "%d %s with several labels (%s%s): they cannot all be right; dataset.drop_duplicates=true "
        "removes those of train",
        len(several),
        f"{noun} is there" if len(several) == 1 else f"{noun}s are there",
        "; ".join(shown),
        "; ..." if len(several) > 3 else "",
    )
    return [
        [{"split": i.split, "id": i.id, "label": _label(i.target, labels)} for i in group]
        for group in several[:MAX_PAIRS]
    ]


def near_duplicates(
    splits: Mapping[str, Pool], items: Sequence[SplitItem], *, medium: Medium
) -> Pairs:
    """Pairs of items that are nearly the same, each once, with a warning."""
    marks = [mark for pool in splits.values() for mark in pool.marks or [None] * len(pool)]
    near = medium.near(marks)
    pairs: Pairs = defaultdict(list)
    count = 0
    examples: list[str] = []
    for first, second, mirrored in near:
        one, other = items[first], items[second]
        if one.key == other.key:
            continue
        count += 1
        if len(examples) < 3:
            examples.append(f"{one.id} ~ {other.id}{' mirrored' if mirrored else ''}")
        some = pairs[_between(one.split, other.split)]
        if len(some) < MAX_PAIRS:
            some.append([one.id, other.id])
    if count:
        LOG.warning(
            "%d pairs of %ss are nearly the same: %s (%s%s); look whether they are copies, which "
            "no option removes",
            count,
            medium.noun,
            medium.nearly,
            ", ".join(examples),
            ", ..." if count > 3 else "",
        )
    return dict(pairs)


def _by_key(keys: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key:
            places[key].append(place)
    return dict(places)


def _between(first: str, second: str) -> str:
    return second if first == "train" else f"{first}+{second}"


def _fix(first: str, second: str) -> str:
    """What a warning advises."""
    if first == second == "train":
        return "; dataset.drop_duplicates=true keeps one of each, and none of several labels"
    if first == "train" or (first, second) == ("val", "test"):
        return f"; dataset.drop_duplicates=true removes them from {first}"
    return ""


def _written(target: object) -> str:
    return json.dumps(target)


def _label(target: Any, labels: Labels) -> object:
    """A target as a person would write it."""
    if labels.kind == "single":
        return labels.names[target]
    if labels.kind == "tags":
        return " ".join(labels.names[tag] for tag in target)
    if labels.kind == "multi":
        return [name for name, there in zip(labels.names, target, strict=True) if there]
    return target
