"""What loggers are given to show, beside figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Pictures:
    """Images with a caption each.

    Attributes:
        images: of PIL, or uint8 arrays [H, W, 3].
        captions: one each.
    """

    images: Sequence[object]
    captions: Sequence[str]


@final
@dataclass(frozen=True)
class Matrix:
    """Counts by two things of the same names, as a confusion of classes.

    Attributes:
        names: of rows and of columns.
        counts: true classes as rows, predicted ones as columns.
    """

    names: Sequence[str]
    counts: Sequence[Sequence[int]]


@final
@dataclass(frozen=True)
class Lines:
    """A table of plain values.

    Attributes:
        columns: their names.
        rows: one value a column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


Shown = Pictures | Matrix | Lines
Making = Callable[[], Shown | None]
"""Makes it where a logger shows such things; None: there is nothing to show."""
