"""Heads: small networks from a backbone's features to a task's outputs."""

from typing import final

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone, Features


@final
class LinearHead(nn.Module):
    """Dropout and one linear layer on the pooled features; parameters `linear.weight`, `.bias`."""

    def __init__(self, width: int, outputs: int, *, dropout: float = 0.0) -> None:
        """A head with torch's own initialisation.

        Args:
            width: of the pooled features.
            outputs: how many numbers an item gets.
            dropout: probability of dropping a feature in training.

        Raises:
            ValueError: dropout outside [0, 1), or no outputs.
        """
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}; it lies in [0, 1)")
        if outputs < 1:
            raise ValueError(f"outputs={outputs}; the labels must name at least one")
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs)

    def forward(self, features: Features) -> Tensor:
        """Outputs [N, outputs] from features with `pooled` [N, width]."""
        if features.pooled is None:
            raise ValueError("features.pooled is missing; this head needs one vector an item")
        outputs: Tensor = self.linear(self.dropout(features.pooled))
        return outputs


def linear_head(backbone: Backbone, outputs: int, *, dropout: float) -> LinearHead:
    """A linear head that fits the backbone."""
    if "pooled" not in backbone.dims:
        raise ValueError(
            f"the backbone gives {sorted(backbone.dims)} and no pooled features; "
            "choose one that does, or a task that reads tokens"
        )
    return LinearHead(backbone.dims["pooled"], outputs, dropout=dropout)
