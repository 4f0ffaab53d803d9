"""Windows on texts, for language models: what is read, what is asked, what it weighs.

A window never reaches into another text: nothing of one text predicts another.
Shapes: T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from tlx.data.splits import IGNORED
from tlx.data.tokenise import Tokens, around


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
    """

    tokens: Tokens
    places: Sequence[tuple[int, int, int, int]]
    names: Sequence[tuple[int, int]]
    before: tuple[int, ...]
    after: tuple[int, ...]
    causal: bool

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each window."""
        more = 0 if self.causal else len(self.before) + len(self.after)
        return [end - start + more for _, start, end, _ in self.places]

    def of(self, index: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Inputs and target of a window; of masked models the labels are yet to be chosen."""
        text, start, end, first = self.places[index]
        # without an end token before the text, its first token is read and never asked
        late = int(self.causal and not self.before)
        own = (first + late, end + late)
        target: dict[str, Any] = {
            "characters": float(self._part("characters", text, *own).sum()),
            "words": float(self._part("word_starts", text, *own).sum()),
        }
        if not self.causal:
            piece = self._part("input_ids", text, start, end)
            window = self._around(self.before, piece, self.after)
            return _inputs(window, self.tokens), {**target, "labels": window}
        # one token more than is read: each is asked after the one before it
        shift, length = len(self.before), self.tokens.parts["input_ids"].length(text)
        piece = self._around(
            self.before[start : end + 1],
            self._part("input_ids", text, max(start - shift, 0), end + 1 - shift),
            self.after[: max(end + 1 - shift - length, 0)],
        )
        labels = piece[1:].clone()
        labels[: first - start] = IGNORED
        return _inputs(piece[:-1], self.tokens), {**target, "labels": labels}

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


def windows(tokens: Tokens, spec: Mapping[str, Any], *, evaluated: bool) -> Windows:
    """Cuts texts into windows.

    Causal models read `block` tokens, and predict each one's successor; a text begins after the
    end of another, and its own end is predicted as well. In evaluation windows overlap: each token
    is asked once, with `block - stride` or more before it, but at a text's beginning. Masked models
    read windows side by side, with the tokens around them that they were trained with.

    Args:
        tokens: of the texts.
        spec: `objective`, `block`, `stride`, `eos_id`, `tokenizer`, `max_length`.
        evaluated: whether windows overlap.

    Raises:
        ValueError: a block is longer than the network can read.
    """
    block, causal = spec["block"], spec["objective"] == "causal"
    if block > spec["max_length"]:
        raise ValueError(
            f"task.block={block} is more than backbone.max_length={spec['max_length']}; lower it"
        )
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    if causal:
        end = spec.get("eos_id")
        before = after = () if end is None else (int(end),)
        size, stride = block, spec["stride"] if evaluated else block
    else:
        first_ids, last_ids = around(spec["tokenizer"])
        before, after = tuple(first_ids), tuple(last_ids)
        size = stride = block - len(before) - len(after)
    if size < 1:
        raise ValueError(f"task.block={block} leaves no room for the text; raise it")
    places, names = [], []
    for text, length in enumerate(tokens.lengths):
        # with an end on both sides there is one more to predict than the text has; with none, less
        count = length + (1 if before else -1) if causal else length
        for number, (start, stop, first) in enumerate(_cut(count, size, stride)):
            places.append((text, start, stop, first))
            names.append((text, number))
    return Windows(tokens, places, names, before, after, causal)


def _cut(count: int, size: int, stride: int) -> list[tuple[int, int, int]]:
    """Start, end and first asked position of windows on `count` positions.

    >>> _cut(10, 4, 4)
    [(0, 4, 0), (4, 8, 4), (8, 10, 8)]
    >>> _cut(8, 4, 2)
    [(0, 4, 0), (2, 6, 4), (4, 8, 6)]
    """
    if count < 1:
        return []
    found = [(0, min(size, count), 0)]
    while found[-1][1] < count:
        asked = found[-1][1]
        end = min(asked + stride, count)
        found.append((max(end - size, 0) if stride < size else asked, end, asked))
    return found
