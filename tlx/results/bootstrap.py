"""Intervals by resampling: over shared items, and over the seeds of many datasets."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tlx.results.intervals import (
    LEVEL,
    Interval,
    Numbers,
    check_level,
    differences_of,
    numbers_of,
)


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
    varies with the seed (for that, `paired_t`). Where all differences are equal, resampling
    tells nothing: of right and wrong (1 and 0) the ends then are exact ones, of others NaN.

    Args:
        first: one figure an item, 1 where the first model is right.
        second: of the same items, in the same order.
        resamples: how many.
        level: coverage, in (0, 1).
        seed: of the resampling.
    """
    differences = differences_of(first, second)
    check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    n = len(differences)
    if n == 0:
        return Interval(value=math.nan, low=math.nan, high=math.nan, n=0)
    value = float(differences.mean())
    if np.ptp(differences) == 0:
        low, high = math.nan, math.nan
        if np.isin(np.asarray([first, second]), (0, 1)).all():
            # a share of items up to this may differ otherwise, and none of n was seen to
            unseen = 1 - ((1 - level) / 2) ** (1 / n)
            low, high = value - unseen * (1 + value), value + unseen * (1 - value)
        return Interval(value=value, low=low, high=high, n=n)
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
    return Interval(value=value, low=float(low), high=float(high), n=n)


def interquartile_mean(
    values: Sequence[Numbers],
    *,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The mean of the middle half of all values, with its stratified bootstrap interval.

    Less moved by outliers than the mean, less wasteful than the median. Seeds are resampled within
    each dataset; the interval is the percentile one. With few seeds a dataset it is too narrow (of
    5 seeds and one dataset it covers some 83% where it says 95%), so it suits many datasets.

    Args:
        values: for each dataset its values, one a seed, on a common scale; NaN or infinite ones
            are left out, and `n` counts those that remain.
        resamples: how many.
        level: coverage, in (0, 1).
        seed: of the resampling.

    Source: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical
    precipice, 2021 (arXiv 2108.13264), section 4.3; a quarter of the values, rounded down, is cut
    off at each end, as in their rliable.
    """
    check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}; at least 1 is needed")
    strata = [numbers_of(f"values[{place}]", items) for place, items in enumerate(values)]
    strata = [items[np.isfinite(items)] for items in strata]
    strata = [items for items in strata if len(items)]
    n = sum(map(len, strata))
    if n == 0:
        return Interval(value=math.nan, low=math.nan, high=math.nan, n=0)
    value = float(_middle(np.concatenate(strata)[None])[0])
    if max(map(len, strata)) < 2:
        return Interval(value=value, low=math.nan, high=math.nan, n=n)
    generator = np.random.default_rng(seed)
    rows = max(1, 4_000_000 // n)  # at most 32 MB of values at a time
    means = np.concatenate(
        [
            _middle(
                np.concatenate(
                    [
                        generator.choice(items, (min(rows, resamples - start), len(items)))
                        for items in strata
                    ],
                    axis=1,
                )
            )
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)


def _middle(values_RN: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The interquartile mean of each row."""
    n = values_RN.shape[1]
    cut = n // 4
    means: npt.NDArray[np.float64] = np.sort(values_RN, axis=1)[:, cut : n - cut].mean(axis=1)
    return means
