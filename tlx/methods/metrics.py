"""Metrics as functions of per-item figures and of item weights.

Each metric takes `weights_BN`, B weightings of the same N items, and returns B values: a row of
ones gives the plain figure, rows of resampling counts give its bootstrap distribution, from the
same code. Shapes: B weightings, N items, C classes, K regressed quantities; `...` are runs that
were judged on the same items, or nothing. Float64 throughout.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_MULTIPLIED = 64


def ones(n: int) -> Tensor:
    """One weighting that counts each of n items once, [1, n].

    >>> ones(3)
    tensor([[1., 1., 1.]], dtype=torch.float64)
    """
    return torch.ones(1, n, dtype=torch.float64)


def weighted_mean(values_N: Tensor, weights_BN: Tensor) -> Tensor:
    """Mean of the values [..., N] under each weighting, [..., B]; NaN for no items.

    >>> weighted_mean(torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1.0], [3.0, 1.0]]))
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    weights_BN = weights_BN.double()
    return values_N.double() @ weights_BN.T / weights_BN.sum(1)


def grouped_sums(values_BN: Tensor, groups_N: Tensor, count: int) -> Tensor:
    """Sums of the values over the items of each group, [B, count].

    Args:
        values_BN: B rows of N values.
        groups_N: group of each item, in [-1, count); -1 belongs to none.
        count: how many groups.

    >>> grouped_sums(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([1, 0, 1]), 3)
    tensor([[2., 5., 0.]], dtype=torch.float64)
    """
    if count <= MOST_MULTIPLIED:  # one product is faster than sorting where groups are few
        return (membership(groups_N, count).T @ values_BN.double().T).T
    order = torch.argsort(groups_N, stable=True)
    sums = torch.cumsum(values_BN.double()[:, order], dim=1)
    sums = torch.cat([sums.new_zeros(len(sums), 1), sums], dim=1)
    edges = torch.searchsorted(groups_N[order], torch.arange(count + 1))
    return sums[:, edges[1:]] - sums[:, edges[:-1]]


def membership(groups_N: Tensor, count: int) -> Tensor:
    """1 where an item is of a group, [N, count]; a group of -1 is none.

    >>> membership(torch.tensor([1, -1]), 2)
    tensor([[0., 1.],
            [0., 0.]], dtype=torch.float64)
    """
    return (groups_N[:, None] == torch.arange(count, device=groups_N.device)).double()


@dataclass(frozen=True)
class Counts:
    """Weighted counts per class, [B, C] each.

    Attributes:
        hits: items of the class that were predicted as such.
        predicted: items predicted as the class.
        support: items of the class.
    """

    hits: Tensor
    predicted: Tensor
    support: Tensor


def class_counts(
    predicted_N: Tensor, target_N: Tensor, *, classes: int, weights_BN: Tensor
) -> Counts:
    """Counts per class [..., B, C] of a single-label task; a prediction of -1 stands for none.

    Args:
        predicted_N: class of each item, [..., N].
        target_N: its true class, [N].
        classes: how many there are.
        weights_BN: weightings of the items.

    >>> class_counts(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2, weights_BN=ones(2)).hits
    tensor([[1., 0.]], dtype=torch.float64)
    """
    hits_N = torch.where(predicted_N == target_N, target_N, -1)

    def sums(groups_N: Tensor) -> Tensor:
        if groups_N.ndim == 1:
            return grouped_sums(weights_BN, groups_N, classes)
        if classes > MOST_MULTIPLIED:
            return torch.stack([sums(groups) for groups in groups_N])
        of_class_CN = groups_N[..., None, :] == torch.arange(classes)[:, None]
        return (of_class_CN.double() @ weights_BN.double().T).mT

    return Counts(hits=sums(hits_N), predicted=sums(predicted_N), support=sums(target_N))


def label_counts(predicted_NC: Tensor, target_NC: Tensor, *, weights_BN: Tensor) -> Counts:
    """Counts per label of a multi-label task, from 0/1 matrices.

    >>> label_counts(torch.tensor([[1, 1]]), torch.tensor([[1, 0]]), weights_BN=ones(1)).predicted
    tensor([[1., 1.]], dtype=torch.float64)
    """
    weights_BN = weights_BN.double()
    return Counts(
        hits=weights_BN @ (predicted_NC.bool() & target_NC.bool()).double(),
        predicted=weights_BN @ predicted_NC.double(),
        support=weights_BN @ target_NC.double(),
    )


def precision(counts: Counts) -> Tensor:
    """Share of the predictions of each class that are right, [B, C]; 0 where there are none.

    >>> precision(Counts(torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[1.0]])))
    tensor([[0.5000]])
    """
    return _ratio(counts.hits, counts.predicted)


def recall(counts: Counts) -> Tensor:
    """Share of the items of each class that are found, [B, C]; 0 where there are none.

    >>> recall(Counts(torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[1.0]])))
    tensor([[1.]])
    """
    return _ratio(counts.hits, counts.support)


def f1(counts: Counts) -> Tensor:
    """F1 of each class, [B, C]; 0 for a class that is neither there nor predicted.

    >>> f1(Counts(torch.tensor([[1.0]]), torch.tensor([[1.0]]), torch.tensor([[2.0]])))
    tensor([[0.6667]])
    """
    return _ratio(2 * counts.hits, counts.predicted + counts.support)


def macro_f1(counts: Counts, *, every_class: bool = False) -> Tensor:
    """Unweighted mean of the classes' F1, [B], as scikit-learn's `f1_score(average="macro")`.

    Args:
        counts: per class.
        every_class: count classes that are neither there nor predicted as 0 (scikit-learn's
            habit for multi-label matrices) instead of leaving them out (its habit for classes).

    >>> macro_f1(Counts(torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 0]]),
    ...                 torch.tensor([[1.0, 0]])))
    tensor([1.])
    """
    present = (counts.predicted + counts.support) > 0
    if every_class:
        present = torch.ones_like(present)
    return _mean_where(f1(counts), present)


def micro_f1(counts: Counts) -> Tensor:
    """F1 of all decisions taken together, [B].

    >>> micro_f1(Counts(torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 1]]),
    ...                 torch.tensor([[1.0, 1]])))
    tensor([0.5000])
    """
    return _ratio(2 * counts.hits.sum(1), (counts.predicted + counts.support).sum(1))


def balanced_accuracy(counts: Counts) -> Tensor:
    """Mean recall of the classes that have items, [B].

    >>> balanced_accuracy(Counts(torch.tensor([[2.0, 0]]), torch.tensor([[3.0, 0]]),
    ...                          torch.tensor([[2.0, 1]])))
    tensor([0.5000])
    """
    return _mean_where(recall(counts), counts.support > 0)


def in_top(logits_NC: Tensor, target_N: Tensor, *, k: int) -> Tensor:
    """Whether the target is among the k likeliest classes, [..., N]; ties count against it.

    >>> in_top(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1]), k=2)
    tensor([True])
    """
    of_target_N1 = logits_NC.gather(-1, target_N.expand(logits_NC.shape[:-1])[..., None])
    at_least_N = (logits_NC >= of_target_N1).sum(-1)  # itself included; NaN compares as False
    return (at_least_N <= k) & (at_least_N > 0) & ~logits_NC.isnan().any(-1)


def average_precision(scores_N: Tensor, relevant_N: Tensor, *, weights_BN: Tensor) -> Tensor:
    """Average precision of a ranking, [B]; NaN where nothing is relevant.

    The sum over thresholds of precision times the gain in recall, equal scores sharing one
    threshold, as scikit-learn's `average_precision_score`.

    >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]),
    ...                   weights_BN=ones(3))
    tensor([0.8333], dtype=torch.float64)
    """
    order = torch.argsort(scores_N, descending=True, stable=True)
    scores_N, weights_BN = scores_N[order], weights_BN.double()[:, order]
    gains_BN = weights_BN * relevant_N[order].double()
    # The last item of each run of equal scores, for all items of the run.
    ends_N = torch.searchsorted(-scores_N, -scores_N, right=True) - 1
    found_BN = gains_BN.cumsum(1)[:, ends_N]
    seen_BN = weights_BN.cumsum(1)[:, ends_N]
    total_B = gains_BN.sum(1)
    return (gains_BN * _ratio(found_BN, seen_BN)).sum(1) / total_B


def r2(predicted_N: Tensor, target_N: Tensor, *, weights_BN: Tensor) -> Tensor:
    """Share of the target's variance that is explained, [B].

    A constant target gives 1 where it is met exactly and 0 otherwise, as in scikit-learn.

    >>> r2(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), weights_BN=ones(2))
    tensor([0.5000], dtype=torch.float64)
    """
    weights_BN, target_N = weights_BN.double(), target_N.double()
    centre_B1 = weighted_mean(target_N, weights_BN)[:, None]
    total_B = (weights_BN * (target_N - centre_B1).square()).sum(1)
    left_B = weights_BN @ (target_N - predicted_N.double()).square()
    constant_B = torch.where(left_B == 0, 1.0, torch.where(left_B.isnan(), left_B, 0.0))
    flat_B = total_B <= 1e-30 * (weights_BN @ target_N.square())
    return torch.where(flat_B, constant_B, 1 - left_B / total_B)


def confusion(predicted_N: Tensor, target_N: Tensor, *, classes: int) -> Tensor:
    """How often a class (row) was predicted as another (column), [C, C] int64; -1 is left out.

    >>> confusion(torch.tensor([0, 1, -1]), torch.tensor([0, 0, 1]), classes=2)
    tensor([[1, 1],
            [0, 0]])
    """
    kept_N = predicted_N >= 0
    cells = target_N[kept_N] * classes + predicted_N[kept_N]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient, and 0 where below is 0."""
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))


def _mean_where(values_BC: Tensor, kept_BC: Tensor) -> Tensor:
    """Mean over the kept classes, NaN where none is kept."""
    return torch.where(kept_BC, values_BC, 0.0).sum(-1) / kept_BC.sum(-1)
