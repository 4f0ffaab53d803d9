"""Exact linear probes: a linear layer on fixed features, trained to convergence.

Minimises the loss of the outputs plus `penalty / 2 * |weight|²`, the bias unpenalised.

Shapes: N items, D features, C outputs, P numbers of an output inside: min(N, D) and the bias.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.methods.lbfgs import Descent, Loss, Metric
from tlx.methods.products import Centred, Dense, LinearInputs

ITEMS_PER_FEATURE = 2
LEAST_ITEMS = 4096
"""From so many the features' covariance is learnt, which only has to be about right."""

FIRST_CURVATURE = 0.1
"""Of the loss: between that of two classes at even odds and that of many."""


@dataclass(frozen=True)
class Solution:
    """A linear layer that minimises a penalised loss.

    Attributes:
        weight_CD: in float64, as all is here but products whose rounding cannot matter.
        bias_C: likewise.
        penalty: of the weight.
        passes: how often all items were gone over: the iterations, and once in each precision.
        error: norm of the gradient over that of the penalty's part in it: the weight differs from
            the minimum's by at most this share of itself.
        converged: whether `error` is within the tolerance.
    """

    weight_CD: Tensor
    bias_C: Tensor
    penalty: float
    passes: int
    error: float
    converged: bool


def fit(
    features: Tensor | Centred,
    loss: Loss,
    *,
    outputs: int,
    penalty: float,
    start: Solution | None = None,
    tolerance: float = 1e-6,
    most_iterations: int = 1000,
) -> Solution:
    """The linear layer that minimises a loss and an L2 penalty on its weight, by L-BFGS.

    It ends by the gradient, whatever the scale of the features, and not by what the loss still
    gains.

    Args:
        features: a matrix [N, D] of any floating-point type, or what stands for one.
        loss: gradient of a convex, smooth loss.
        outputs: C.
        penalty: above 0.
        start: of the same shapes, to go on from; None: zeros.
        tolerance: of the solution's `error`.
        most_iterations: after which it ends, unconverged.

    Raises:
        ValueError: an argument is out of range, or a feature is not finite.

    Source: Liu and Nocedal 1989, "On the limited memory BFGS method", algorithm 2.1. As first
    inverse Hessian it takes that of a loss with the same curvature everywhere, as in Böhning 1992,
    "Multinomial logistic regression algorithm".

    >>> features, targets = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0])
    >>> found = fit(features, lambda y: 2 * (y - targets) / 3, outputs=1, penalty=1e-9)
    >>> round(found.weight_CD.item(), 3), round(found.bias_C.item(), 3)
    (2.0, 1.0)
    """
    problem = ProbeProblem(features, loss, outputs=outputs)
    return problem.solve(penalty, start=start, tolerance=tolerance, most_iterations=most_iterations)


def path(
    features: Tensor | Centred,
    loss: Loss,
    *,
    outputs: int,
    penalties: Sequence[float],
    tolerance: float = 1e-6,
    most_iterations: int = 1000,
) -> Iterator[Solution]:
    """Solutions for several penalties, strongest first, each begun at the one before.

    Arguments as for `fit`.

    >>> features, targets = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 3.0, 5.0])
    >>> found = path(features, lambda y: 2 * (y - targets) / 3, outputs=1, penalties=[0.1, 1.0])
    >>> [(each.penalty, round(each.weight_CD.item(), 3)) for each in found]
    [(1.0, 1.143), (0.1, 1.86)]
    """
    problem = ProbeProblem(features, loss, outputs=outputs)
    found: Solution | None = None
    for penalty in sorted(penalties, reverse=True):
        found = problem.solve(
            penalty, start=found, tolerance=tolerance, most_iterations=most_iterations
        )
        yield found


@final
class ProbeProblem:
    """A loss on fixed features, to be minimised under one penalty after another."""

    def __init__(self, features: Tensor | Centred, loss: Loss, *, outputs: int) -> None:
        """Centres the features, scales them by one number, and learns their covariance.

        Args:
            features: a matrix [N, D], or what stands for one.
            loss: gradient of a convex, smooth loss.
            outputs: C.

        Raises:
            ValueError: they are no finite matrix.
        """
        self._loss, self._outputs = loss, outputs
        self._basis: Tensor | None = None
        self._precisions: list[LinearInputs] = []
        if isinstance(features, Tensor):
            self._prepare(features)
        else:
            self._mean_D, self._scale = features.mean_D, features.scale
            self._covariance, self._precisions = features.curvature_P, [features]
        self._curvature = FIRST_CURVATURE

    def _prepare(self, features_ND: Tensor) -> None:
        """Of a matrix (a mutator)."""
        if features_ND.ndim != 2 or 0 in features_ND.shape:
            raise ValueError(f"features {tuple(features_ND.shape)}; give a matrix [N, D]")
        values = features_ND.to(torch.float64, copy=True)
        self._mean_D = values.mean(0)
        self._scale = float(values.sub_(self._mean_D).square().mean().sqrt())
        if not math.isfinite(self._scale):
            raise ValueError("features are not all finite; look at the data and at the backbone")
        values.div_(self._scale or 1.0)
        self._scale = self._scale or 1.0
        if len(values) < values.shape[1]:  # a minimum lies in the span of the items
            self._basis, values = torch.linalg.qr(values.T)
            values = values.T
        inputs_NP = torch.cat([values, values.new_ones(len(values), 1)], dim=1)
        self._precisions = [Dense(inputs_NP)]
        if values.device.type == "cpu":  # three times as fast
            self._precisions = [Dense(inputs_NP.float()), Dense(inputs_NP)]
        items, width = inputs_NP.shape
        enough = max(ITEMS_PER_FEATURE * width, LEAST_ITEMS)
        some = inputs_NP[:: max(items // enough, 1)]
        self._covariance = some.T @ some / len(some)

    def solve(
        self,
        penalty: float,
        *,
        start: Solution | None = None,
        tolerance: float = 1e-6,
        most_iterations: int = 1000,
    ) -> Solution:
        """The minimum under a penalty; arguments as for `fit`.

        Raises:
            ValueError: an argument is out of range.
        """
        if not 0 < penalty < math.inf:
            raise ValueError(
                f"penalty={penalty}; give one above 0: without it, separable data have no minimum"
            )
        if not (tolerance > 0 and most_iterations >= 0):
            raise ValueError(
                f"tolerance={tolerance}, most_iterations={most_iterations}; "
                "give a tolerance above 0, and 0 iterations or more"
            )
        penalty_P = self._covariance.new_full(self._covariance.shape[:1], penalty / self._scale**2)
        penalty_P[-1] = 0.0
        descent = Descent(
            self._loss,
            metric=Metric(self._covariance, penalty_P, self._curvature),
            weight_CP=self._inside(start),
        )
        passes, left, error = 0, most_iterations, math.inf
        for inputs in self._precisions:
            descent.enter(inputs)
            used, error = descent.run(tolerance=tolerance, most_iterations=left)
            passes, left = passes + 1 + used, left - used
            if error + descent.doubt() <= tolerance:
                break
        self._curvature = descent.metric.curvature
        weight_CD, bias_C = self._outside(descent.weight_CP)
        return Solution(weight_CD, bias_C, penalty, passes, error, error <= tolerance)

    def _inside(self, start: Solution | None) -> Tensor:
        """A solution's weight and bias [C, P] on the centred and scaled features."""
        if start is None:
            return self._covariance.new_zeros(self._outputs, len(self._covariance))
        weight = start.weight_CD * self._scale
        bias_C = start.bias_C + start.weight_CD @ self._mean_D
        if self._basis is not None:
            weight = weight @ self._basis
        return torch.cat([weight, bias_C[:, None]], dim=1)

    def _outside(self, weight_CP: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [C, D] and bias [C] on the features as they were given."""
        weight = weight_CP[:, :-1] / self._scale
        if self._basis is not None:
            weight = weight @ self._basis.T
        return weight, weight_CP[:, -1] - weight @ self._mean_D
