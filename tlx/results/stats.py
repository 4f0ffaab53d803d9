"""Statistics over seeds, and over the items that two runs share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tlx.results.bootstrap import interquartile_mean, paired_bootstrap
from tlx.results.intervals import (
    LEVEL,
    PAIRED_T,
    SIGN,
    WILCOXON,
    Comparison,
    Interval,
    Numbers,
    differences_of,
    numbers_of,
    paired_t,
    sd_of,
    t_interval,
)

__all__ = [
    "LEVEL",
    "PAIRED_T",
    "RANKS_FROM",
    "SIGN",
    "WILCOXON",
    "Comparison",
    "Interval",
    "Summary",
    "compare",
    "holm",
    "interquartile_mean",
    "paired_bootstrap",
    "paired_p",
    "paired_t",
    "shares",
    "summary",
    "t_interval",
]

RANKS_FROM = 20
"""From so many pairs on `compare` tests with ranks instead of Student's t."""
_DIGITS = 12
"""Differences that agree to so many, relative to the largest value, are equal but for rounding."""
EQUAL = 2 * 10.0**-_DIGITS
"""`rounded_gaps` that lie no further apart are equal."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A figure over seeds.

    Attributes:
        mean: of the `n` values that are there; NaN where none is.
        sd: standard deviation with n - 1; NaN below two values.
        n: how many values are there.
        low: lower end of Student's interval; NaN below two values.
        high: upper end.
        missing: values that are not there (a missing, failed or diverged run). Where it is not 0
            the mean is over fewer seeds than planned, and has to be shown with both numbers.
    """

    mean: float
    sd: float
    n: int
    low: float
    high: float
    missing: int


def summary(values: Numbers, *, level: float = LEVEL) -> Summary:
    """Mean, deviation and Student's interval of the finite values, and how many are not finite.

    Args:
        values: one a seed, NaN or infinite for a run that has none.
        level: coverage, in (0, 1).
    """
    numbers = numbers_of("values", values)
    there = numbers[np.isfinite(numbers)]
    interval = t_interval(there, level=level)
    return Summary(
        mean=interval.value,
        sd=sd_of(there),
        n=interval.n,
        low=interval.low,
        high=interval.high,
        missing=len(numbers) - len(there),
    )


def compare(
    first: Numbers, second: Numbers, *, against: float = 0.0, level: float = LEVEL
) -> Comparison:
    """The mean of first - second over the pairs that are whole, with interval and test.

    The test is Student's paired t below 20 pairs (where the signed ranks of 5 pairs cannot
    reach 0.05) and Wilcoxon's signed-rank test from 20 on, as SciPy computes it with
    zero differences left out. Where all differences are equal, a t test would give p = 0 from two
    pairs; there the two-sided sign test is used, 2 · 0.5ⁿ. The interval is always Student's.

    Args:
        first: one value a seed; NaN or infinite for a run that has none.
        second: of the same seeds, in the same order.
        against: the difference that is tested; `difference`, `low` and `high` stay unshifted.
        level: coverage of the interval, in (0, 1).

    Raises:
        ValueError: they differ in length.

    Source: F. Wilcoxon, Individual comparisons by ranking methods, 1945.
    """
    whole = np.isfinite(differences_of(first, second))
    a, b = numbers_of("first", first)[whole], numbers_of("second", second)[whole]
    found = replace(paired_t(a, b, level=level), dropped=int((~whole).sum()), sd=sd_of(a - b))
    if found.n < 2:
        return found
    gaps = rounded_gaps(a, b, against)
    shifted = paired_t(gaps, np.zeros(found.n))
    found = replace(found, t=shifted.t, p=shifted.p, direction=int(np.sign(gaps.mean())))
    if np.ptp(gaps) <= EQUAL:
        p = paired_p(shifted.difference, 0.0, found.n)
        return replace(found, p=p, test=SIGN, sd=0.0)
    if found.n < RANKS_FROM:
        return found
    p, direction = _signed_ranks(gaps)
    return replace(found, p=p, test=WILCOXON, direction=direction)


def scale_of(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], against: float
) -> float:
    """The largest of the figures that are compared; 1 where there is none."""
    largest = max(np.abs(first).max(initial=0), np.abs(second).max(initial=0), abs(against))
    return float(largest) or 1.0


def rounded_gaps(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], against: float
) -> npt.NDArray[np.float64]:
    """First - second - against in units of `scale_of`, rounded: ties are ties and zeros zeros."""
    scale = scale_of(first, second, against)
    return np.round((first - second - against) / scale, _DIGITS).astype(np.float64)


def paired_p(gap: float, sd: float, n: int) -> float:
    """The two-sided p that `compare` gives n < 20 pairs whose mean and deviation are these.

    Args:
        gap: mean of the differences, less what it is tested against.
        sd: their standard deviation; 0 stands for the sign test.
        n: pairs, at least 2.
    """
    from scipy.stats import t as student  # slow to import

    if gap == 0:
        return 1.0
    if sd == 0:
        return min(1.0, 2 * 0.5**n)
    return float(2 * student.sf(abs(gap) / sd * math.sqrt(n), n - 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order; NaN stays NaN and does not count.

    Args:
        p: of one family of tests.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm([0.01, float("nan"), 0.04, 0.03])
    [0.03, nan, 0.06, 0.06]
    """
    order = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    adjusted, highest = [math.nan] * len(p), 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        adjusted[place] = highest
    return adjusted


def shares(p: Sequence[float]) -> list[float]:
    """The part of α at which `holm` tests each p: it rejects where p ≤ α · part; NaN for NaN.

    An interval at level 1 - α · part holds what is tested against exactly where Holm's method does
    not reject it.

    Args:
        p: of one family of tests.

    >>> [round(part, 3) for part in shares([0.01, float("nan"), 0.04, 0.03])]
    [0.333, nan, 0.667, 0.5]
    """
    order = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    parts, highest = [math.nan] * len(p), 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, (len(order) - rank) * value)
        parts[place] = value / highest if highest > 0 else 1 / (len(order) - rank)
    return parts


def _signed_ranks(gaps: npt.NDArray[np.float64]) -> tuple[float, int]:
    from scipy.stats import rankdata, wilcoxon  # slow to import

    ranks = rankdata(np.abs(gaps[gaps != 0]))
    direction = int(np.sign((ranks * np.sign(gaps[gaps != 0])).sum()))
    return float(wilcoxon(gaps).pvalue), direction
