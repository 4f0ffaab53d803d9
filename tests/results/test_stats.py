"""Statistics over seeds equal scipy's."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from tlx.results.stats import paired_bootstrap, paired_t, t_interval

RNG = np.random.default_rng(0)
A = RNG.normal(0.8, 0.02, 5)
B = RNG.normal(0.7, 0.03, 5)


def test_t_interval_equals_scipy():
    found = t_interval(A)
    low, high = reference.t.interval(0.95, 4, loc=A.mean(), scale=reference.sem(A))
    assert (found.value, found.low, found.high) == pytest.approx((A.mean(), low, high))
    assert found.n == 5


def test_paired_t_equals_scipy():
    found = paired_t(A, B, level=0.9)
    expected = reference.ttest_rel(A, B)
    interval = expected.confidence_interval(0.9)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("values", [[], [0.5]])
def test_too_few_have_no_interval(values):
    found = t_interval(values)
    assert math.isnan(found.low)
    assert found.n == len(values)
    assert math.isnan(paired_t(values, values).p)


def test_a_diverged_seed_is_not_dropped():
    assert math.isnan(t_interval([1.0, math.nan, 2.0]).value)
    assert math.isnan(paired_t([1.0, math.nan], [0.0, 0.0]).p)


def test_equal_differences():
    assert paired_t([2.0, 3.0], [1.0, 2.0]).p == 0
    assert paired_t([2.0, 3.0], [2.0, 3.0]).p == 1


def test_pairs_must_match():
    with pytest.raises(ValueError, match="2 values and second 3"):
        paired_t([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="shape"):
        t_interval(np.zeros((2, 2)))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_wrong_level(level):
    with pytest.raises(ValueError, match="level"):
        t_interval([1, 2], level=level)


def test_paired_bootstrap_equals_scipy_and_is_narrower_than_unpaired():
    right_a = (RNG.random(400) < 0.9).astype(float)
    right_b = np.where(RNG.random(400) < 0.9, right_a, 1 - right_a)
    found = paired_bootstrap(right_a, right_b, resamples=5000)
    expected = reference.bootstrap(
        (right_a - right_b,), np.mean, n_resamples=5000, method="percentile", rng=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    assert paired_bootstrap(right_a, right_b, resamples=5000) == found
    assert paired_bootstrap(right_a, right_a).low == 0
    assert math.isnan(paired_bootstrap([], []).value)
