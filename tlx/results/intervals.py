"""Means over seeds with Student's interval and test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
PAIRED_T, WILCOXON, SIGN = "paired t", "Wilcoxon", "sign"
Numbers = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its interval; `low` and `high` are NaN where n is too small for one.

    Attributes:
        value: the mean.
        low: lower end.
        high: upper end.
        n: how many values.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A mean paired difference with its interval and its two-sided p-value.

    Attributes:
        difference: mean of first minus second.
        low: lower end.
        high: upper end.
        n: how many pairs.
        t: Student's statistic; infinite where all differences are equal and not zero.
        p: two-sided; NaN below two pairs.
        test: which test gave p: `paired t`, `Wilcoxon` or `sign`.
        sd: standard deviation of the differences; NaN below two pairs.
        dropped: pairs left out, in which either value is missing.
        direction: 1 where that test sees first above second, -1 below, 0 neither.
    """

    difference: float
    low: float
    high: float
    n: int
    t: float
    p: float
    test: str = PAIRED_T
    sd: float = math.nan
    dropped: int = 0
    direction: int = 0


def t_interval(values: Numbers, *, level: float = LEVEL) -> Interval:
    """The mean over seeds with Student's interval.

    Args:
        values: one a seed; a NaN (a run that diverged) makes the result NaN, it is not dropped.
        level: coverage, in (0, 1).
    """
    numbers = numbers_of("values", values)
    check_level(level)
    n = len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    if n < 2:
        return Interval(value=mean, low=math.nan, high=math.nan, n=n)
    half = _half_width(numbers, level)
    return Interval(value=mean, low=mean - half, high=mean + half, n=n)


def paired_t(first: Numbers, second: Numbers, *, level: float = LEVEL) -> Comparison:
    """The mean of first - second over seeds, with Student's paired interval and test.

    Args:
        first: one value a seed.
        second: of the same seeds, in the same order.
        level: coverage, in (0, 1).

    Raises:
        ValueError: they differ in length.
    """
    differences = differences_of(first, second)
    interval = t_interval(differences, level=level)
    mean, n = interval.value, interval.n
    t, p = math.nan, math.nan
    if n >= 2 and not math.isnan(mean):
        error = float(differences.std(ddof=1)) / math.sqrt(n)
        if error > 0:
            from scipy.stats import t as student  # slow to import

            t = mean / error
            p = float(2 * student.sf(abs(t), n - 1))
        elif mean != 0:
            t, p = math.copysign(math.inf, mean), 0.0
        else:
            t, p = 0.0, 1.0
    return Comparison(difference=mean, low=interval.low, high=interval.high, n=n, t=t, p=p)


def sd_of(numbers: npt.NDArray[np.float64]) -> float:
    """Standard deviation with n - 1; NaN below two values."""
    return float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan


def differences_of(first: Numbers, second: Numbers) -> npt.NDArray[np.float64]:
    """First minus second, pair by pair; ValueError where they differ in length."""
    a, b = numbers_of("first", first), numbers_of("second", second)
    if len(a) != len(b):
        raise ValueError(
            f"first has {len(a)} values and second {len(b)}; "
            "pairs need one of each, in the same order"
        )
    return a - b


def numbers_of(name: str, values: Numbers) -> npt.NDArray[np.float64]:
    """A flat array; ValueError, naming it, for another shape."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"{name} has shape {numbers.shape}; a flat list of numbers is expected")
    return numbers


def check_level(level: float) -> None:
    """ValueError unless it lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level={level}; it lies between 0 and 1, 0.95 say")


def _half_width(numbers: npt.NDArray[np.float64], level: float) -> float:
    n = len(numbers)
    return float(_quantile((1 + level) / 2, n - 1) * numbers.std(ddof=1) / math.sqrt(n))


@lru_cache(maxsize=1024)
def _quantile(share: float, freedom: int) -> float:
    from scipy.stats import t as student  # slow to import

    return float(student.ppf(share, freedom))
