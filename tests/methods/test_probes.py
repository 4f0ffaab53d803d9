"""Exact probes: scikit-learn's solutions, whatever the data's scale, and a path of them."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import normalize

from tlx.methods import probes
from tlx.tasks.head_losses import BinaryCrossEntropy, CrossEntropy, Error
from tlx.training.reuse.sparse import Sparse


def gradient_of(loss, targets, smoothing=0.0):
    """A task's loss as the probes take it."""
    smoothing_1 = torch.tensor([smoothing]).double() if smoothing else None

    def gradient(outputs):
        grad = torch.empty_like(outputs)
        kept = outputs.clone()
        loss.gradient(kept[None], targets[None], smoothing_g=smoothing_1, out=grad[None])
        return grad

    return gradient


def data(load, items=None):
    features, targets = load(return_X_y=True)
    return torch.tensor(features)[:items], torch.tensor(targets)[:items]


def reference(features, targets, *, penalty, total=None, **options):
    """scikit-learn's, from whose two classes' one weight our two differ by halves."""
    classes = len(targets.unique())
    strength = (1 if classes > 2 else 2) / (penalty * (total or len(targets)))
    solver = LogisticRegression(
        C=strength, solver="newton-cholesky", tol=1e-10, max_iter=1000, **options
    )
    return solver.fit(features.numpy(), targets.numpy())


def fitted(features, targets, *, penalty, loss=None, **options):
    classes = len(targets.unique())
    gradient = gradient_of(loss or CrossEntropy(), targets)
    return probes.fit(features, gradient, outputs=classes, penalty=penalty, **options)


def assert_same(found, expected, features):
    weight, bias = found.weight_CD, found.bias_C
    outputs = features.double() @ weight.T + bias
    probabilities = torch.tensor(expected.predict_proba(features.numpy()))
    torch.testing.assert_close(outputs.softmax(1), probabilities, rtol=0, atol=1e-6)
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    coefficients = torch.tensor(expected.coef_)
    scale = float(coefficients.abs().max())
    torch.testing.assert_close(weight, coefficients, rtol=0, atol=1e-6 * scale)
    # only differences of biases count
    centred = bias - bias.mean() if len(bias) > 1 else bias
    others = torch.tensor(expected.intercept_)
    others = others - others.mean() if len(others) > 1 else others
    torch.testing.assert_close(centred, others, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("penalty", [10.0, 0.1, 1e-3])
def test_equals_sklearn_on_digits(penalty):
    features, targets = data(load_digits, 600)
    found = fitted(features, targets, penalty=penalty, tolerance=1e-8)
    assert found.converged
    assert_same(found, reference(features, targets, penalty=penalty), features)


@pytest.mark.parametrize("penalty", [1.0, 1e-3, 1e-6])
def test_equals_sklearn_on_badly_conditioned_features(penalty):
    """Columns from 1e-3 to 1e3, some of which hardly differ: condition about 1e12."""
    features, targets = data(load_breast_cancer)
    found = fitted(features, targets, penalty=penalty, tolerance=1e-8)
    assert found.converged
    assert found.passes < 250
    assert_same(found, reference(features, targets, penalty=penalty), features)


def test_equals_sklearn_with_fewer_items_than_features():
    features, targets = data(load_digits, 40)
    found = fitted(features, targets, penalty=0.1, tolerance=1e-9)
    assert_same(found, reference(features, targets, penalty=0.1), features)


def test_equals_sklearn_with_class_weights():
    features, targets = data(load_digits, 500)
    weights = tuple(1.0 + 0.5 * c for c in range(10))
    found = fitted(features, targets, penalty=0.1, loss=CrossEntropy(weights), tolerance=1e-9)
    total = float(torch.tensor(weights)[targets].sum())
    by_class = dict(enumerate(weights))
    expected = reference(features, targets, penalty=0.1, total=total, class_weight=by_class)
    assert_same(found, expected, features)


def test_smoothed_labels_have_no_gradient_left():
    features, targets = data(load_digits, 300)
    gradient = gradient_of(CrossEntropy(), targets, smoothing=0.1)
    found = probes.fit(features, gradient, outputs=10, penalty=0.01, tolerance=1e-9)
    weight = found.weight_CD.clone().requires_grad_()
    bias = found.bias_C.clone().requires_grad_()
    loss = F.cross_entropy(features @ weight.T + bias, targets, label_smoothing=0.1)
    (loss + 0.005 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-8
    assert bias.grad.abs().max() < 1e-8


def test_several_labels_equal_sklearn_label_by_label():
    features, digits = data(load_digits, 400)
    labels = torch.stack([digits % 2, (digits > 4).long(), (digits % 3 == 0).long()], 1)
    found = probes.fit(
        features,
        gradient_of(BinaryCrossEntropy(), labels),
        outputs=3,
        penalty=0.01,
        tolerance=1e-9,
    )
    for label in range(3):
        expected = reference(features, labels[:, label], penalty=0.01 * 3 * 2)
        scale = np.abs(expected.coef_).max()
        np.testing.assert_allclose(
            found.weight_CD[label], expected.coef_[0], rtol=0, atol=1e-6 * scale
        )


def test_squared_error_equals_ridge_in_a_few_passes():
    features, targets = data(load_breast_cancer)
    numbers = torch.stack([targets, features[:, 0]], 1).double()
    inputs = features[:, 1:]
    found = probes.fit(
        inputs, gradient_of(Error("mse"), numbers), outputs=2, penalty=1e-3, tolerance=1e-10
    )
    expected = Ridge(alpha=1e-3 * len(inputs)).fit(inputs.numpy(), numbers.numpy())
    np.testing.assert_allclose(found.weight_CD, expected.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.bias_C, expected.intercept_, rtol=1e-6)
    assert found.passes < 100


def test_a_path_equals_separate_fits_strongest_first():
    features, targets = data(load_digits, 400)
    gradient = gradient_of(CrossEntropy(), targets)
    penalties = [1e-3, 1.0, 0.03]
    along = list(probes.path(features, gradient, outputs=10, penalties=penalties, tolerance=1e-9))
    assert [each.penalty for each in along] == [1.0, 0.03, 1e-3]
    for each in along:
        alone = probes.fit(features, gradient, outputs=10, penalty=each.penalty, tolerance=1e-9)
        torch.testing.assert_close(each.weight_CD, alone.weight_CD, rtol=0, atol=1e-7)
        torch.testing.assert_close(each.bias_C, alone.bias_C, rtol=0, atol=1e-6)
    cold = sum(fitted(features, targets, penalty=p, tolerance=1e-3).passes for p in penalties)
    warm = probes.path(features, gradient, outputs=10, penalties=penalties, tolerance=1e-3)
    assert sum(each.passes for each in warm) < cold


def test_the_error_bounds_how_far_the_weight_is():
    features, targets = data(load_digits, 400)
    exact = fitted(features, targets, penalty=0.01, tolerance=1e-10)
    for tolerance in (0.3, 0.03, 1e-3):
        found = fitted(features, targets, penalty=0.01, tolerance=tolerance)
        assert found.error <= tolerance
        away = torch.linalg.norm(found.weight_CD - exact.weight_CD)
        assert away <= tolerance * torch.linalg.norm(found.weight_CD)


def test_scale_and_place_of_the_features_change_nothing():
    features, targets = data(load_digits, 300)
    found = fitted(features, targets, penalty=0.1, tolerance=1e-9)
    moved = fitted(1000 * features + 5e4, targets, penalty=1e5, tolerance=1e-9)
    assert abs(found.passes - moved.passes) <= 3
    torch.testing.assert_close(moved.weight_CD * 1000, found.weight_CD, rtol=0, atol=1e-7)


def test_separable_data_need_a_penalty_and_many_passes():
    features = torch.tensor([[-1.0], [1.0]])
    targets = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="no minimum"):
        fitted(features, targets, penalty=0.0)
    found = fitted(features, targets, penalty=1e-12, tolerance=1e-9, most_iterations=3)
    assert not found.converged
    assert found.passes <= 5  # the iterations, and once in each precision
    assert found.weight_CD.isfinite().all()
    assert fitted(features, targets, penalty=1e-6).converged


def test_a_start_that_is_a_solution_stays():
    features, targets = data(load_digits, 300)
    found = fitted(features, targets, penalty=0.1, tolerance=1e-6)
    again = fitted(features, targets, penalty=0.1, tolerance=1e-5, start=found)
    assert again.passes == 1
    torch.testing.assert_close(again.weight_CD, found.weight_CD)


def test_features_that_do_not_vary_leave_the_bias():
    targets = torch.tensor([0, 0, 0, 1])
    found = fitted(torch.full((4, 3), 2.0), targets, penalty=0.1)
    assert found.converged
    assert found.weight_CD.abs().max() == 0
    assert math.isclose(found.bias_C.softmax(0)[0], 0.75, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("features", "options", "says"),
    [
        (torch.tensor([[1.0], [math.nan]]), {"penalty": 1.0}, "not all finite"),
        (torch.ones(2), {"penalty": 1.0}, "give a matrix"),
        (torch.eye(2), {"penalty": -1.0}, "penalty=-1.0"),
        (torch.eye(2), {"penalty": 1.0, "tolerance": 0.0}, "tolerance=0.0"),
    ],
)
def test_what_cannot_be_solved_is_refused(features, options, says):
    with pytest.raises(ValueError, match=says):
        fitted(features, torch.tensor([0, 1]), **options)


def sparse_data(items, width, classes=3):
    """Rows of length 1 with a handful of numbers, as TF-IDF's are."""
    random = np.random.default_rng(0)
    counts = scipy.sparse.random_array((items, width), density=8 / width, rng=random, format="csr")
    targets = torch.from_numpy(random.integers(classes, size=items))
    lean = scipy.sparse.csr_array(
        (np.ones(items), (np.arange(items), targets.numpy() * 2)), shape=(items, width)
    )
    return normalize(scipy.sparse.csr_array(counts + lean)), targets


@pytest.mark.parametrize("shape", [(300, 900), (900, 60)])
@pytest.mark.parametrize("penalty", [1e-2, 1e-5])
def test_sparse_features_give_the_solution_of_dense_ones(shape, penalty):
    features, targets = sparse_data(*shape)
    found = fitted(Sparse(features), targets, penalty=penalty, tolerance=1e-8)
    dense = fitted(torch.from_numpy(features.toarray()), targets, penalty=penalty, tolerance=1e-8)
    assert found.converged
    scale = float(dense.weight_CD.abs().max())
    torch.testing.assert_close(found.weight_CD, dense.weight_CD, rtol=0, atol=1e-6 * scale)
    torch.testing.assert_close(found.bias_C, dense.bias_C, rtol=0, atol=1e-5)


def test_sparse_features_are_never_filled_in():
    """As a matrix they would take 14 GB, and their covariance more."""
    features, targets = sparse_data(30_000, 60_000)
    found = fitted(Sparse(features), targets, penalty=1e-3, tolerance=1e-4)
    assert found.converged
    solver = LogisticRegression(C=1 / (1e-3 * len(targets)), tol=1e-6).fit(features, targets)
    right = (features @ found.weight_CD.T.numpy() + found.bias_C.numpy()).argmax(1)
    assert (right == solver.predict(features)).mean() > 0.9999


def test_sparse_features_that_are_not_finite_are_refused():
    features, _ = sparse_data(20, 10)
    features.data[3] = math.nan
    with pytest.raises(ValueError, match="not all finite"):
        Sparse(features)
