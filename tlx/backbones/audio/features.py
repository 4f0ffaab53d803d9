"""What networks of sound give heads: of whole recordings, or one a frame."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Features

Inputs = Tensor | Mapping[str, Tensor]
"""Of one length, or padded with a mask; see `tlx.data.audio.inputs.AudioInputs`."""


def pooled_frames(module: nn.Module, inputs: Inputs) -> Features:
    """Features of whole recordings."""
    return Features(pooled=module(inputs))


def frames(module: nn.Module, inputs: Inputs) -> Features:
    """Features one a frame."""
    states = module(inputs)
    return Features(tokens=states, mask=real_frames(inputs, states))


def sound_of(inputs: Inputs) -> Tensor:
    """Waves [N, S] or frames [N, T, W]."""
    return inputs if isinstance(inputs, Tensor) else inputs["sound"]


def real_frames(inputs: Inputs, states: Tensor) -> Tensor:
    """Which of the frames [N, T, ...] are of a recording [N, T]; all where there is no padding."""
    if not isinstance(inputs, Tensor):
        return inputs["real"]
    return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
