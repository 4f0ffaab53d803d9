"""What a linear layer's inputs are multiplied with: dense, or sparse and never filled in.

Shapes: N items, D features, P numbers of an input (features and a one, for the bias), C outputs.
"""

import math
from typing import Protocol, final

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor


class Inputs(Protocol):
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


@final
class Dense:
    """A matrix [N, P]; products are in its own precision."""

    def __init__(self, inputs_NP: Tensor) -> None:
        self._inputs_NP = inputs_NP
        self.size = float(torch.linalg.vector_norm(inputs_NP))
        self.rounding = torch.finfo(inputs_NP.dtype).eps

    def outputs(self, weight_CP: Tensor) -> Tensor:
        """See `Inputs`."""
        return (weight_CP.to(self._inputs_NP.dtype) @ self._inputs_NP.T).double()

    def gradient(self, slopes_CN: Tensor) -> Tensor:
        """See `Inputs`."""
        return (slopes_CN.to(self._inputs_NP.dtype) @ self._inputs_NP).double()


@final
class Sparse:
    """Sparse features [N, D], centred and scaled in the products alone, and a one; in float64.

    Attributes:
        mean_D: of each feature.
        scale: one number for all: of centred features, the root of their mean square.
        size: norm of all inputs.
        rounding: of float64.
        curvature_P: mean square of each number of the inputs.
    """

    def __init__(self, features: csr_array) -> None:
        """Sums up the features.

        Raises:
            ValueError: one is not finite.
        """
        self._features = csr_array(features, dtype=np.float64)
        self._turned = self._features.T.tocsr()  # as many numbers again, and twice as fast
        items = self._features.shape[0]
        square_D = np.asarray(self._features.power(2).sum(axis=0)).ravel() / items
        self.mean_D = torch.from_numpy(np.asarray(self._features.mean(axis=0)).ravel())
        spread_D = (torch.from_numpy(square_D) - self.mean_D.square()).clamp(min=0)
        self.scale = float(spread_D.mean().sqrt())
        if not math.isfinite(self.scale):
            raise ValueError("features are not all finite; look at the data and at the backbone")
        self.scale = self.scale or 1.0
        self.curvature_P = torch.cat([spread_D / self.scale**2, spread_D.new_ones(1)])
        self.size = math.sqrt(items * float(self.curvature_P.sum()))
        self.rounding = torch.finfo(torch.float64).eps

    def outputs(self, weight_CP: Tensor) -> Tensor:
        """See `Inputs`."""
        weight_CD = weight_CP[:, :-1] / self.scale
        products_NC = torch.from_numpy(self._features @ weight_CD.T.contiguous().numpy())
        return products_NC.T + (weight_CP[:, -1] - weight_CD @ self.mean_D)[:, None]

    def gradient(self, slopes_CN: Tensor) -> Tensor:
        """See `Inputs`."""
        products_DC = torch.from_numpy(self._turned @ slopes_CN.T.contiguous().numpy())
        sums_C1 = slopes_CN.sum(1, keepdim=True)
        return torch.cat([(products_DC.T - sums_C1 * self.mean_D) / self.scale, sums_C1], dim=1)
