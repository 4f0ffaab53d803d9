"""Hiding tokens from a masked language model. Shapes: T tokens."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.data.splits import IGNORED
from tlx.data.text.spec import TextSpec
from tlx.data.text.tokenise import special_ids
from tlx.methods.order import sample_seed

HIDDEN, RANDOM = 0.8, 0.1
"""Shares of the chosen tokens that are hidden, and replaced by others; the rest stay."""


@final
@dataclass(frozen=True)
class Masking:
    """Chooses tokens that are asked, and hides most of them.

    Attributes:
        rate: share of tokens that are asked.
        mask_id: stands for a hidden one.
        vocabulary: ids are below it.
        special: ids that are never asked.
        random: whether choices are drawn from torch's generator; else they depend on the id alone.

    Source: Devlin et al. 2019, "BERT", section 3.1.
    """

    rate: float
    mask_id: int
    vocabulary: int
    special: Tensor
    random: bool

    @classmethod
    def of(cls, spec: TextSpec, *, random: bool) -> "Masking":
        """As a spec wishes.

        Raises:
            ValueError: the tokenizer has nothing to hide tokens with.
        """
        if spec.mask_id is None:
            raise ValueError(
                "the backbone's tokenizer has no mask token; choose task=language_modeling, or a "
                "backbone of BERT's kind"
            )
        special = torch.tensor(special_ids(spec.tokenizer))
        return cls(spec.mask_rate, spec.mask_id, spec.vocabulary, special, random)

    def __call__(self, ids_T: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Ids with tokens hidden, and labels: the hidden ones, -100 elsewhere."""
        generator = None
        if not self.random:
            generator = torch.Generator().manual_seed(sample_seed(0, 0, f"{name}/mask"))
        draws_T = torch.rand(len(ids_T), generator=generator)
        fates_T = torch.rand(len(ids_T), generator=generator)
        others_T = torch.randint(self.vocabulary, (len(ids_T),), generator=generator)
        free_T = ~torch.isin(ids_T, self.special)
        asked_T = free_T & (draws_T < self.rate)
        if not asked_T.any() and free_T.any():  # a short text would ask nothing
            asked_T[draws_T.masked_fill(~free_T, 2.0).argmin()] = True
        labels_T = ids_T.masked_fill(~asked_T, IGNORED)
        hidden_T = ids_T.masked_fill(asked_T & (fates_T < HIDDEN), self.mask_id)
        replaced_T = asked_T & (fates_T >= HIDDEN) & (fates_T < HIDDEN + RANDOM)
        return torch.where(replaced_T, others_T, hidden_T), labels_T
