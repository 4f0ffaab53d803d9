"""Labels as people write them: classes, lists of labels, numbers."""

import math
from collections.abc import Sequence
from typing import Any

from tlx.data.splits import Labels

WANTED = {"single": "no class", "multi": "no list of labels", "real": "no finite number"}
"""What a label that does not fit its kind is."""


def check_kind(kind: str, separator: str) -> None:
    """Raises a ValueError where labels cannot be read by these options."""
    if kind not in WANTED:
        raise ValueError(f"dataset.kind={kind!r}; give single, multi or real")
    if not separator:
        raise ValueError("dataset.separator is empty; give what stands between labels, as '|'")


def parsed(value: Any, kind: str, separator: str) -> Any:
    """A class, a tuple of labels or of numbers; None where it is none.

    Args:
        value: a field of a table: text, or what a typed format gives.
        kind: `single`, `multi` or `real`.
        separator: between several labels or numbers in a text.

    >>> parsed("a | b", "multi", "|"), parsed([1, 2.5], "real", "|"), parsed(3, "single", "|")
    (('a', 'b'), (1.0, 2.5), '3')
    """
    if kind == "single":
        return (
            None if value is None or isinstance(value, list | dict) else str(value).strip() or None
        )
    if isinstance(value, list):
        parts = ["" if part is None else str(part).strip() for part in value]
    else:
        text = "" if value is None else str(value).strip()
        parts = [part.strip() for part in text.split(separator)] if text else []
    if kind == "multi":
        return None if "" in parts else tuple(parts)
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        return None
    return numbers if numbers and all(math.isfinite(number) for number in numbers) else None


def encoded(labels: Sequence[Any], kind: str, column: str) -> tuple[Labels, list[Any]]:
    """What there is to predict, and each item's target.

    Args:
        labels: of all items, parsed.
        kind: `single`, `multi` or `real`.
        column: where they come from; the name of numbers.

    Raises:
        ValueError: no item has any label.
    """
    if kind == "real":
        width = len(labels[0])
        names = (column,) if width == 1 else tuple(f"{column}_{i}" for i in range(width))
        return Labels(kind, names), list(labels)
    if kind == "single":
        names = tuple(sorted(set(labels)))
        places = {name: i for i, name in enumerate(names)}
        return Labels(kind, names), [places[label] for label in labels]
    names = tuple(sorted({name for held in labels for name in held}))
    if not names:
        raise ValueError(f"dataset.label_column={column!r} has no label in any line")
    return Labels(kind, names), [tuple(float(n in held) for n in names) for held in labels]
