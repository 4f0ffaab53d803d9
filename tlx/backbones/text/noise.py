"""Noise on the embeddings of tokens, as a forward hook."""

import math
from typing import final

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.data.text.spec import TextSpec


def add_noise(network: nn.Module, backbone: Backbone, *, alpha: float) -> None:
    """Has a network's token embeddings get uniform noise in training (a mutator).

    Args:
        network: the whole one: its mode tells whether it trains, as frozen embeddings are in eval
            mode throughout.
        backbone: of it.
        alpha: the noise lies within ±alpha / sqrt(T D), for T tokens of D features.

    Raises:
        ValueError: the backbone has no token embeddings.

    Source: Jain et al. 2023, "NEFTune", 2310.05914, algorithm 1; T is the batch's longest text, as
    in transformers.
    """
    table = noise_table(backbone)
    if table is None:
        raise ValueError("noise on token embeddings: the backbone has none")
    table.register_forward_hook(_Noise(network, alpha))


@final
class _Noise:
    """The hook; an object, so that a copied network looks at its own mode."""

    def __init__(self, network: nn.Module, alpha: float) -> None:
        self.network, self.alpha = network, alpha

    def __call__(self, module: nn.Module, args: object, output: Tensor) -> Tensor:
        if not self.network.training:
            return output
        most = self.alpha / math.sqrt(output.shape[1] * output.shape[2])
        return output + torch.zeros_like(output).uniform_(-most, most)


def noise_table(backbone: Backbone) -> nn.Module | None:
    """The embeddings of tokens; None where the backbone has none."""
    reads = backbone.reads
    rows = reads.vocabulary if isinstance(reads, TextSpec) else None
    tables = [
        module
        for module in backbone.module.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == rows
    ]
    return tables[0] if tables else None
