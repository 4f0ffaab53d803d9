"""Metrics equal scikit-learn's, weighted ones too; a weight of k counts an item k times."""

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from tlx.methods import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def weights_for(rng, n):
    return torch.from_numpy(rng.integers(0, 4, size=(3, n)).astype(float))


def test_class_metrics_equal_sklearn(rng):
    n, classes = 200, 7
    target = rng.integers(0, classes - 1, n)  # the last class never occurs
    predicted = np.where(rng.random(n) < 0.6, target, rng.integers(0, classes - 2, n))
    weights = weights_for(rng, n)
    counts = metrics.class_counts(
        torch.from_numpy(predicted), torch.from_numpy(target), classes=classes, weights_BN=weights
    )
    for row, weight in enumerate(weights.numpy()):
        kept = weight > 0
        given = dict(sample_weight=weight[kept])
        true, guess = target[kept], predicted[kept]
        expected = reference.f1_score(true, guess, average="macro", zero_division=0, **given)
        assert float(metrics.macro_f1(counts)[row]) == pytest.approx(expected)
        expected = reference.recall_score(
            true, guess, average=None, labels=range(classes), zero_division=0, **given
        )
        assert metrics.recall(counts)[row].tolist() == pytest.approx(expected.tolist())
        expected = reference.precision_score(
            true, guess, average=None, labels=range(classes), zero_division=0, **given
        )
        assert metrics.precision(counts)[row].tolist() == pytest.approx(expected.tolist())
        expected = np.mean(
            reference.recall_score(true, guess, average=None, labels=np.unique(true), **given)
        )
        assert float(metrics.balanced_accuracy(counts)[row]) == pytest.approx(expected)
    matrix = metrics.confusion(
        torch.from_numpy(predicted), torch.from_numpy(target), classes=classes
    )
    expected = reference.confusion_matrix(target, predicted, labels=range(classes))
    assert matrix.tolist() == expected.tolist()


def test_average_precision_with_ties_equals_sklearn(rng):
    scores = np.round(rng.random(150), 1)
    relevant = rng.integers(0, 2, 150)
    weights = weights_for(rng, 150)
    found = metrics.average_precision(
        torch.from_numpy(scores), torch.from_numpy(relevant), weights_BN=weights
    )
    for row, weight in enumerate(weights.numpy()):
        expected = reference.average_precision_score(relevant, scores, sample_weight=weight)
        assert float(found[row]) == pytest.approx(expected)


def test_average_precision_of_nothing_relevant_is_nan():
    found = metrics.average_precision(
        torch.rand(4), torch.zeros(4, dtype=torch.long), weights_BN=metrics.ones(4)
    )
    assert found.isnan().all()


def test_label_counts_equal_sklearn(rng):
    target, predicted = rng.integers(0, 2, (2, 80, 5))
    counts = metrics.label_counts(
        torch.from_numpy(predicted), torch.from_numpy(target), weights_BN=metrics.ones(80)
    )
    for average, found in (
        ("micro", metrics.micro_f1(counts)),
        ("macro", metrics.macro_f1(counts, every_class=True)),
    ):
        assert float(found) == pytest.approx(reference.f1_score(target, predicted, average=average))


def test_r2_equals_sklearn(rng):
    target = rng.normal(5, 2, 100)
    predicted = target + rng.normal(0, 1, 100)
    weights = weights_for(rng, 100)
    found = metrics.r2(torch.from_numpy(predicted), torch.from_numpy(target), weights_BN=weights)
    for row, weight in enumerate(weights.numpy()):
        expected = reference.r2_score(target, predicted, sample_weight=weight)
        assert float(found[row]) == pytest.approx(expected)


@pytest.mark.parametrize("predicted", [[0.5, 0.5, 0.5], [0.5, 0.25, 0.5]])
def test_r2_of_a_constant_target_equals_sklearn(predicted):
    target = torch.full((3,), 0.5)
    found = metrics.r2(torch.tensor(predicted), target, weights_BN=metrics.ones(3))
    assert float(found) == reference.r2_score([0.5] * 3, predicted)


def test_r2_of_a_constant_target_that_is_rounded_is_0_not_huge():
    target = torch.full((3,), 0.1, dtype=torch.float64)
    guess = torch.tensor([0.1, 0.2, 0.1])
    assert float(metrics.r2(guess, target, weights_BN=metrics.ones(3))) == 0


def test_top_k_equals_sklearn(rng):
    logits, target = rng.normal(size=(90, 9)), rng.integers(0, 9, 90)
    found = metrics.in_top(torch.from_numpy(logits), torch.from_numpy(target), k=3)
    expected = reference.top_k_accuracy_score(target, logits, k=3, labels=range(9))
    assert float(found.double().mean()) == pytest.approx(expected)


def test_top_k_of_constant_or_nan_logits_is_not_right():
    logits = torch.stack([torch.zeros(9), torch.full((9,), torch.nan)])
    assert not metrics.in_top(logits, torch.tensor([0, 0]), k=5).any()


def test_grouped_sums_equal_a_loop(rng):
    values = torch.from_numpy(rng.normal(size=(4, 30)))
    groups = torch.from_numpy(rng.integers(-1, 6, 30))
    found = metrics.grouped_sums(values, groups, 6)
    for group in range(6):
        expected = values[:, groups == group].sum(1)
        torch.testing.assert_close(found[:, group], expected)
