"""Labels as people write them: classes, lists of labels, numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tlx.data.spelling import MISSING, is_missing
from tlx.data.splits import Labels

WANTED = {"single": "no class", "multi": "no list of labels", "real": "no finite number"}
"""What a label that does not fit its kind is."""


def check_kind(kind: str, separator: str) -> None:
    """Raises a ValueError where labels cannot be read by these options."""
    if kind not in WANTED:
        raise ValueError(f"dataset.kind={kind!r}; give single, multi or real")
    if not separator:
        raise ValueError("dataset.separator is empty; give what stands between labels, as '|'")


def parsed(value: object, kind: str, separator: str, *, missing: Iterable[str] = MISSING) -> Any:
    """A class, a tuple of labels or of numbers; None where it is none, or missing.

    Args:
        value: a field of a table: text, or what a typed format gives.
        kind: `single`, `multi` or `real`.
        separator: between several labels or numbers in a text.
        missing: texts that stand for no label.

    >>> parsed("a | b", "multi", "|"), parsed([1, 2.5], "real", "|"), parsed(3, "single", "|")
    (('a', 'b'), (1.0, 2.5), '3')
    >>> parsed(float("nan"), "single", "|"), parsed("", "multi", "|"), parsed(None, "multi", "|")
    (None, (), None)
    """
    if value is None or isinstance(value, dict | bytes):
        return None
    if kind == "single":
        no_class = isinstance(value, list) or is_missing(value, missing)
        return None if no_class else str(value).strip()
    if isinstance(value, list):
        parts = value
    else:
        text = value.strip() if isinstance(value, str) else value
        parts = [] if text == "" else text.split(separator) if isinstance(text, str) else [text]
    if any(is_missing(part, missing) for part in parts):
        return None
    words = [str(part).strip() for part in parts]
    if kind == "multi":
        return tuple(words)
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        return None
    # Python reads 1_5 as 15, and nobody else does
    right = all(math.isfinite(number) for number in numbers) and "_" not in "".join(words)
    return numbers if numbers and right else None


def encoded(
    labels: Sequence[Any], kind: str, columns: Sequence[str | int]
) -> tuple[Labels, list[object]]:
    """What there is to predict, and each item's target.

    Args:
        labels: of all items, parsed.
        kind: `single`, `multi` or `real`.
        columns: where they come from; the names of numbers.

    Raises:
        ValueError: no item has any label.
    """
    if kind == "real":
        width = len(labels[0])
        names = tuple(map(str, columns))
        if width != len(columns):
            names = tuple(f"{columns[0]}_{i}" for i in range(width))
        return Labels(kind, names), list(labels)
    if kind == "single":
        names = tuple(sorted(set(labels)))
        places = {name: i for i, name in enumerate(names)}
        return Labels(kind, names), [places[label] for label in labels]
    names = tuple(sorted({name for held in labels for name in held}))
    if not names:
        shown = columns[0] if len(columns) == 1 else [*columns]
        raise ValueError(f"dataset.label_column={shown!r} has no label in any line")
    return Labels(kind, names), [tuple(float(n in held) for n in names) for held in labels]
