"""What all text networks share: pooling, reading at words, one module around the library's network.

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
class Pooling(nn.Module):
    """One vector an item from its tokens; only `attention` has parameters, `score.*`."""

    def __init__(self, kind: str, width: int) -> None:
        """Looks up the kind.

        Args:
            kind: a key of POOLINGS, or `attention`.
            width: of a token.

        Raises:
            ValueError: the kind is unknown.
        """
        super().__init__()
        if kind != "attention" and kind not in POOLINGS:
            raise ValueError(f"pooling={kind!r}; give one of {', '.join([*POOLINGS, 'attention'])}")
        self.kind = kind
        if kind == "attention":
            self.score = nn.Linear(width, 1, bias=False)  # softmax ignores a bias
            # all tokens weigh the same at first: the mean
            nn.init.zeros_(self.score.weight)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[N, D] from [N, T, D] and its mask; [N, 3 D] for `concat`."""
        if self.kind != "attention":
            return POOLINGS[self.kind](hidden, mask)
        scores: Tensor = self.score(hidden)
        share = scores.squeeze(-1).masked_fill(~mask, float("-inf")).softmax(dim=1)
        return torch.einsum("nt,ntd->nd", share, _real(hidden, mask))


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


def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first real token's state [N, D]: `[CLS]` where a tokenizer puts it there."""
    return _at(hidden, mask.long().argmax(dim=1))


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last real token's state [N, D]: the only one that a decoder shows the whole text."""
    return _at(hidden, mask.long().cumsum(dim=1).argmax(dim=1))


def mean_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of the real tokens' states [N, D]."""
    return _real(hidden, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def concatenated(hidden: Tensor, mask: Tensor) -> Tensor:
    """Last, maximum and mean of the real tokens' states, [N, 3 D].

    Source: Howard and Ruder 2018, "Universal Language Model Fine-tuning", 1801.06146, section 3.3.
    """
    most = hidden.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(dim=1)
    return torch.cat([last_token(hidden, mask), most, mean_token(hidden, mask)], dim=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": first_token,
    "last": last_token,
    "mean": mean_token,
    "concat": concatenated,
}


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


def _real(hidden: Tensor, mask: Tensor) -> Tensor:
    """States with zeros at padding, whatever stood there."""
    return hidden.masked_fill(~mask.unsqueeze(-1), 0.0)


def _at(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), index]
