"""Statistics over seeds equal scipy's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests

from tlx.results.stats import (
    compare,
    holm,
    interquartile_mean,
    paired_bootstrap,
    paired_p,
    paired_t,
    summary,
    t_interval,
)

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
    same = paired_bootstrap(right_a, right_a)  # which of 400 items says a little, not all
    assert (-same.low, same.high) == pytest.approx((1 - 0.025 ** (1 / 400),) * 2)
    assert math.isnan(paired_bootstrap([3.0, 5.0], [1.0, 3.0]).low)
    assert math.isnan(paired_bootstrap([], []).value)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_mean_as_often_as_it_says(n):
    values_RN = np.random.default_rng(n).normal(0.8, 0.02, (20_000, n))
    mean_R = values_RN.mean(axis=1)
    half_R = reference.t.ppf(0.975, n - 1) * values_RN.std(axis=1, ddof=1) / math.sqrt(n)
    assert 0.93 <= np.mean(np.abs(mean_R - 0.8) <= half_R) <= 0.97
    # the same intervals, one by one
    found = [t_interval(row) for row in values_RN[:1000]]
    np.testing.assert_allclose([f.low for f in found], (mean_R - half_R)[:1000])
    np.testing.assert_allclose([f.high for f in found], (mean_R + half_R)[:1000])
    pairs = [compare(row, np.zeros(n)) for row in values_RN[:100]]
    assert [(f.low, f.high) for f in pairs] == [(f.low, f.high) for f in found[:100]]


def test_a_bootstrap_of_five_does_not_cover():
    values = np.random.default_rng(0).normal(0.0, 1.0, (2_000, 5))
    found = [interquartile_mean([row], resamples=200) for row in values]
    assert np.mean([f.low <= 0 <= f.high for f in found]) < 0.9  # why it is not used for seeds


def test_summary_equals_scipy_and_counts_what_is_missing():
    found = summary([*A, math.nan, math.inf])
    expected = reference.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (found.mean, found.sd) == pytest.approx((A.mean(), A.std(ddof=1)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n, found.missing) == (5, 2)


@pytest.mark.parametrize("values", [[], [math.nan], [0.5, math.nan]])
def test_summary_of_too_few(values):
    found = summary(values)
    assert math.isnan(found.sd)
    assert math.isnan(found.low)
    assert (found.n, found.missing) == (sum(v == v for v in values), len(values) - found.n)
    assert math.isnan(found.mean) == (found.n == 0)


@pytest.mark.parametrize("n", [2, 5, 19])
def test_compare_equals_the_paired_t_test_below_20(n):
    a, b = RNG.normal(0.8, 0.1, n), RNG.normal(0.7, 0.1, n)
    found, expected = compare(a, b), reference.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.test, found.n, found.dropped) == ("paired t", n, 0)
    assert found.sd == pytest.approx((a - b).std(ddof=1))


@pytest.mark.parametrize("n", [20, 30, 60])
@pytest.mark.parametrize("digits", [2, 15])
def test_compare_equals_wilcoxon_from_20_on(n, digits):
    a = RNG.normal(0.72, 0.1, n).round(digits)  # few digits: ties and zeros
    b = RNG.normal(0.70, 0.1, n).round(digits)
    found = compare(a, b)
    exact = np.round(a - b, min(digits, 13))  # 0.3 - 0.2 and 0.2 - 0.1 are a tie
    assert found.p == pytest.approx(reference.wilcoxon(exact).pvalue)
    assert (found.test, found.direction) == ("Wilcoxon", np.sign(found.difference))
    interval = reference.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_compare_tests_against_a_margin_and_leaves_the_difference():
    found = compare(A, B, against=0.05)
    expected = reference.ttest_1samp(A - B, 0.05)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.difference == pytest.approx((A - B).mean())
    assert found.low == pytest.approx(paired_t(A, B).low)


def test_compare_leaves_out_pairs_that_are_not_whole():
    first = [*A, math.nan, 1.0, math.inf, math.nan]
    second = [*B, 1.0, math.nan, 1.0, math.nan]
    found, expected = compare(first, second), compare(A, B)
    assert (found.n, found.dropped) == (5, 4)
    assert (found.difference, found.p) == (expected.difference, expected.p)
    nothing = compare([math.nan], [1.0])
    assert (nothing.n, nothing.dropped) == (0, 1)
    assert math.isnan(nothing.difference)
    with pytest.raises(ValueError, match="1 values and second 2"):
        compare([1.0], [1.0, 2.0])


@pytest.mark.parametrize("n", [2, 5, 6, 25])
def test_equal_differences_fall_back_on_the_sign_test(n):
    second = np.linspace(0.1, 0.9, n)
    found = compare(second + 0.1, second)  # equal but for rounding
    assert found.test == "sign"
    assert found.p == pytest.approx(reference.binomtest(n, n).pvalue)
    assert (found.sd, found.direction) == (0, 1)
    same = compare(second, second)
    assert (same.p, same.direction) == (1, 0)
    assert compare(second + 0.1, second, against=0.1).p == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*2 * [st.floats(-10, 10).map(lambda x: round(x, 3))]), max_size=30),
    st.floats(-1, 1),
)
def test_compare_is_antisymmetric(pairs, against):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    one, two = compare(first, second, against=against), compare(second, first, against=-against)
    assert one.p == pytest.approx(two.p, nan_ok=True)
    assert one.difference == pytest.approx(-two.difference, nan_ok=True)
    assert one.direction == -two.direction
    assert (one.test, one.n) == (two.test, two.n)
    assert math.isnan(one.p) or 0 <= one.p <= 1


@pytest.mark.parametrize("n", [2, 5, 19])
def test_paired_p_is_that_of_compare(n):
    a, b = RNG.normal(0.8, 0.1, n), RNG.normal(0.7, 0.1, n)
    found = compare(a, b)
    assert paired_p(found.difference, found.sd, n) == pytest.approx(found.p)
    assert paired_p(0.1, 0, n) == 2 * 0.5**n
    assert paired_p(0, 0, n) == 1


@pytest.mark.slow
@settings(max_examples=15)  # statsmodels is slow
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_equals_statsmodels_over_those_that_are_numbers(p):
    found = np.array(holm(p))
    there = ~np.isnan(np.array(p, dtype=float))
    assert np.isnan(found[~there]).all()
    if there.any():
        expected = multipletests(np.array(p)[there], method="holm")[1]
        np.testing.assert_allclose(found[there], expected)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 40])
def test_interquartile_mean_equals_the_trimmed_mean(n):
    values = [RNG.normal(size=n), RNG.normal(size=n)]
    found = interquartile_mean(values)
    assert found.value == pytest.approx(reference.trim_mean(np.concatenate(values), 0.25))
    assert found.n == 2 * n


def test_interquartile_mean_has_the_interval_of_a_stratified_bootstrap():
    strata = [RNG.normal(dataset, 1, 10) for dataset in range(4)]
    found = interquartile_mean(strata, resamples=5_000)

    def middle(*values, axis=-1):
        return reference.trim_mean(np.concatenate(values, axis=-1), 0.25, axis=axis)

    # scipy resamples each sample by itself, which is what stratified means
    expected = reference.bootstrap(
        strata, middle, n_resamples=5_000, method="percentile", rng=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert interquartile_mean(strata, resamples=5_000) == found


def test_interquartile_mean_counts_what_it_rests_on():
    found = interquartile_mean([[1.0, math.nan, 3.0], [math.nan], []])
    assert (found.value, found.n) == (2.0, 2)
    assert math.isnan(interquartile_mean([[1.0], [2.0]]).low)
    assert interquartile_mean([]).n == 0
    with pytest.raises(ValueError, match=r"values\[0\] has shape"):
        interquartile_mean([np.zeros((2, 2))])
