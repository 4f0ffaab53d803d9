"""One vector an item from those of its tokens or frames.

Shapes: N items, T tokens, D features. A mask [N, T] is True where a token is real; padding may
stand on either side.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn


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


def _real(hidden: Tensor, mask: Tensor) -> Tensor:
    """States with zeros at padding, whatever stood there."""
    return hidden.masked_fill(~mask.unsqueeze(-1), 0.0)


def _at(hidden: Tensor, index: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), index]
