"""The bootstrap: reproducible, blockwise, near the normal interval, with the nominal coverage."""

import math

import pytest
import torch

from tlx.methods import bootstrap
from tlx.methods.bootstrap import intervals, intervals_each, resampled_weights
from tlx.methods.shares import Share, unanimous_ends


def mean_of(values):
    return lambda weights: {"mean": (weights @ values.double()) / weights.sum(1)}


def test_near_the_normal_interval_of_a_mean():
    right = (torch.arange(1000) % 10 < 8).double()
    found = intervals(mean_of(right), 1000, resamples=4000)["mean"]
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert found["value"] == pytest.approx(0.8)
    assert found["low"] == pytest.approx(0.8 - half, abs=0.003)
    assert found["high"] == pytest.approx(0.8 + half, abs=0.003)


def test_equals_scipy():
    from scipy.stats import bootstrap as reference

    values = torch.randn(60, generator=torch.Generator().manual_seed(0)).exp()
    found = intervals(mean_of(values), 60, resamples=8000)["mean"]
    expected = reference(
        (values.numpy(),), lambda x, axis: x.mean(axis), n_resamples=8000, method="percentile",
        rng=0,
    ).confidence_interval  # fmt: skip
    assert found["low"] == pytest.approx(expected.low, rel=0.02)
    assert found["high"] == pytest.approx(expected.high, rel=0.02)


def test_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(3)
    hits = 0
    for _ in range(200):
        values = (torch.rand(100, generator=generator) < 0.7).double()
        found = intervals(mean_of(values), 100, resamples=300)["mean"]
        hits += found["low"] <= 0.7 <= found["high"]
    assert 180 <= hits <= 199


def test_same_seed_same_interval_whatever_the_metric_draws():
    values = torch.randn(30)
    first = intervals(mean_of(values), 30)
    torch.rand(5)
    assert intervals(mean_of(values), 30) == first
    assert intervals(mean_of(values), 30, seed=1) != first


def test_weights_come_in_blocks_and_count_each_resample():
    n = 1_500_000
    blocks = list(resampled_weights(n, resamples=5, seed=0))
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert all(bool((block.sum(1) == n).all()) for block in blocks)


@pytest.mark.filterwarnings("error")
def test_no_items_and_nan_have_no_interval():
    empty = intervals(mean_of(torch.empty(0)), 0)["mean"]
    assert empty["n"] == 0
    assert math.isnan(empty["value"])
    bad = intervals(mean_of(torch.tensor([1.0, torch.nan])), 2)["mean"]
    assert math.isnan(bad["value"])
    assert math.isnan(bad["low"])


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        intervals(mean_of(torch.ones(2)), 2, **wrong)


def test_interval_has_the_documented_default_level():
    assert bootstrap.LEVEL == 0.95


@pytest.mark.parametrize("n", [1, 20, 60, 500])
def test_all_right_or_nearly_is_the_exact_interval(n):
    from scipy.stats import binomtest

    for count in {0, min(3, n), max(n - 19, 0), n}:
        right = (torch.arange(n) < count).double()
        found = intervals(mean_of(right), n, shares={"mean": Share(counted=True)})["mean"]
        expected = binomtest(int(right.sum()), n).proportion_ci(method="exact")
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_coverage_of_an_accuracy_near_its_end():
    """Over all outcomes, weighted by their probability: exact, and nothing drawn but resamples."""
    from scipy.stats import binom

    lowest, means = 1.0, []
    for n in (20, 50, 100, 500):
        # of more wrong items than this, none of these accuracies has 1 chance in 1000
        wrong = torch.arange(min(n, int(binom.ppf(0.9995, n, 0.1))) + 1)
        right = (torch.arange(n) >= wrong[:, None]).double()
        found = intervals_each(
            lambda weights, right=right: {"accuracy": right @ weights.T / weights.sum(1)},
            n,
            shares={"accuracy": Share(counted=True)},
        )
        ends = [(each["accuracy"]["low"], each["accuracy"]["high"]) for each in found]
        for truth in (0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995, 0.998, 0.999, 1.0):
            chances = binom.pmf(wrong.numpy(), n, 1 - truth)
            covers = [low - 1e-12 <= truth <= high + 1e-12 for low, high in ends]
            means.append(float(sum(chances[covers])))
            lowest = min(lowest, means[-1])
    assert lowest > 0.93
    assert sum(means) / len(means) > 0.95


def test_a_mean_over_classes_that_all_agree_rests_on_the_smallest():
    one = torch.ones(2, dtype=torch.float64)
    alike = unanimous_ends(one, 30 * one, level=0.95)
    assert alike == pytest.approx((0.025 ** (1 / 60), 1))
    few = unanimous_ends(one, torch.tensor([100.0, 3.0]), level=0.95)
    assert few[0] == pytest.approx(1 - (1 - 0.025 ** (1 / 3)) / 2, abs=0.03)
    # always the first class: the second may be found in other items, the first missed
    low, high = unanimous_ends(torch.tensor([1.0, 0.0]), 20 * one, level=0.95)
    assert (low, high) == pytest.approx((0.5 - 0.0842, 0.5 + 0.0842), abs=1e-4)


def test_what_has_no_end_and_does_not_vary_has_no_interval():
    found = intervals(mean_of(torch.full((50,), 0.1)), 50)["mean"]
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])


def test_what_varies_keeps_the_bootstrap_of_before():
    right = (torch.arange(100) % 4 > 0).double()
    plain = intervals(mean_of(right), 100)
    assert intervals(mean_of(right), 100, shares={"mean": Share(counted=True)}) == plain
