"""Items that belong together: found by their ids, and never parted. Standard library only."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence


def members(groups: Sequence[str]) -> dict[str, list[int]]:
    """Positions of each group's items, in the order in which groups come up."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[group].append(place)
    return dict(places)


def named(groups: Sequence[str], name: str) -> list[int]:
    """Positions of one group's items.

    Raises:
        ValueError: there is no such group, or no groups at all.
    """
    places = members(groups)
    if not places:
        raise ValueError(
            "folds=groups, and items belong to no groups; name dataset.group_column, or "
            "dataset.group_pattern"
        )
    if name not in places:
        shown = ", ".join([*places][:20]) + ", ..." * (len(places) > 20)
        raise ValueError(f"fold={name!r} is no group; there are {shown}")
    return places[name]


def share(
    groups: Sequence[str],
    classes: Sequence[int] | None,
    order: Sequence[str],
    fraction: float,
    *,
    purpose: str,
) -> list[int]:
    """Positions of whole groups, about a share of the items, that leave some of every class.

    A group is taken where that brings their number nearer to the share; where none does, the
    smallest that can go.

    Args:
        groups: of all items.
        classes: of all items; None where they have no single one.
        order: of the groups, in which they are asked.
        fraction: the share.
        purpose: what they are taken for, for a message.

    Raises:
        ValueError: no group can go.
    """
    places, wanted = members(groups), fraction * len(groups)
    left = Counter(classes or ())
    held = {group: Counter(classes[i] for i in places[group] if classes) for group in order}
    chosen: list[str] = []
    size = 0

    def can_go(group: str) -> bool:
        return len(chosen) + 1 < len(order) and all(left[c] > n for c, n in held[group].items())

    for group in order:
        if len(places[group]) < 2 * (wanted - size) and can_go(group):
            chosen.append(group)
            size += len(places[group])
            left -= held[group]
    if not chosen:
        able = [group for group in order if can_go(group)]
        if not able:
            raise ValueError(
                f"none of {len(order)} groups can be the {purpose} split: it would leave train "
                "without a class, or without items; add groups, or give splits of your own"
            )
        chosen = [min(able, key=lambda group: len(places[group]))]
    return sorted(place for group in chosen for place in places[group])


def by_pattern(ids: Sequence[str], pattern: str) -> list[str]:
    """The group of each id: the first group of a regular expression, or all that it matches.

    Raises:
        ValueError: the pattern is none, or matches not all.

    >>> by_pattern(["a/ann_1.wav", "b/bob_1.wav"], "([a-z]+)_")
    ['ann', 'bob']
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"dataset.group_pattern={pattern!r} is no pattern: {error}") from None
    matches = [wanted.search(name) for name in ids]
    if lacking := [name for name, match in zip(ids, matches, strict=True) if match is None]:
        raise ValueError(
            f"dataset.group_pattern={pattern!r} matches no part of {len(lacking)} of {len(ids)} "
            f"ids, as {lacking[0]!r}"
        )
    place = 1 if wanted.groups else 0
    return [match[place] or "" for match in matches if match is not None]


def check_apart(groups: Mapping[str, Sequence[str]]) -> None:
    """Raises a ValueError where a group is in train and elsewhere, or in val and test.

    Args:
        groups: split -> groups of its items.
    """
    for first, second in [
        *(("train", split) for split in groups if split != "train"),
        *([("val", "test")] if {"val", "test"} <= groups.keys() else []),
    ]:
        if both := sorted({*groups[first]} & {*groups[second]}):
            raise ValueError(
                f"{len(both)} groups are in {first} and in {second} ({', '.join(both[:8])}); put "
                "all of a group into one split, or name no groups"
            )
