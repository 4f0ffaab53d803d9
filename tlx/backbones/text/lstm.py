"""AWD-LSTM: LSTM layers whose dropout leaves the recurrence intact, and the tied output.

Source: Merity et al. 2018, "Regularizing and Optimizing LSTM Language Models", 1708.02182, without
its averaging and activation penalties, and with larger embeddings at the start. Shapes: N items, T
tokens, D features, H hidden units.
"""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlx.backbones.backbone import Features
from tlx.backbones.text import network as text

EMBEDDING_STD = 0.4
"""The output is tied to the embeddings: at Merity's ±0.1 all logits of a narrow model start near 0,
and hundreds of steps pass before it learns more than how often tokens occur."""


@final
class AwdLstm(nn.Module):
    """Embeddings and LSTM layers, left to right; the state is zero before each text."""

    def __init__(
        self, rows: int, *, embedding: int, width: int, layers: int, rates: dict[str, float]
    ) -> None:
        """Draws the weights.

        Args:
            rows: of the vocabulary.
            embedding: width of embeddings and of the last layer.
            width: of the other layers.
            layers: how many.
            rates: of dropout: `embedding`, `input`, `layer`, `weight`.
        """
        super().__init__()
        self.rates = dict(rates)
        self.embedding = nn.Embedding(rows, embedding)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        sizes = [embedding, *[width] * (layers - 1), embedding]
        self.layers = nn.ModuleList(
            DroppedLstm(before, after, dropout=rates["weight"]) for before, after in pairwise(sizes)
        )
        between = [rates["input"], *[rates["layer"]] * (layers - 1)]
        self.drops = nn.ModuleList(LockedDropout(rate) for rate in between)

    def forward(self, ids: Tensor) -> Tensor:
        """States [N, T, D] of token ids [N, T]; each depends on no later token."""
        hidden: Tensor = self.embedding(ids)
        if self.training and self.rates["embedding"] > 0:
            kept = F.dropout(
                torch.ones(self.embedding.num_embeddings, 1, device=ids.device),
                self.rates["embedding"],
            )
            hidden = hidden * kept[ids].to(hidden.dtype)
        for drop, layer in zip(self.drops, self.layers, strict=True):
            hidden = layer(drop(hidden))
        return hidden

    def grow(self, rows: int) -> None:
        """Adds embeddings up to a number of rows, each the mean of those there are (a mutator)."""
        old = self.embedding
        if rows <= old.num_embeddings:
            return
        new = nn.Embedding(rows, old.embedding_dim)
        with torch.no_grad():
            new.weight[: old.num_embeddings] = old.weight
            new.weight[old.num_embeddings :] = old.weight.mean(dim=0)
        self.embedding = new


@final
class DroppedLstm(nn.Module):
    """One LSTM layer whose recurrent weights are dropped in training, the same for all steps.

    The parameter is the whole weight; what is dropped is a copy of each step's.
    """

    def __init__(self, before: int, after: int, *, dropout: float) -> None:
        """Draws the weights as `nn.LSTM` does, under its names less the layer's number."""
        super().__init__()
        self.dropout = dropout
        self.weight_ih = nn.Parameter(torch.empty(4 * after, before))
        self.weight_hh = nn.Parameter(torch.empty(4 * after, after))
        self.bias_ih = nn.Parameter(torch.empty(4 * after))
        self.bias_hh = nn.Parameter(torch.empty(4 * after))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(after**-0.5), after**-0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        """States [N, T, H] of inputs [N, T, D]."""
        recurrent = F.dropout(self.weight_hh, self.dropout, self.training)
        start = hidden.new_zeros(1, len(hidden), recurrent.shape[1])
        given = [self.weight_ih, recurrent, self.bias_ih, self.bias_hh]
        # layers 1, dropout between layers 0, one direction, batch first
        out: Tensor = torch.lstm(
            hidden, (start, start), given, True, 1, 0.0, self.training, False, True
        )[0]
        return out


@final
class LockedDropout(nn.Module):
    """Dropout of features, the same at each position of a text (Gal and Ghahramani 2016)."""

    def __init__(self, rate: float) -> None:
        """Keeps the rate."""
        super().__init__()
        self.rate = rate

    def forward(self, hidden: Tensor) -> Tensor:
        """The states [N, T, D], in training with some features zero in all of an item."""
        if not self.training or self.rate == 0:
            return hidden
        ones = torch.ones_like(hidden[:, :1], requires_grad=False)
        return hidden * F.dropout(ones, self.rate)


@final
class TiedOutput(nn.Module):
    """Logits of the vocabulary at each token, by the embeddings' own weights."""

    def __init__(self, model: AwdLstm) -> None:
        """Adds a bias of zeros; the weight goes by the embeddings' name alone."""
        super().__init__()
        weight = model.embedding.weight
        assert isinstance(weight, nn.Parameter)
        self.drop = LockedDropout(model.rates["output"])
        self.output = text.TiedLinear(weight, nn.Parameter(weight.new_zeros(len(weight))))

    def forward(self, features: Features) -> Tensor:
        """Logits [N, T, V] from features with `tokens` [N, T, D]."""
        if features.tokens is None:
            raise ValueError("features.tokens is missing; a language model reads every token")
        logits: Tensor = self.output(self.drop(features.tokens))
        return logits


def run(model: nn.Module, inputs: text.Inputs) -> tuple[Tensor, None]:
    """Calls the network; padding on the right changes no state before it."""
    return model(inputs["input_ids"]), None
