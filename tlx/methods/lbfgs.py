"""L-BFGS for a penalised loss of linear outputs.

An iteration costs two products with the inputs: along a step the outputs change linearly, so that
the line search needs none.

Shapes: N items, P numbers of an input, C outputs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.methods.products import LinearInputs

Loss = Callable[[Tensor], Tensor]
"""Outputs [C, N], which it leaves as they are, -> the gradient [C, N] of their loss."""

MEMORY = 10
"""Pairs of steps and gradients' changes that are remembered."""

DRIFT = 10.0
"""A metric is made anew when the loss is by so much flatter or steeper than it assumes."""

FLATTER = 0.5
"""A line search ends where the slope is at most this share of that at its start."""

MOST_TRIED = 20
"""Points of a line search."""

ROUNDING = 4.0
"""Of a gradient, in units of the last place of the norms that it is a product of."""


@final
class Metric:
    """The Hessian of a loss that is equally curved everywhere, factorised when it is needed."""

    def __init__(self, covariance: Tensor, penalty_P: Tensor, curvature: float) -> None:
        """Takes the inputs' covariance [P, P], or its diagonal [P] where it would be too large."""
        self.penalty_P = penalty_P
        self.curvature = curvature
        self._covariance, self._factor_PP = covariance, covariance
        self._assumed = math.inf

    def follow(self, curvature: float) -> None:
        """Takes note of the loss's curvature along the last step (a mutator), half-way."""
        self.curvature = math.sqrt(self.curvature * max(curvature, 1e-9))

    def divide(self, gradient_CP: Tensor) -> Tensor:
        """The inverse times a gradient."""
        if self._covariance.ndim == 1:
            return gradient_CP / self._damped(self._covariance * self.curvature)
        if not 1 / DRIFT < self.curvature / self._assumed < DRIFT:
            self._assumed = self.curvature
            diagonal_P = self._damped(torch.zeros_like(self.penalty_P))
            hessian_PP = self._covariance * self.curvature + diagonal_P.diag()
            self._factor_PP = torch.linalg.cholesky(hessian_PP)
        return torch.cholesky_solve(gradient_CP.T, self._factor_PP).T

    def _damped(self, diagonal_P: Tensor) -> Tensor:
        """A diagonal with the penalty, and a little for what is constant and not penalised."""
        return diagonal_P + (self.penalty_P + 1e-10 * self.curvature)


@final
class Descent:
    """L-BFGS under one penalty, iteration by iteration, in float64.

    The products with the inputs are in the inputs' own precision, which may change on the way:
    what they round can be told from what they do not.

    Attributes:
        metric: of its first direction.
        weight_CP: where it is.
    """

    def __init__(self, loss: Loss, *, metric: Metric, weight_CP: Tensor) -> None:
        """Starts at a weight; `enter` comes first."""
        self.metric, self.weight_CP = metric, weight_CP
        self._loss = loss
        self._memory: list[_Pair] = []

    def enter(self, inputs: LinearInputs) -> None:
        """Takes inputs, or the same in another precision (a mutator)."""
        self._inputs = inputs
        self._outputs_CN = inputs.outputs(self.weight_CP)
        self._slopes_CN = self._loss(self._outputs_CN)
        self._gradient_CP = self._gradient()

    def run(self, *, tolerance: float, most_iterations: int) -> tuple[int, float]:
        """Iterates until the error is within a tolerance, or but rounding (a mutator).

        Returns:
            Iterations, and the error.
        """
        done, error = 0, self.error()
        while error > tolerance and done < most_iterations and self.advance():
            done, error = done + 1, self.error()
        return done, error

    def error(self) -> float:
        """The gradient's norm over that of the penalty's part; 0 where it is but rounding."""
        gradient, pull = _norm(self._gradient_CP), self._pull()
        if gradient <= self._rounding():
            return 0.0
        return gradient / pull if pull > 0 else math.inf

    def doubt(self) -> float:
        """How far the error may be off, as the products round."""
        pull = self._pull()
        return self._rounding() / pull if pull > 0 else math.inf

    def advance(self) -> bool:
        """One iteration (a mutator); whether there was a way down, beyond rounding."""
        pull_CP = self.metric.penalty_P * self.weight_CP
        direction_CP = -self._times_inverse_hessian(self._gradient_CP)
        step_CN = self._inputs.outputs(direction_CP)
        line = _Line(
            self._loss,
            self._outputs_CN,
            step_CN,
            start=_dot(pull_CP, direction_CP),
            bend=_dot(self.metric.penalty_P * direction_CP, direction_CP),
        )
        first = _dot(self._slopes_CN, step_CN)
        if first + line.start >= 0:
            return False
        length, self._outputs_CN, slopes_CN = line.search(first)
        turned = _dot(slopes_CN, step_CN) - first
        self.metric.follow(turned / length * step_CN.shape[1] / _dot(step_CN, step_CN))
        moved_CP = length * direction_CP
        self.weight_CP, self._slopes_CN = self.weight_CP + moved_CP, slopes_CN
        before_CP, self._gradient_CP = self._gradient_CP, self._gradient()
        self._remember(moved_CP, self._gradient_CP - before_CP)
        return True

    def _pull(self) -> float:
        return _norm(self.metric.penalty_P * self.weight_CP)

    def _rounding(self) -> float:
        return ROUNDING * self._inputs.rounding * self._inputs.size * _norm(self._slopes_CN)

    def _gradient(self) -> Tensor:
        of_loss_CP = self._inputs.gradient(self._slopes_CN)
        # A softmax's slopes add up to 0. Rounding would move all outputs alike, which nothing but
        # the penalty minds: it would take long to get back.
        if _norm(self._slopes_CN.sum(0)) <= 1e-12 * _norm(self._slopes_CN):
            of_loss_CP -= of_loss_CP.mean(0)
        return of_loss_CP + self.metric.penalty_P * self.weight_CP

    def _remember(self, moved_CP: Tensor, change_CP: Tensor) -> None:
        product = _dot(moved_CP, change_CP)
        if product > 0:  # always, but for rounding: the loss is convex
            pair = _Pair(moved_CP, change_CP, 1 / product)
            self._memory = [*self._memory, pair][-MEMORY:]

    def _times_inverse_hessian(self, gradient_CP: Tensor) -> Tensor:
        """The two loops."""
        left = gradient_CP
        shares = []
        for pair in reversed(self._memory):
            shares.append(pair.rho * _dot(pair.moved_CP, left))
            left = left - shares[-1] * pair.change_CP
        found = self.metric.divide(left)
        for pair, share in zip(self._memory, reversed(shares), strict=True):
            found = found + (share - pair.rho * _dot(pair.change_CP, found)) * pair.moved_CP
        return found


@final
@dataclass(frozen=True)
class _Pair:
    """A step, the gradient's change over it, and one over their product."""

    moved_CP: Tensor
    change_CP: Tensor
    rho: float


@final
@dataclass(frozen=True)
class _Line:
    """The penalised loss along a step, whose slope rises, as the loss is convex.

    Attributes:
        loss: of outputs.
        outputs_CN: at the start.
        step_CN: by which they change.
        start: the penalty's slope at the start.
        bend: the change of that over the step.
    """

    loss: Loss
    outputs_CN: Tensor
    step_CN: Tensor
    start: float
    bend: float

    def search(self, slope: float) -> tuple[float, Tensor, Tensor]:
        """Where it is much flatter: share of the step, outputs, their loss's gradient.

        Args:
            slope: of the loss alone, at the start; with the penalty's it is below 0.
        """
        first = slope + self.start
        low, slope_low, high, slope_high = 0.0, first, math.inf, math.inf
        length = 1.0
        for tried in range(1, MOST_TRIED + 1):
            outputs_CN = torch.add(self.outputs_CN, self.step_CN, alpha=length)
            slopes_CN = self.loss(outputs_CN)
            here = _dot(slopes_CN, self.step_CN) + self.start + length * self.bend
            if abs(here) <= FLATTER * abs(first) or tried == MOST_TRIED:
                break
            if here > 0:
                high, slope_high = length, here
            else:
                low, slope_low = length, here
            if high < math.inf:
                share = slope_low / (slope_low - slope_high)
                length = low + (high - low) * min(max(share, 0.1), 0.9)
            else:
                length *= 4.0
        return length, outputs_CN, slopes_CN


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _norm(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a))
