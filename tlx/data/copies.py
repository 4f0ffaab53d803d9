"""Copies among the items of a source: equal ones, equal ones with other labels, near ones."""

import json
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

from tlx.data.images.near import near_pairs
from tlx.data.splits import Labels

LOG = logging.getLogger(__name__)
MAX_PAIRS = 1000
"""Of copies in the record, for each two splits."""

Noun = Literal["image", "text"]
Pairs = dict[str, list[list[str]]]
"""Of ids. By split: pairs of train with it (`train`: within train); else by two: `val+test`."""

BESIDE_WORDS = re.compile(r"[\W_]")


class Keyed(Protocol):
    """Items with hashes of their content, which are empty where an item was not looked at."""

    @property
    def ids(self) -> Sequence[str]:
        """Unique within a split."""

    @property
    def targets(self) -> Sequence[Any]:
        """In the same order."""

    @property
    def keys(self) -> Sequence[str]:
        """In the same order."""


@dataclass(frozen=True)
class Item:
    """One item, by the split that it is in, or was in before it was removed."""

    split: str
    id: str
    key: str
    target: Any


def items_of(split: str, pool: Keyed) -> list[Item]:
    """The items of a split."""
    rows = zip(pool.ids, pool.keys, pool.targets, strict=True)
    return [Item(split, name, key, target) for name, key, target in rows]


def repeated(pool: Keyed) -> list[int]:
    """Positions of copies to remove: of equal items all but the first.

    Where they have several labels all of them: none is known to be right.
    """
    gone: list[int] = []
    for places in _by_key(pool.keys).values():
        several = len({_written(pool.targets[i]) for i in places}) > 1
        gone += places if several else places[1:]
    return sorted(gone)


def report(
    splits: Mapping[str, Keyed], labels: Labels, *, noun: Noun, removed: Sequence[Item]
) -> dict[str, Any]:
    """Notes on copies within and between splits, with a warning for each kind.

    Args:
        splits: as they are used, train first.
        labels: what the targets are.
        noun: what an item is, for messages.
        removed: items that were taken out as copies: of their labels alone is told.
    """
    everything = [item for name, pool in splits.items() for item in items_of(name, pool)]
    notes = {
        "duplicates": duplicates(splits, noun=noun),
        "contradictory_labels": contradictions([*everything, *removed], labels, noun=noun),
        "near_duplicates": near_duplicates(splits, everything, noun=noun),
    }
    return {name: note for name, note in notes.items() if note}


def duplicates(splits: Mapping[str, Keyed], *, noun: Noun) -> Pairs:
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
    items: Iterable[Item], labels: Labels, *, noun: Noun
) -> list[list[dict[str, Any]]]:
    """Groups of equal items with several labels, each with all of them; with a warning."""
    groups: dict[str, list[Item]] = defaultdict(list)
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


def near_duplicates(splits: Mapping[str, Keyed], items: Sequence[Item], *, noun: Noun) -> Pairs:
    """Pairs of items that are nearly the same, each once, with a warning."""
    pools = splits.values()
    thumbnails = [small for pool in pools for small in _aligned(pool, "thumbnails", b"")]
    texts = [text for pool in pools for text in _aligned(pool, "inputs", "")]
    near = near_pairs(thumbnails) if noun == "image" else _near_texts(texts, items)
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
            noun,
            "re-encoded, resized or mirrored"
            if noun == "image"
            else "but for case, blanks and punctuation",
            ", ".join(examples),
            ", ..." if count > 3 else "",
        )
    return dict(pairs)


def normalised(text: Any) -> str:
    """A text, a pair of texts or the words of one without case, blanks and punctuation.

    >>> normalised("It's  LATE."), normalised("a + b"), normalised(["A", "b"])
    ('itslate', 'a+b', 'ab')
    """
    if isinstance(text, tuple):
        return "\0".join(map(normalised, text))
    whole = text if isinstance(text, str) else " ".join(text)
    folded = "".join(unicodedata.normalize("NFKC", whole).casefold().split())
    return BESIDE_WORDS.sub(_symbol, folded)


def _symbol(match: re.Match[str]) -> str:
    """The sign where it tells texts apart (of mathematics, money, emotion; accents), else none."""
    return match[0] if unicodedata.category(match[0])[0] in "SM" else ""


def _near_texts(texts: Sequence[Any], items: Sequence[Item]) -> Iterator[tuple[int, int, bool]]:
    firsts: dict[str, dict[str, int]] = defaultdict(dict)
    for place, (text, item) in enumerate(zip(texts, items, strict=True)):
        if common := normalised(text).strip("\0"):
            firsts[common].setdefault(item.key, place)
    for places in firsts.values():
        first, *others = places.values()
        yield from ((first, other, False) for other in others)


def _aligned(pool: Keyed, name: str, empty: Any) -> Sequence[Any]:
    """An attribute of a split with one value an item; `empty` ones where it has none."""
    values: Sequence[Any] = getattr(pool, name, ())
    return values if len(values) else [empty] * len(pool.ids)


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


def _written(target: Any) -> str:
    return json.dumps(target)


def _label(target: Any, labels: Labels) -> Any:
    """A target as a person would write it."""
    if labels.kind == "single":
        return labels.names[target]
    if labels.kind == "tags":
        return " ".join(labels.names[tag] for tag in target)
    if labels.kind == "multi":
        return [name for name, there in zip(labels.names, target, strict=True) if there]
    return target
