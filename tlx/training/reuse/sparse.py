"""Sparse features of a linear head, which are solved on without being filled in.

Shapes: N items, D features, P numbers of an input (features and a one, for the bias), C outputs.
"""

import math
from typing import final

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor


@final
class Sparse:
    """A sparse matrix [N, D] as `Centred` inputs; its products are scipy's.

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
            ValueError: there are none, or one is not finite.
        """
        if 0 in features.shape:
            raise ValueError(f"features {features.shape}; give a matrix [N, D]")
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
