"""A table, and its values as text."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tlx.report import numbers
from tlx.results.stats import Interval


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        key: its name in CSV and Parquet.
        label: its heading.
        kind: `text`, `passage` (text with its line breaks), `code`, `line` (of a shell), `command`
            (one to copy), `count`, `number`, `interval`, `delta` (an interval with a sign), `p`,
            `seconds`, `bytes`, `share` (a pair, `4 of 5`), `value` (of a parameter) or `tuned`
            (overrides, only the last part of whose keys is shown).
        digits: after the point.
        with_n: whether intervals show what they rest on.
        better: `max` or `min`, where the best value is to stand out.
        under: key of the column under whose value the page sets this one, in small print.
    """

    key: str
    label: str
    kind: str = "text"
    digits: int = 3
    with_n: bool = False
    better: str = ""
    under: str = ""

    @property
    def numeric(self) -> bool:
        """Whether it is set flush right and sorted as numbers."""
        return self.kind not in ("text", "passage", "code", "line", "command", "tuned")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of plain values.

    Attributes:
        name: of its files.
        title: of its caption.
        columns: in order.
        rows: a value a column; None where there is none; in `interval` and `delta` an `Interval`,
            in `share` a pair.
        note: what a reader must know, n above all.
        marked: whether the first column names arms, which get their mark.
        prose: whether it is of use in a paper.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]
    note: str = ""
    marked: bool = True
    prose: bool = True


_SIMPLE: dict[str, Callable[[object], str]] = {
    "count": numbers.count,
    "p": numbers.p_value,
    "seconds": numbers.seconds,
    "bytes": numbers.size,
    "tuned": lambda value: re.sub(r"(^| )[\w./+@-]+\.(\w+=)", r"\1\2", str(value)),
    "value": lambda value: f"{value:.4g}" if isinstance(value, float) else str(value),
}


def parts(column: Column, value: object) -> tuple[str, str]:
    """A value as text, and the small print behind it (its interval)."""
    if value is None:
        return numbers.NONE, ""
    if isinstance(value, Interval):
        signed = column.kind == "delta"
        detail = numbers.bracket(value.low, value.high, column.digits, signed=signed)
        if column.with_n:
            detail = f"{detail} n={value.n}".strip()
        head = None if math.isnan(value.value) and value.n == 0 else value.value
        return numbers.plain(head, column.digits, signed=signed), detail
    if isinstance(value, tuple):
        return (str(value[0]) if value[0] == value[1] else f"{value[0]} of {value[1]}"), ""
    if column.kind == "number" and isinstance(value, int | float):
        return numbers.plain(value, column.digits), ""
    return _SIMPLE.get(column.kind, str)(value), ""


def text(column: Column, value: object) -> str:
    """A value as one text."""
    return " ".join(part for part in parts(column, value) if part)


def sort_key(value: object) -> float | str | None:
    """What a value is sorted by; None sorts last."""
    if isinstance(value, Interval):
        value = value.value
    elif isinstance(value, tuple):
        value = value[0]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, (int, float)) else str(value)
