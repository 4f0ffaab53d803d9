"""Windows on texts, for language models: what is read, what is asked, what it weighs.

A window never reaches into another text: nothing of one text predicts another.
Shapes: T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.data.splits import IGNORED
from tlx.data.text.spec import TextSpec
from tlx.data.text.tokenise import SPELLED_UNIT, Tokens, around


@final
@dataclass(frozen=True)
class Windows:
    """Windows on the texts of a split.

    Attributes:
        tokens: of the texts.
        places: text, start, end and first position that is asked, in tokens of what is predicted.
        names: text and number of each window.
        before: tokens that are put before a window; of causal models, before the text.
        after: tokens after it.
        causal: whether each token is asked of those before it.
        each: whether causal windows inside a text begin with `before` too.
    """

    tokens: Tokens
    places: Sequence[tuple[int, int, int, int]]
    names: Sequence[tuple[int, int]]
    before: tuple[int, ...]
    after: tuple[int, ...]
    causal: bool
    each: bool = False

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each window."""
        if self.causal:
            return [end - start + len(self._first(start)) for _, start, end, _ in self.places]
        more = len(self.before) + len(self.after)
        return [end - start + more for _, start, end, _ in self.places]

    def of(self, index: int) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Inputs and target of a window; of masked models the labels are yet to be chosen."""
        text, start, end, first = self.places[index]
        # with no token before the text, its first token is read and never asked
        late = int(self.causal and not self.before)
        own = (first + late, end + late)
        target: dict[str, object] = {
            "characters": float(self._part("characters", text, *own).sum()),
            "words": float(self._part("word_starts", text, *own).sum()),
            "spelled": 0.0,
        }
        if "spelled" in self.tokens.parts:
            target["spelled"] = float(self._part("spelled", text, *own).sum()) * SPELLED_UNIT
        if not self.causal:
            piece = self._part("input_ids", text, start, end)
            window = self._around(self.before, piece, self.after)
            return _inputs(window, self.tokens), {**target, "labels": window}
        # one token more than is read: each is asked after the one before it
        last, length = self.before[-1:], self.tokens.parts["input_ids"].length(text)
        shift, ahead = len(last), self._first(start)
        piece = self._around(
            (*ahead, *last[start : end + 1]),
            self._part("input_ids", text, max(start - shift, 0), end + 1 - shift),
            self.after[: max(end + 1 - shift - length, 0)],
        )
        labels = piece[1:].clone()
        labels[: len(ahead) + first - start] = IGNORED
        return _inputs(piece[:-1], self.tokens), {**target, "labels": labels}

    def _first(self, start: int) -> tuple[int, ...]:
        """What a causal window reads before its place in the text; nothing of it is asked."""
        if start == 0:  # the last one is the place itself: it asks for the text's first token
            return self.before[:-1]
        return self.before if self.each else ()

    def _part(self, name: str, text: int, start: int, end: int) -> Tensor:
        """Some tokens of a text, or numbers of them; a text may be the whole corpus."""
        return self.tokens.parts[name].part(text, start, end).long()

    @staticmethod
    def _around(before: Sequence[int], ids: Tensor, after: Sequence[int]) -> Tensor:
        return torch.cat([ids.new_tensor(before), ids, ids.new_tensor(after)])


def _inputs(ids: Tensor, tokens: Tokens) -> dict[str, Tensor]:
    if "token_type_ids" in tokens.parts:
        return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids)}
    return {"input_ids": ids}


def windows(tokens: Tokens, spec: TextSpec, *, evaluated: bool) -> Windows:
    """Cuts texts into windows.

    Causal models read `block` tokens, and predict each one's successor. Where the tokenizer puts
    tokens before a text, every window begins with them, and the text ends with what the tokenizer
    puts after it, if anything. Where it puts none before, a text begins after the end of another,
    and its own end is predicted as well. In evaluation windows overlap: each token is asked once,
    with `block - stride` or more before it, but at a text's beginning. Masked models read windows
    side by side, with the tokens around them that they were trained with.

    Args:
        tokens: of the texts.
        spec: what the network reads.
        evaluated: whether windows overlap.

    Raises:
        ValueError: a block is longer than the network can read, or too short for any text.
    """
    block, causal = spec.block, spec.objective == "causal"
    if block > spec.max_length:
        raise ValueError(
            f"task.block={block} is more than backbone.max_length={spec.max_length}; lower it"
        )
    before, after, each = _ends(spec)
    places, names = [], []
    if causal:
        # a window at a text's beginning has room for one more: its place is the last one before
        inside = block - len(before) if each else block
        outset = block - max(len(before) - 1, 0)
        stride = min(spec.stride, inside) if evaluated else inside
        more = len(after) - (0 if before else 1)
    else:
        inside = outset = stride = block - len(before) - len(after)
        more = 0
    if inside < 1:
        raise ValueError(
            f"task.block={block} leaves no room for the text beside the {len(before) + len(after)} "
            "tokens that the tokenizer puts around it; raise it"
        )
    for text, length in enumerate(tokens.lengths):
        cuts = _cut(length + more, inside, stride, outset=outset)
        for number, (start, stop, first) in enumerate(cuts):
            places.append((text, start, stop, first))
            names.append((text, number))
    return Windows(tokens, places, names, before, after, causal, each)


def _ends(spec: TextSpec) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """What stands before a text and after it, and whether each window begins so."""
    before, after = around(spec.tokenizer)
    if spec.objective != "causal" or (before and spec.begins):
        return before, after, True
    end = spec.eos_id
    ends = () if end is None else (int(end),)
    return ends, ends if before else after or ends, False


def _cut(
    count: int, size: int, stride: int, *, outset: int | None = None
) -> list[tuple[int, int, int]]:
    """Start, end and first asked position of windows on `count` positions.

    Args:
        count: of all positions.
        size: of a window.
        stride: of windows; `size`: side by side.
        outset: size of the first window; None: as the others.

    >>> _cut(10, 4, 4)
    [(0, 4, 0), (4, 8, 4), (8, 10, 8)]
    >>> _cut(8, 4, 2)
    [(0, 4, 0), (2, 6, 4), (4, 8, 6)]
    """
    if count < 1:
        return []
    found = [(0, min(size if outset is None else outset, count), 0)]
    while found[-1][1] < count:
        asked = found[-1][1]
        end = min(asked + stride, count)
        found.append((max(end - size, 0) if stride < size else asked, end, asked))
    return found
