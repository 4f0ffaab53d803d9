"""The range of a number, said where a function takes it: `p: Annotated[float, Range(least=0)]`.

The config's check reads it in the source, without importing the function, and so for a person's own
functions as for tlx's.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of a number, of each number in a list, or of one that may be null.

    Write bounds as plain numbers: they are read, not computed. A bound that is left out leaves that
    side open; infinity is in no range but that of `Range(endless=True)`.

    Args:
        above: it is above this.
        least: it is at least this.
        below: it is below this.
        most: it is at most this.
        endless: infinity is a value too.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    endless: bool = False

    def holds(self, number: float) -> bool:
        """Whether a number is in the range.

        >>> [Range(above=0, most=1).holds(p) for p in (0, 0.5, 1, 1.5)]
        [False, True, True, False]
        """
        return (
            (self.endless or math.isfinite(number))
            and (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )

    def __str__(self) -> str:
        """In a reader's words.

        >>> str(Range(above=0, most=1)), str(Range(least=1)), str(Range())
        ('above 0 and at most 1', 'at least 1', 'that is finite')
        """
        words = {"above": "above", "least": "at least", "below": "below", "most": "at most"}
        bounds = [
            f"{word} {getattr(self, name):.10g}"
            for name, word in words.items()
            if getattr(self, name) is not None
        ]
        return " and ".join(bounds) or "that is finite"
