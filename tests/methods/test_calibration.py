"""Calibration equals torchmetrics and scikit-learn."""

import pytest
import torch
from sklearn import metrics as reference

from tlx.methods import calibration
from tlx.methods.metrics import ones, weighted_mean


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(1)
    return (
        3 * torch.randn(400, 6, generator=generator),
        torch.randint(6, (400,), generator=generator),
    )


def test_ece_equals_torchmetrics(outputs):
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, target = outputs
    confidence, predicted = logits.softmax(1).max(1)
    found = calibration.expected_calibration_error(
        confidence, predicted == target, weights_BN=ones(400)
    )
    expected = multiclass_calibration_error(logits, target, num_classes=6, n_bins=15, norm="l1")
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_nll_equals_cross_entropy_and_sklearn(outputs):
    logits, target = outputs
    found = weighted_mean(calibration.nll(logits, target), ones(400))
    expected = reference.log_loss(target, logits.double().softmax(1).numpy(), labels=range(6))
    assert float(found) == pytest.approx(expected)


def test_brier_is_the_squared_distance_and_twice_sklearns_binary_score(outputs):
    logits, target = outputs
    one_hot = torch.nn.functional.one_hot(target, 6)
    expected = (logits.double().softmax(1) - one_hot).square().sum(1)
    torch.testing.assert_close(calibration.brier(logits, target), expected)
    two, right = logits[:, :2], target % 2
    binary = reference.brier_score_loss(right, two.double().softmax(1)[:, 1].numpy())
    assert float(calibration.brier(two, right).mean()) == pytest.approx(2 * binary)


def test_perfect_certainty_has_no_error_and_sits_in_the_last_bin():
    sure, right = torch.ones(5), torch.ones(5)
    assert calibration.expected_calibration_error(sure, right, weights_BN=ones(5)).item() == 0
    (only,) = calibration.reliability(sure, right)
    assert (only["high"], only["n"], only["accuracy"]) == (1.0, 5, 1.0)


def test_reliability_bins_add_up_to_the_ece(outputs):
    logits, target = outputs
    confidence, predicted = logits.softmax(1).max(1)
    bins = calibration.reliability(confidence, predicted == target)
    assert sum(b["n"] for b in bins) == 400
    ece = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / 400
    found = calibration.expected_calibration_error(
        confidence, predicted == target, weights_BN=ones(400)
    )
    assert ece == pytest.approx(float(found))
    assert all(b["low"] <= b["confidence"] < b["high"] or b["high"] == 1 for b in bins)


def test_nan_does_not_crash():
    confidence = torch.tensor([0.5, torch.nan])
    found = calibration.expected_calibration_error(confidence, torch.ones(2), weights_BN=ones(2))
    assert found.isnan().all()
    assert len(calibration.reliability(confidence, torch.ones(2))) == 2
