"""Heads: small networks from a backbone's features to a task's outputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from tlx.backbones.backbone import Backbone, Features

MOMENTUM = 0.1
"""Of a norm's statistics, torch's default."""


@final
class LinearHead(nn.Module):
    """Dropout and one linear layer on the pooled features; parameters `linear.weight`, `.bias`.

    Attributes:
        norm: batch norm before both, where `add_norm` put one.
    """

    norm: nn.BatchNorm1d | None

    def __init__(
        self, width: int, outputs: int, *, dropout: float = 0.0, bias: bool = True
    ) -> None:
        """A head with torch's own initialisation.

        Args:
            width: of the pooled features.
            outputs: how many numbers an item gets.
            dropout: probability of dropping a feature in training.
            bias: whether the layer has one.

        Raises:
            ValueError: dropout outside [0, 1), or no outputs.
        """
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}; it lies in [0, 1)")
        if outputs < 1:
            raise ValueError(f"outputs={outputs}; the labels must name at least one")
        self.norm = None
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs, bias=bias)

    def forward(self, features: Features) -> Tensor:
        """Outputs [N, outputs] from features with `pooled` [N, width]."""
        if features.pooled is None:
            raise ValueError("features.pooled is missing; this head needs one vector an item")
        outputs: Tensor = self.linear(self.dropout(self._normed(features.pooled)))
        return outputs

    def _normed(self, pooled: Tensor) -> Tensor:
        norm = self.norm
        if norm is None:
            return pooled
        if self.training and len(pooled) == 1:  # one item has no variance
            return F.batch_norm(pooled, norm.running_mean, norm.running_var, eps=norm.eps)
        if self.training and norm.momentum is not None:
            # the zeros and ones of the start are no statistics: the first batches are averaged
            seen = int(norm.num_batches_tracked or 0)
            norm.momentum = max(MOMENTUM, 1 / (seen + 1))
        normed: Tensor = norm(pooled)
        return normed


def add_norm(head: nn.Module) -> None:
    """Gives a linear head batch norm of its inputs (a mutator).

    The norm has no weights of its own: the linear layer has them.

    Raises:
        ValueError: the head reads no pooled features.
    """
    if not isinstance(head, LinearHead):
        raise ValueError(
            f"regularization.head_norm is for one vector an item, and this task's head is "
            f"{type(head).__name__}; leave it out"
        )
    head.norm = nn.BatchNorm1d(head.linear.in_features, affine=False, momentum=MOMENTUM)


def without_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state with its head's norm, if there is one, made part of the linear layer.

    In eval mode the outputs are the same: there the norm is a linear map.
    """
    kept = {name: value for name, value in state.items() if not name.startswith("head.norm.")}
    if len(kept) < len(state):
        mean, var = (state[f"head.norm.running_{name}"].double() for name in ("mean", "var"))
        weight, bias = state["head.linear.weight"], state["head.linear.bias"]
        folded = weight.double() * (var + nn.BatchNorm1d(1).eps).rsqrt()
        kept["head.linear.weight"] = folded.to(weight.dtype)
        kept["head.linear.bias"] = (bias.double() - folded @ mean).to(bias.dtype)
    return kept


def linear_head(backbone: Backbone, outputs: int, *, dropout: float) -> LinearHead:
    """A linear head that fits the backbone."""
    if "pooled" not in backbone.dims:
        raise ValueError(
            f"the backbone gives {sorted(backbone.dims)} and no pooled features; "
            "choose one that does, or a task that reads tokens"
        )
    width, bias = backbone.dims["pooled"], backbone.head_bias
    return LinearHead(width, outputs, dropout=dropout, bias=bias)


@final
class TokenHead(nn.Module):
    """Dropout and one linear layer on each of an item's vectors; parameters as of LinearHead."""

    def __init__(self, width: int, outputs: int, *, dropout: float = 0.0) -> None:
        """A head with torch's own initialisation; arguments and errors as of LinearHead."""
        super().__init__()
        inner = LinearHead(width, outputs, dropout=dropout)
        self.dropout, self.linear = inner.dropout, inner.linear

    def forward(self, features: Features) -> Tensor:
        """Outputs [N, T, outputs] from features with `tokens` [N, T, width]."""
        outputs: Tensor = self.linear(self.dropout(_tokens(features)))
        return outputs


@final
class LanguageHead(nn.Module):
    """Dropout and a backbone's own language-model head, `lm`."""

    def __init__(self, lm: nn.Module, *, dropout: float = 0.0) -> None:
        """Wraps a module from features to logits."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lm = lm

    def forward(self, features: Features) -> Tensor:
        """Logits [N, T, vocabulary] from features with `tokens` [N, T, width]."""
        dropped = replace(features, tokens=self.dropout(_tokens(features)))
        logits: Tensor = self.lm(dropped)
        return logits


def _tokens(features: Features) -> Tensor:
    if features.tokens is None:
        raise ValueError("features.tokens is missing; this head needs one vector a token")
    return features.tokens
