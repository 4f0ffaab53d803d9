"""Which items go where: seeded splits, few-shot draws, VTAB's protocol. Standard library only.

An item's place in a draw depends on the seed and its id alone, so that a draw does not change
with the order of files, and smaller draws of one seed lie within larger ones.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from tlx.base.ranges import Range
from tlx.data import grouping

VTAB_TRAIN, VTAB_VAL = 800, 200

Portion = Annotated[float, Range(above=0, below=1)]
Seed = Annotated[int, Range(least=0, below=4294967296)]


class Few(TypedDict, total=False):
    """Keywords of every source, also of data that comes divided; defaults are those of `Draw`."""

    labels_per_class: Annotated[int | None, Range(least=1)]
    fraction: Annotated[float | None, Range(above=0, most=1)]
    limit_val: bool
    folds: Annotated[int | None, Range(least=2)] | Literal["groups"]
    fold: Annotated[int, Range(least=0)] | str | None
    seed: Seed
    split_seed: Seed


class Dividing(Few, total=False):
    """Keywords of every source of items that are not divided yet, or whose copies are told."""

    protocol: Literal["vtab1k"] | None
    drop_duplicates: bool
    group_pattern: str | None


@dataclass(frozen=True)
class Draw:
    """How a source's items are divided and thinned out.

    Attributes:
        val_fraction: share of the training items for validation, where a source has none.
        test_fraction: share of all items for the test, where a source has none.
        labels_per_class: training items of each class, and of validation too by `limit_val`.
        fraction: share of the training items that is kept, and of validation by `limit_val`.
        limit_val: limit validation as training is limited.
        protocol: `vtab1k`: 800 items to train and 200 to validate on, the first of a fixed
            shuffle (by `split_seed`), not stratified.
        drop_duplicates: remove from train what is in another split, and all but one of equal items
            (all, where they have several labels); from val what is in test.
        folds: parts of all items, each of which is the test once, in as many runs; `groups`: each
            group is one. Every class, or whole groups where there are some, at its own share.
        fold: which of them is the test here: from 0, or the name of a group.
        group_pattern: regular expression, whose first group found in an item's id is what the item
            belongs to (a speaker, a patient), and no division parts.
        seed: of the few-shot draw.
        split_seed: of the standard split, the same for all runs of a study.

    Raises:
        ValueError: an argument is out of range, or two exclude each other.

    Source: Zhai et al. 2019, "A Large-scale Study of Representation Learning with the Visual
        Task Adaptation Benchmark", 1910.04867, section 3.1 (vtab1k). There validation comes from
        the dataset's own validation split where it has one; so it does here. The shuffle is ours.
    """

    val_fraction: float = 0.1
    test_fraction: float = 0.2
    labels_per_class: int | None = None
    fraction: float | None = None
    limit_val: bool = True
    protocol: Literal["vtab1k"] | None = None
    drop_duplicates: bool = False
    folds: int | Literal["groups"] | None = None
    fold: int | str | None = None
    group_pattern: str | None = None
    seed: int = 0
    split_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name}={value}; give a share above 0 and below 1")
        if self.labels_per_class is not None and self.labels_per_class < 1:
            raise ValueError(f"labels_per_class={self.labels_per_class}; give 1 or more, or null")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}; give a share above 0, at most 1, or null")
        if self.protocol not in (None, "vtab1k"):
            raise ValueError(f"protocol={self.protocol!r}; give vtab1k, or null")
        self._check_folds()
        limits = {
            name: value
            for name in ("labels_per_class", "fraction", "protocol")
            if (value := getattr(self, name)) is not None
        }
        if len(limits) > 1:
            text = " and ".join(f"{name}={value}" for name, value in limits.items())
            raise ValueError(f"{text} exclude each other; keep one and set the other to null")

    def _check_folds(self) -> None:
        if (self.folds is None) != (self.fold is None):
            raise ValueError(
                f"folds={self.folds} and fold={self.fold}: give both, or neither; study.folds "
                "gives both to each run of a study"
            )
        if isinstance(self.folds, int) and not (
            self.folds > 1 and isinstance(self.fold, int) and 0 <= self.fold < self.folds
        ):
            raise ValueError(
                f"folds={self.folds} and fold={self.fold}; give 2 folds or more, and fold from 0 "
                "to one less than their number"
            )


@dataclass(frozen=True)
class Candidates:
    """What a draw sees of a set of samples.

    Attributes:
        ids: unique.
        classes: class index of each item, or None where items have no single class.
        names: of the classes.
        groups: what each item belongs to; none where items stand alone.
    """

    ids: Sequence[str]
    classes: Sequence[int] | None
    names: Sequence[str] = ()
    groups: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)


def shuffled(ids: Sequence[str], *, seed: int, purpose: str) -> list[int]:
    """Positions in the order of a hash of seed, purpose and id."""

    def rank(position: int) -> bytes:
        text = f"{seed}\0{purpose}\0{ids[position]}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()

    return sorted(range(len(ids)), key=rank)


def share(items: Candidates, fraction: float, *, seed: int, purpose: str) -> list[int]:
    """Positions of a share of the items, every class at its own share, to within one item.

    A class of two or more gives at least one item and keeps at least one.
    """
    order = shuffled(items.ids, seed=seed, purpose=purpose)
    if items.classes is None:
        keep = min(max(math.floor(fraction * len(order) + 0.5), 1), max(len(order) - 1, 1))
        return sorted(order[:keep])
    members = _by_class(order, items.classes)
    counts = _apportion({c: len(found) for c, found in members.items()}, fraction)
    return sorted(i for c, found in members.items() for i in found[: counts[c]])


def _apportion(sizes: dict[int, int], fraction: float) -> dict[int, int]:
    """How many of each class: largest remainders, so that the total is right as well."""
    exact = {c: fraction * n for c, n in sizes.items()}
    counts = {c: math.floor(value + 1e-9) for c, value in exact.items()}
    left = math.floor(sum(exact.values()) + 0.5) - sum(counts.values())
    by_remainder = sorted(sizes, key=lambda c: (counts[c] - exact[c], c))
    for c in by_remainder[: max(left, 0)]:
        counts[c] += 1
    return {c: min(max(n, 1), sizes[c] - 1) if sizes[c] > 1 else 0 for c, n in counts.items()}


def _by_class(order: Sequence[int], classes: Sequence[int]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for position in order:
        members[classes[position]].append(position)
    return dict(sorted(members.items()))


def test_positions(items: Candidates, draw: Draw) -> list[int]:
    """Positions of the test items in a source without a test split.

    Raises:
        ValueError: there are too few items, or no such fold.
    """
    if draw.folds == "groups":
        return grouping.named(items.groups, str(draw.fold))
    if draw.folds is not None:
        return folds(items, draw.folds, seed=draw.split_seed)[int(draw.fold or 0)]
    if items.groups:
        return _share_of_groups(items, draw.test_fraction, seed=draw.split_seed, purpose="test")
    return share(items, draw.test_fraction, seed=draw.split_seed, purpose="test")


def val_positions(items: Candidates, draw: Draw) -> list[int]:
    """Positions of the validation items in training data without a validation split.

    All that `fraction` chooses from, so that no other fraction trains on what this one validates
    on; `limited_val` thins them out.

    Raises:
        ValueError: there are too few items.
    """
    if items.groups:
        if draw.protocol is not None:
            raise ValueError(
                f"protocol={draw.protocol} divides item by item, and these belong to groups; set "
                "it to null, or leave the groups out"
            )
        return _share_of_groups(items, draw.val_fraction, seed=draw.split_seed, purpose="val")
    if draw.protocol == "vtab1k":
        _enough(len(items), VTAB_TRAIN + VTAB_VAL)
        order = shuffled(items.ids, seed=draw.split_seed, purpose="vtab1k")
        return sorted(order[VTAB_TRAIN : VTAB_TRAIN + VTAB_VAL])
    k = draw.labels_per_class
    if k is not None and draw.limit_val:
        order = shuffled(items.ids, seed=draw.seed, purpose="few")
        whole_val_leaves_enough = items.classes is not None and all(
            n >= k for n in _left_by_val(items, draw.val_fraction)
        )
        instead = "limit_val=false" if whole_val_leaves_enough else "fraction"
        return _each(items, order[::-1], k, need=2 * k, instead=instead)
    return share(items, draw.val_fraction, seed=draw.split_seed, purpose="val")


def folds(items: Candidates, count: int, *, seed: int) -> list[list[int]]:
    """Positions of each fold: disjoint, and all items together.

    Whole groups where there are some, the largest first, each to the smallest fold so far, as
    scikit-learn's GroupKFold; else every class at its own share, to within one item.

    Raises:
        ValueError: there are fewer items, or groups, than folds.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    members = grouping.members(items.groups)
    there = len(members) if items.groups else len(items)
    if there < count:
        raise ValueError(
            f"folds={count}, and there are {there} {'groups' if items.groups else 'items'}; give "
            "at most as many"
        )
    if items.groups:
        names = list(members)
        order = [names[i] for i in shuffled(names, seed=seed, purpose="folds")]
        for name in sorted(order, key=lambda group: -len(members[group])):
            min(parts, key=len).extend(members[name])
        return [sorted(part) for part in parts]
    places = shuffled(items.ids, seed=seed, purpose="folds")
    if items.classes is not None:
        places = [i for each in _by_class(places, items.classes).values() for i in each]
    return [sorted(places[start::count]) for start in range(count)]


def _share_of_groups(items: Candidates, fraction: float, *, seed: int, purpose: str) -> list[int]:
    """Positions of whole groups, about a share of the items, that leave some of every class."""
    names = [*dict.fromkeys(items.groups)]
    order = [names[i] for i in shuffled(names, seed=seed, purpose=purpose)]
    return grouping.share(items.groups, items.classes, order, fraction, purpose=purpose)


def _left_by_val(items: Candidates, val_fraction: float) -> list[int]:
    """How many of each class are left to train on where validation is a share of them."""
    members = _by_class(range(len(items)), items.classes or ())
    sizes = {c: len(found) for c, found in members.items()}
    taken = _apportion(sizes, val_fraction)
    return [n - taken[c] for c, n in sizes.items()]


def limited_val(items: Candidates, draw: Draw) -> list[int]:
    """Positions of the items that stay of a validation split; `limited_train` is asked before.

    Raises:
        ValueError: a class has too few items.
    """
    if draw.protocol == "vtab1k":
        _enough(len(items), VTAB_VAL)
        order = shuffled(items.ids, seed=draw.split_seed, purpose="vtab1k")
        return sorted(order[:VTAB_VAL])
    if not draw.limit_val:
        return list(range(len(items)))
    return _limited(items, draw, instead="limit_val=false")


def limited_train(items: Candidates, draw: Draw) -> list[int]:
    """Positions of the items to train on, of those that are no validation items.

    Raises:
        ValueError: a class has too few items.
    """
    if draw.protocol == "vtab1k":
        _enough(len(items), VTAB_TRAIN)
        order = shuffled(items.ids, seed=draw.split_seed, purpose="vtab1k")
        return sorted(order[:VTAB_TRAIN])
    return _limited(items, draw, instead="fraction")


def _limited(items: Candidates, draw: Draw, *, instead: str) -> list[int]:
    if draw.labels_per_class is not None:
        order = shuffled(items.ids, seed=draw.seed, purpose="few")
        k = draw.labels_per_class
        return _each(items, order, k, need=k, instead=instead)
    if draw.fraction is None or draw.fraction == 1:
        return list(range(len(items)))
    if items.classes is None:
        return share(items, draw.fraction, seed=draw.seed, purpose="few")
    # a class of one item would vanish from `share`, and stays here
    single = {
        c for c, found in _by_class(range(len(items)), items.classes).items() if len(found) < 2
    }
    alone = [i for i, c in enumerate(items.classes) if c in single]
    return sorted({*share(items, draw.fraction, seed=draw.seed, purpose="few"), *alone})


def _each(items: Candidates, order: list[int], k: int, *, need: int, instead: str) -> list[int]:
    """The first k of every class in an order.

    Args:
        items: what is chosen from.
        order: positions.
        k: how many of each class.
        need: how many of each class there must be.
        instead: an option that makes do with these items.

    Raises:
        ValueError: items have no class, or a class has fewer than `need`.
    """
    if items.classes is None:
        raise ValueError(
            f"labels_per_class={k} wants one class an item, which these labels are not; "
            "use fraction"
        )
    members = _by_class(order, items.classes)
    counts = {c: len(members.get(c, ())) for c in sorted({*members, *range(len(items.names))})}
    few = {c: n for c, n in counts.items() if 0 < n < need}
    if few:
        named = ", ".join(f"{_name(items, c)} has {n}" for c, n in list(few.items())[:8])
        also = f" to train on and {k} to validate on" if need > k else ""
        most = min(few.values()) * k // need
        fix = f"Lower labels_per_class to at most {most}" if most else "Add examples of these"
        raise ValueError(
            f"labels_per_class={k} takes {k} examples of each class{also}; too few: {named}"
            f"{', ...' if len(few) > 8 else ''}. {fix}, or use {instead}"
        )
    return sorted(i for found in members.values() for i in found[:k])


def _name(items: Candidates, index: int) -> str:
    return repr(items.names[index]) if index < len(items.names) else str(index)


def _enough(have: int, need: int) -> None:
    if have < need:
        raise ValueError(
            f"protocol=vtab1k wants {need} items here, and there are {have}; set it to null and "
            "use labels_per_class or fraction"
        )


def single_classes(targets: Sequence[Any], kind: str) -> Sequence[int] | None:
    """Targets as classes to stratify by; None for other kinds of labels."""
    return targets if kind == "single" else None
