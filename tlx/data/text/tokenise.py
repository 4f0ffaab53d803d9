"""Texts to token ids, all of a split at once."""

import functools
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from tokenizers import Encoding, Tokenizer, pre_tokenizers
from torch import Tensor

from tlx.data.text.spec import Text, TextSpec
from tlx.methods.spelling import Spelling

AT_ONCE = 2000
"""Texts that are tokenised together: their results are large while they last."""

SPELLED_UNIT = 1e-4
"""Nats, in which `spelled` is counted."""
BYTES = "ByteLevel"

WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\s\u3400-\u9fff\uf900-\ufaff]+")
"""What counts as a word: what blanks part, and each Chinese character."""
UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Characters of Chinese and Japanese, which no blank parts from the next."""


@final
@dataclass(frozen=True)
class Ragged:
    """Sequences of several lengths, end to end.

    Attributes:
        values: of all, one after the other.
        ends: where each begins, and the end of the last: one more than there are.
    """

    values: Tensor
    ends: Tensor

    def of(self, index: int) -> Tensor:
        """One sequence."""
        start, end = self.ends[index : index + 2].tolist()
        return self.values[start:end]

    def part(self, index: int, start: int, end: int) -> Tensor:
        """A slice of one sequence, without a look at the rest of it."""
        first, last = self.ends[index : index + 2].tolist()
        return self.values[min(first + start, last) : min(first + end, last)]

    def length(self, index: int) -> int:
        """Of one sequence."""
        first, last = self.ends[index : index + 2].tolist()
        return int(last - first)

    @property
    def lengths(self) -> list[int]:
        """Of each sequence."""
        found: list[int] = self.ends.diff().tolist()
        return found


@final
@dataclass
class Rows:
    """Sequences that are added one by one, at four bytes a number."""

    numbers: "array[int]" = field(default_factory=lambda: array("i"))
    lengths: list[int] = field(default_factory=lambda: [0])

    def add(self, row: Sequence[int]) -> None:
        """Adds a sequence to this."""
        self.numbers.extend(row)
        self.lengths.append(len(row))

    def ragged(self) -> Ragged:
        """All of them."""
        ends = torch.tensor(self.lengths).cumsum(0)
        if not self.numbers:
            return Ragged(torch.empty(0, dtype=torch.int32), ends)
        return Ragged(torch.frombuffer(self.numbers, dtype=torch.int32), ends)


@final
@dataclass(frozen=True)
class Tokens:
    """The tokens of a split's texts.

    Attributes:
        parts: `input_ids`; `token_type_ids` where the network takes them; `words` (position of
            each word's first token, -1 where it was cut off) for tasks of words; `characters` and
            `word_starts` (counts of each token) for language models, and `spelled` (what the
            characters cost that a token does not tell, in nats / SPELLED_UNIT) where it may do so.
        truncated: texts that lost their end.
    """

    parts: Mapping[str, Ragged]
    truncated: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return self.parts["input_ids"].lengths

    def of(self, index: int) -> dict[str, Tensor]:
        """The parts of one text, int64."""
        return {name: part.of(index).long() for name, part in self.parts.items()}

    def counts(self, spec: TextSpec) -> dict[str, int]:
        """Tokens, unknown ones, and texts that lost their end."""
        ids = self.parts["input_ids"].values
        unknown = spec.unknown_id
        return {
            "tokens": len(ids),
            "unknown": 0 if unknown is None else int((ids == unknown).sum()),
            "truncated": self.truncated,
        }


def tokenised(inputs: Sequence[Text], spec: TextSpec) -> Tokens:
    """The tokens of texts, pairs of texts, or lists of words.

    Args:
        inputs: of a split's items.
        spec: what the network reads. Language models read whole texts: no token is put around
            them, and none is cut off.

    Raises:
        ValueError: `max_length` leaves no room for a text.
    """
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    whole = spec.unit == "token"
    if not whole:
        pair = bool(inputs) and isinstance(inputs[0], tuple)
        room = tokenizer.num_special_tokens_to_add(pair)
        if spec.max_length <= room:
            raise ValueError(
                f"backbone.max_length={spec.max_length} is no more than the {room} tokens that "
                "the tokenizer puts around a text; raise it"
            )
        tokenizer.enable_truncation(spec.max_length)
    rows: dict[str, Rows] = {"input_ids": Rows()}
    truncated = 0
    spelling = Spelling(spec.spelling) if spec.spelling else None
    unknown = _unknown(spec.tokenizer) if spelling else (None, "")
    filler = next((i for i in (spec.unknown_id, spec.eos_id) if i is not None), 0)
    for item, encoding in _encodings(tokenizer, inputs, spec):
        truncated += bool(encoding.overflowing)
        ids = encoding.ids or ([] if whole else [filler])
        rows["input_ids"].add(ids)
        if spec.type_ids:
            rows.setdefault("token_type_ids", Rows()).add(encoding.type_ids or [0] * len(ids))
        if spec.unit == "word":
            rows.setdefault("words", Rows()).add(_first_tokens(encoding, len(item)))
        if whole:
            characters, starts = _extents(item, encoding)
            rows.setdefault("characters", Rows()).add(characters)
            rows.setdefault("word_starts", Rows()).add(starts)
            if spelling:
                costs = _spelled(item, encoding, spelling, unknown)
                rows.setdefault("spelled", Rows()).add(costs)
    return Tokens({name: each.ragged() for name, each in rows.items()}, truncated)


def special_ids(tokenizer: str) -> list[int]:
    """Ids of tokens that stand for no text."""
    added = Tokenizer.from_str(tokenizer).get_added_tokens_decoder()
    return sorted(number for number, token in added.items() if token.special)


@functools.lru_cache(maxsize=4)
def around(tokenizer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that a tokenizer puts before a text, and after it."""
    made = Tokenizer.from_str(tokenizer)
    made.no_padding()
    made.no_truncation()
    entries = sorted(made.get_vocab(with_added_tokens=False))
    # a text of which something is left: some vocabularies drop what they do not know
    for text in ("a", *entries[:: max(len(entries) // 50, 1)]):
        found = made.encode(text)
        inner = [place for place, special in enumerate(found.special_tokens_mask) if not special]
        if inner:
            return tuple(found.ids[: inner[0]]), tuple(found.ids[inner[-1] + 1 :])
    return tuple(found.ids), ()


def tells_all(tokenizer: str) -> bool:
    """Whether a tokenizer has tokens for whatever a text holds: those of all bytes."""
    content = json.loads(tokenizer)
    model = content["model"]
    vocabulary = model.get("vocab", {})
    known = set(vocabulary) if isinstance(vocabulary, dict) else {entry for entry, _ in vocabulary}
    if model.get("byte_fallback"):
        return known >= {f"<0x{byte:02X}>" for byte in range(256)}
    spelled = json.dumps([content["pre_tokenizer"], content["normalizer"]])
    return BYTES in spelled and known >= set(pre_tokenizers.ByteLevel.alphabet())


def _unknown(tokenizer: str) -> tuple[int | None, str]:
    """Id and content of the token that stands for what a tokenizer does not know, if any does."""
    model = json.loads(tokenizer)["model"]
    if model.get("unk_id") is not None:
        return model["unk_id"], model["vocab"][model["unk_id"]][0]
    content = model.get("unk_token") or ""
    return Tokenizer.from_str(tokenizer).token_to_id(content), content


def _spelled(
    text: str, encoding: Encoding, spelling: Spelling, unknown: tuple[int | None, str]
) -> list[int]:
    """What it costs, at each token, to spell what no token tells, in SPELLED_UNIT.

    Those are the unknown words, and what a tokenizer drops without a word. Blanks are free, but
    where a blank is what is unknown.
    """
    costs: list[int] = []
    before = 0
    for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        hidden = text[before:start].split()
        if number == unknown[0] and (piece := text[max(start, before) : end]) != unknown[1]:
            hidden += piece.split() or ([piece] if piece else [])
        costs.append(_cost(hidden, spelling))
        before = max(before, end)
    if costs:
        costs[-1] += _cost(text[before:].split(), spelling)
    return costs


def _cost(words: Sequence[str], spelling: Spelling) -> int:
    return round(sum(map(spelling.nats, words)) / SPELLED_UNIT) if words else 0


def _encodings(
    tokenizer: Tokenizer, inputs: Sequence[Text], spec: TextSpec
) -> Iterator[tuple[Any, Encoding]]:
    words = spec.unit == "word"
    spaced = words and "ByteLevel" in json.dumps(json.loads(spec.tokenizer)["pre_tokenizer"])
    for start in range(0, len(inputs), AT_ONCE):
        part = inputs[start : start + AT_ONCE]
        given = [_spaced(row) for row in part] if spaced else part
        found = tokenizer.encode_batch(
            list(given), is_pretokenized=words, add_special_tokens=spec.unit != "token"
        )
        yield from zip(part, found, strict=True)


def _spaced(words: Sequence[str]) -> list[str]:
    """Words as byte-level vocabularies know them: by the blank before them.

    Beside a Chinese character there is none: it would be a token of its own, and the word's first.

    >>> _spaced(["a", "cat", "在", "北", "京"])
    ['a', ' cat', '在', '北', '京']
    """
    before = ["", *words][: len(words)]
    return [
        f" {word}" if i and not (UNSPACED.match(word[:1]) or UNSPACED.match(last[-1:])) else word
        for i, (word, last) in enumerate(zip(words, before, strict=True))
    ]


def _first_tokens(encoding: Encoding, words: int) -> list[int]:
    """Position of each word's first token; -1 where there is none."""
    found = [-1] * words
    for place, word in enumerate(encoding.word_ids):
        if word is not None and found[word] < 0:
            found[word] = place
    return found


def _extents(text: str, encoding: Encoding) -> tuple[list[int], list[int]]:
    """Characters of each token, with the blanks before it, and words that begin in it.

    Their sums are those of the text: the last token takes what follows it.
    """
    ends: list[int] = []
    for _, end in encoding.offsets:
        ends.append(max(end, ends[-1] if ends else 0))
    if not ends:
        return [], []
    ends[-1] = len(text)
    bounds = torch.tensor([0, *ends])
    starts = torch.tensor([match.start() for match in WORD.finditer(text)])
    return bounds.diff().tolist(), torch.searchsorted(starts, bounds).diff().tolist()
