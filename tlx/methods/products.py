"""What a linear layer's inputs are multiplied with: a matrix, or what stands for one.

Shapes: N items, D features, P numbers of an input (features and a one, for the bias), C outputs.
"""

from typing import Protocol, final

import torch
from torch import Tensor


class LinearInputs(Protocol):
    """Inputs [N, P] of a linear layer, as far as L-BFGS needs them."""

    @property
    def size(self) -> float:
        """Their norm."""

    @property
    def rounding(self) -> float:
        """The relative error of their products' numbers."""

    def outputs(self, weight_CP: Tensor) -> Tensor:
        """Outputs [C, N] of a weight, float64."""

    def gradient(self, slopes_CN: Tensor) -> Tensor:
        """The weight's gradient [C, P], float64, of the outputs' gradient."""


class Centred(LinearInputs, Protocol):
    """Inputs of features [N, D] that are centred, and scaled by one number, in the products alone.

    In float64. What is mostly zeros is not filled in by it.
    """

    @property
    def mean_D(self) -> Tensor:
        """Of each feature."""

    @property
    def scale(self) -> float:
        """Of centred features, the root of their mean square; 1 where that is 0."""

    @property
    def curvature_P(self) -> Tensor:
        """Mean square of each number of the inputs."""


@final
class Dense:
    """A matrix [N, P]; products are in its own precision."""

    def __init__(self, inputs_NP: Tensor) -> None:
        self._inputs_NP = inputs_NP
        self.size = float(torch.linalg.vector_norm(inputs_NP))
        self.rounding = torch.finfo(inputs_NP.dtype).eps

    def outputs(self, weight_CP: Tensor) -> Tensor:
        """See `LinearInputs`."""
        return (weight_CP.to(self._inputs_NP.dtype) @ self._inputs_NP.T).double()

    def gradient(self, slopes_CN: Tensor) -> Tensor:
        """See `LinearInputs`."""
        return (slopes_CN.to(self._inputs_NP.dtype) @ self._inputs_NP).double()
