"""How far predicted probabilities can be trusted: NLL, Brier score, expected calibration error.

Shapes: N items, C classes, B weightings of the items (see metrics.py), M bins; `...` are runs
judged on the same items, or nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tlx.methods.metrics import grouped_sums, ones

BINS = 15
DEFINITION = "top-label confidence, 15 bins of equal width [low, high), the last one closed"


@dataclass(frozen=True)
class Scores:
    """What a softmax says of each item, [..., N] each, in float64.

    Attributes:
        nll: negative log-likelihood of the target, in nats.
        brier: squared distance to the one-hot target, between 0 and 2.
        confidence: probability of the likeliest class.
    """

    nll: Tensor
    brier: Tensor
    confidence: Tensor


def scores(logits_NC: Tensor, target_N: Tensor) -> Scores:
    """All scores of logits [..., N, C] against targets [N], from one softmax.

    >>> found = scores(torch.zeros(1, 4), torch.tensor([2]))
    >>> [round(float(each), 4) for each in (found.nll, found.brier, found.confidence)]
    [1.3863, 0.75, 0.25]
    """
    log_NC = logits_NC.double().log_softmax(-1)
    log_N = log_NC.gather(-1, target_N.expand(log_NC.shape[:-1])[..., None])[..., 0]
    probabilities_NC = log_NC.exp()
    return Scores(
        nll=-log_N,
        brier=probabilities_NC.square().sum(-1) - 2 * log_N.exp() + 1,
        confidence=probabilities_NC.amax(-1).clamp(max=1),
    )


def nll(logits_NC: Tensor, target_N: Tensor) -> Tensor:
    """Negative log-likelihood of each item, [..., N], in nats.

    >>> nll(torch.zeros(1, 4), torch.tensor([2]))
    tensor([1.3863], dtype=torch.float64)
    """
    return scores(logits_NC, target_N).nll


def brier(logits_NC: Tensor, target_N: Tensor) -> Tensor:
    """Brier score of each item, [..., N]: squared distance to the one-hot target, from 0 to 2.

    Source: Brier 1950, eq. 2, the sum over classes (scikit-learn's binary score is half of it).

    >>> brier(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.5000], dtype=torch.float64)
    """
    return scores(logits_NC, target_N).brier


def bin_of(confidence_N: Tensor, *, bins: int = BINS) -> Tensor:
    """Bin of each confidence, [N]; NaN goes to the last.

    >>> bin_of(torch.tensor([0.0, 0.5, 1.0]), bins=2)
    tensor([0, 1, 1])
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence_N.dtype)
    found_N = torch.bucketize(confidence_N, edges, right=True) - 1
    return found_N.clamp(0, bins - 1)


def expected_calibration_error(
    confidence_N: Tensor, correct_N: Tensor, *, weights_BN: Tensor, bins: int = BINS
) -> Tensor:
    """Mean distance between confidence and accuracy over bins of confidence, [..., B].

    It is biased upwards on few items, and its bootstrap distribution more so.

    Args:
        confidence_N: probability of the predicted class, in [0, 1], [..., N].
        correct_N: whether the prediction is right, [..., N].
        weights_BN: weightings of the items.
        bins: of equal width.

    Source: Guo 2017, 1706.04599, eq. 3; edges as in torchmetrics: a confidence on an edge
    belongs to the bin above (Guo: below).

    >>> sure = torch.tensor([0.9, 0.9])
    >>> expected_calibration_error(sure, torch.tensor([1, 0]), weights_BN=ones(2))
    tensor([0.4000], dtype=torch.float64)
    """
    gaps_N = correct_N.double() - confidence_N.double()
    weights_BN = weights_BN.double()
    of_bin_MN = bin_of(confidence_N, bins=bins)[..., None, :] == torch.arange(bins)[:, None]
    gaps_MN = of_bin_MN * gaps_N[..., None, :]
    return (gaps_MN @ weights_BN.T).abs().sum(-2) / weights_BN.sum(1)


def reliability(
    confidence_N: Tensor, correct_N: Tensor, *, bins: int = BINS
) -> list[dict[str, Any]]:
    """What a reliability diagram shows: `low`, `high`, `confidence`, `accuracy`, `n` of each bin.

    Empty bins are left out.

    >>> [(b["n"], b["accuracy"]) for b in reliability(torch.tensor([0.9]), torch.tensor([1]))]
    [(1, 1.0)]
    """
    groups_N = bin_of(confidence_N, bins=bins)
    weights_1N = ones(len(confidence_N))
    counts = grouped_sums(weights_1N, groups_N, bins)[0].tolist()
    sums = grouped_sums(confidence_N.double()[None], groups_N, bins)[0].tolist()
    hits = grouped_sums(correct_N.double()[None], groups_N, bins)[0].tolist()
    return [
        {
            "low": index / bins,
            "high": (index + 1) / bins,
            "confidence": sums[index] / count,
            "accuracy": hits[index] / count,
            "n": int(count),
        }
        for index, count in enumerate(counts)
        if count
    ]
