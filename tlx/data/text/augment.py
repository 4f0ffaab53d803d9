"""Augmentations of texts, as token ids. Shapes: T tokens, F of them free: no special ones.

They draw from torch's global generator, which the loader seeds, and change no length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from tlx.data.augment import Augmentation
from tlx.data.text.spec import TextSpec
from tlx.data.text.tokenise import special_ids

MODALITY = "text"
Filler = Literal["mask", "unknown", "pad"]
FILLERS: tuple[Filler, ...] = ("mask", "unknown", "pad")


def word_dropout(*, p: float = 0.1, value: Filler | None = None) -> Augmentation:
    """Hides tokens, each by itself: against leaning on single words.

    Args:
        p: probability for a token.
        value: what stands in its place; None: the first of mask, unknown, pad that the tokenizer
            has.

    Raises:
        ValueError: an argument is out of range.

    Source: Bowman et al. 2016, "Generating Sentences from a Continuous Space", 1511.06349,
        section 3.1; there the token is the unknown one.
    """
    _between("word_dropout", "p", p)
    _known("word_dropout", value)
    return _of_tokens("word_dropout", partial(_dropout, p=p), value)


def word_swap(*, swaps: int = 1) -> Augmentation:
    """Swaps neighbouring tokens: against leaning on word order. Not for tags or language models.

    Args:
        swaps: how many in a text, one after the other.

    Raises:
        ValueError: an argument is out of range.

    Source: Wei and Zou 2019, "EDA", 1901.11196; there any two words, here neighbours.
    """
    if swaps < 1:
        raise ValueError(f"word_swap: swaps={swaps}; give 1 or more")
    return Augmentation("word_swap", "tokens", partial(_swapping, swaps=swaps))


def token_cutoff(
    *, share: float = 0.1, p: float = 1.0, value: Filler | None = None
) -> Augmentation:
    """Hides a span of tokens: the label must follow from the rest of the text.

    Without the paper's consistency loss.

    Args:
        share: of the text's tokens, rounded.
        p: probability for a text.
        value: see `word_dropout`.

    Raises:
        ValueError: an argument is out of range.

    Source: Shen et al. 2020, "A Simple but Tough-to-Beat Data Augmentation Approach for Natural
        Language Understanding and Generation", 2009.13818, span cutoff; there embeddings are 0.
    """
    _between("token_cutoff", "share", share)
    _between("token_cutoff", "p", p)
    _known("token_cutoff", value)
    return _of_tokens("token_cutoff", partial(_cutoff, share=share, p=p), value)


@final
@dataclass(frozen=True)
class TokenChange:
    """A function of token ids [T] that leaves special ones where they are.

    Attributes:
        change: from the free ids [F] to their replacements.
        special: ids that are not free.
    """

    change: Callable[[Tensor], Tensor]
    special: Tensor

    def __call__(self, ids_T: Tensor) -> Tensor:
        """The changed ids, as many."""
        free_T = ~torch.isin(ids_T, self.special)
        changed_T = ids_T.clone()
        changed_T[free_T] = self.change(ids_T[free_T])
        return changed_T


def _of_tokens(name: str, change: Callable[..., Tensor], value: Filler | None) -> Augmentation:
    return Augmentation(name, "tokens", partial(_filling, change=change, name=name, value=value))


def _filling(
    spec: TextSpec, *, change: Callable[..., Tensor], name: str, value: Filler | None
) -> TokenChange:
    """A change that puts a special token in the place of others.

    Raises:
        ValueError: the tokenizer does not have it.
    """
    has = {filler: getattr(spec, f"{filler}_id") for filler in FILLERS}
    there = [filler for filler in FILLERS if has[filler] is not None]
    chosen = value or next(iter(there), None)
    if chosen not in there:
        raise ValueError(
            f"augmentation.{name}.value={value}: the backbone's tokenizer has "
            f"{', '.join(there) or 'none of mask, unknown, pad'}"
        )
    special = torch.tensor(special_ids(spec.tokenizer))
    return TokenChange(partial(change, fill=has[chosen]), special)


def _dropout(ids_F: Tensor, *, p: float, fill: int) -> Tensor:
    return ids_F.masked_fill(torch.rand(len(ids_F)) < p, fill)


def _cutoff(ids_F: Tensor, *, share: float, p: float, fill: int) -> Tensor:
    # both are drawn whether used or not, so that p moves no other draw
    used, place = torch.rand(2).tolist()
    length = round(share * len(ids_F))
    start = int(place * (len(ids_F) - length + 1))
    changed_F = ids_F.clone()
    if used < p:
        changed_F[start : start + length] = fill
    return changed_F


def _swapping(spec: TextSpec, *, swaps: int) -> "Swap":
    """The swaps for a network.

    Raises:
        ValueError: what is asked of a token depends on its place.
    """
    if spec.unit != "pooled":
        raise ValueError(
            f"augmentation.word_swap moves tokens, and the task reads one vector a {spec.unit}: "
            "leave it out"
        )
    return Swap(swaps, torch.tensor(special_ids(spec.tokenizer)))


@final
@dataclass(frozen=True)
class Swap:
    """Swaps neighbours of token ids [T], none of them special.

    Attributes:
        swaps: how many.
        special: ids that stay.
    """

    swaps: int
    special: Tensor

    def __call__(self, ids_T: Tensor) -> Tensor:
        """The changed ids."""
        free_T = ~torch.isin(ids_T, self.special)
        pairs = (free_T[:-1] & free_T[1:]).nonzero()[:, 0]
        changed_T = ids_T.clone()
        for draw in torch.rand(self.swaps).tolist() if len(pairs) else ():
            left = int(pairs[int(draw * len(pairs))])
            changed_T[[left, left + 1]] = changed_T[[left + 1, left]]
        return changed_T


def _between(option: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{option}: {name}={value}; give 0 to 1")


def _known(option: str, value: str | None) -> None:
    if value is not None and value not in FILLERS:
        raise ValueError(f"{option}: value={value!r}; give {', '.join(FILLERS)}, or null")
