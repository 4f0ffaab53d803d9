"""What all text networks share: reading at words, one module around the library's network.

Shapes: N items, T tokens, W words, D features. A mask [N, T] is True where a token is real; padding
may stand on either side.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Features

UNITS = ("pooled", "word", "token")
Inputs = Mapping[str, Tensor]
Run = Callable[..., tuple[Tensor, Tensor | None]]
"""(network, inputs) -> hidden states [N, T, D], and the network's own pooled output, if any.

With virtual tokens, these as `prompt` too; the states are those of the texts alone.
"""


class Virtual(Protocol):
    """Virtual tokens before every text (`tlx.backbones.transformers.prompts`)."""

    tokens: int

    def given(self, model: Any, ids: Tensor) -> dict[str, Any]:
        """What the network is given in place of token ids [N, T]."""


@final
class TextNetwork(nn.Module):
    """A network of some library, giving one tensor: what a head of the task's unit reads."""

    def __init__(
        self, model: nn.Module, run: Run, *, unit: str, pooling: nn.Module | None = None
    ) -> None:
        """Keeps the parts.

        Args:
            model: the library's network; parameters are named `model.*`.
            run: calls it.
            unit: `pooled`, `word` or `token`.
            pooling: (hidden [N, T, D], mask [N, T]) -> [N, D]; None: the network's own.

        Raises:
            ValueError: the unit is unknown.
        """
        super().__init__()
        if unit not in UNITS:
            raise ValueError(f"unit={unit!r}; give one of {', '.join(UNITS)}")
        self.model = model
        self.pooling = pooling if unit == "pooled" else None
        self.prompt: nn.Module | None = None
        self.unit = unit
        self.run = run

    def forward(self, inputs: Inputs) -> Tensor:
        """[N, D] for `pooled`, [N, W, D] for `word` (zeros where cut off), [N, T, D] for `token`.

        Args:
            inputs: `input_ids` [N, T], `attention_mask` [N, T], `token_type_ids` where the network
                takes them, `words` [N, W] for the unit `word`.
        """
        virtual = {} if self.prompt is None else {"prompt": self.prompt}
        hidden, own = self.run(self.model, inputs, **virtual)
        if self.unit == "token":
            return hidden
        if self.unit == "word":
            return at_words(hidden, inputs["words"])
        if self.pooling is not None:
            pooled: Tensor = self.pooling(hidden, inputs["attention_mask"].bool())
            return pooled
        if own is None:
            raise ValueError("the network gives no pooled output of its own; choose a pooling")
        return own


@final
class TiedLinear(nn.Module):
    """A linear layer whose weight is another module's parameter: it goes by that name alone."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        """Keeps the weight out of this module's parameters."""
        super().__init__()
        self._tied = (weight,)
        self.bias: nn.Parameter | None
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> nn.Parameter:
        """The other module's."""
        return self._tied[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of states [..., D]."""
        return nn.functional.linear(hidden, self.weight, self.bias)


def at_words(hidden: Tensor, words: Tensor) -> Tensor:
    """States [N, W, D] at the words' positions [N, W]; zeros where the position is below 0."""
    rows = torch.arange(len(hidden), device=hidden.device).unsqueeze(1)
    found = hidden[rows, words.clamp(min=0)]
    return found.masked_fill((words < 0).unsqueeze(-1), 0.0)


def pooled(module: nn.Module, inputs: Inputs) -> Features:
    """Features of a batch for tasks that read one vector an item."""
    return Features(pooled=module(inputs))


def words(module: nn.Module, inputs: Inputs) -> Features:
    """Features of a batch for tasks that read one vector a word."""
    return Features(tokens=module(inputs), mask=inputs["words"] >= 0)


def tokens(module: nn.Module, inputs: Inputs) -> Features:
    """Features of a batch for tasks that read one vector a token."""
    return Features(tokens=module(inputs), mask=inputs["attention_mask"].bool())


def features_of(unit: str) -> Callable[[nn.Module, Inputs], Features]:
    """The function that fills the features of a unit."""
    return {"pooled": pooled, "word": words, "token": tokens}[unit]


def dims_of(unit: str, width: int, *, pooling: str = "mean") -> dict[str, int]:
    """The widths that a backbone states for a unit, from that of a token."""
    if unit != "pooled":
        return {"tokens": width}
    return {"pooled": 3 * width if pooling == "concat" else width}
