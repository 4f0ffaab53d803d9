"""The bootstrap: reproducible, blockwise, near the normal interval, with the nominal coverage."""

import math

import pytest
import torch

from tlx.methods import bootstrap
from tlx.methods.bootstrap import intervals, resampled_weights


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
