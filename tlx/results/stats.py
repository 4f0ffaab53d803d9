"""Statistics over seeds, and over the items that two runs share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
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
        p: two-sided.
    """

    difference: float
    low: float
    high: float
    n: int
    t: float
    p: float


def t_interval(values: Numbers, *, level: float = LEVEL) -> Interval:
    """The mean over seeds with Student's interval.

    Args:
        values: one a seed; a NaN (a run that diverged) makes the result NaN, it is not dropped.
        level: coverage, in (0, 1).
    """
    numbers = _numbers("values", values)
    _check_level(level)
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
    differences = _differences(first, second)
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


def paired_bootstrap(
    first: Numbers,
    second: Numbers,
    *,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The mean of first - second over items, with its percentile bootstrap interval.

    It tells two *trained models* apart on this test set; it knows nothing of how training
    varies with the seed (for that, `paired_t`).

    Args:
        first: one figure an item, 1 where the first model is right.
        second: of the same items, in the same order.
        resamples: how many.
        level: coverage, in (0, 1).
        seed: of the resampling.
    """
    differences = _differences(first, second)
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    n = len(differences)
    if n == 0:
        return Interval(value=math.nan, low=math.nan, high=math.nan, n=0)
    generator = np.random.default_rng(seed)
    shares = np.full(n, 1 / n)
    rows = max(1, 4_000_000 // n)  # at most 32 MB of weights at a time
    means = np.concatenate(
        [
            generator.multinomial(n, shares, size=min(rows, resamples - start)) @ differences / n
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(differences.mean()), low=float(low), high=float(high), n=n)


def _half_width(numbers: npt.NDArray[np.float64], level: float) -> float:
    from scipy.stats import t as student  # slow to import

    n = len(numbers)
    return float(student.ppf((1 + level) / 2, n - 1) * numbers.std(ddof=1) / math.sqrt(n))


def _differences(first: Numbers, second: Numbers) -> npt.NDArray[np.float64]:
    a, b = _numbers("first", first), _numbers("second", second)
    if len(a) != len(b):
        raise ValueError(
            f"first has {len(a)} values and second {len(b)}; "
            "pairs need one of each, in the same order"
        )
    return a - b


def _numbers(name: str, values: Numbers) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"{name} has shape {numbers.shape}; a flat list of numbers is expected")
    return numbers


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}; it lies between 0 and 1, 0.95 say")
