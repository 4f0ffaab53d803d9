"""Outputs of several heads on the same items, in parts that a CPU's cache holds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tlx.fused.members import Member

OUTPUTS_AT_ONCE = 2**18
"""Outputs that are judged together: with all that is computed of them, still in a CPU's cache."""


def at_once(member: Member, rows: int) -> int:
    """How many runs are judged together that have so many rows of outputs each."""
    outputs = len(list(member.head.parameters())[-1])
    return max(1, OUTPUTS_AT_ONCE // (rows * outputs))


def outputs_of(features: Tensor, heads: Sequence[Sequence[Tensor]]) -> Tensor:
    """Outputs [G, N, C] of linear heads on the same features [N, D]; all have a bias, or none."""
    outputs: Tensor = nn.functional.linear(
        features, *(torch.cat(tensors) for tensors in zip(*heads, strict=True))
    )
    return outputs.view(len(features), len(heads), -1).transpose(0, 1)
