"""Texts made ready for a backbone: tokenised once, encoded, padded.

Shapes: N items, T tokens, W words.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from tlx.data.augment import Augmentation, check_kinds
from tlx.data.inputs import Spec
from tlx.data.items import Pool
from tlx.data.splits import Fitted, Padding, Sample, Split, Splits, raw_of
from tlx.data.text import token_files
from tlx.data.text.masking import Masking
from tlx.data.text.spec import Text, TextSpec
from tlx.data.text.tokenise import Tokens, tells_all, tokenised
from tlx.data.text.windows import Windows, windows
from tlx.methods.spelling import learn

LOG = logging.getLogger(__name__)


LONGEST_EXCERPT = 300
"""Characters of a text that show it in a line; the data has the whole of it."""


@final
@dataclass(frozen=True)
class TextInputs:
    """Texts, pairs of texts, or lists of words as token ids; see the protocol Inputs.

    Attributes:
        buckets: whether training batches are made of texts of like length.
    """

    buckets: bool = True

    @property
    def modality(self) -> str:
        """See Inputs."""
        return TextSpec.modality

    def learn(self, spec: TextSpec, corpus: Callable[[], Iterable[str]]) -> TextSpec:
        """The spec of a language model with what unknown words cost; others' as they are."""
        if spec.objective != "causal" or spec.spelling or tells_all(spec.tokenizer):
            return spec
        return replace(spec, spelling=learn(corpus()))

    def fit(self, spec: TextSpec, splits: Splits) -> Splits:
        """The same splits, tokenised; results are kept on disk for the next time.

        Raises:
            ValueError: the task reads something that these texts have not.
        """
        kind = splits.labels.kind
        spec = self.learn(spec, partial(self.corpus, splits.train))
        wanted = {"tags": "word", "text": "token"}.get(kind, "pooled")
        if spec.unit != wanted:
            raise ValueError(
                f"the data has labels of kind {kind!r}, and the task reads one vector a "
                f"{spec.unit}; choose another task (tlx list task)"
            )
        fitted = {
            name: _ready(split, spec, evaluated=name != "train")
            for name, split in splits.named.items()
        }
        counts = {name: split.tokens.counts(spec) for name, split in fitted.items()}
        _warn(counts, spec)
        train, val, test = (fitted.pop(name) for name in ("train", "val", "test"))
        notes = {**splits.notes, "tokens": counts}
        return replace(splits, train=train, val=val, test=test, extra=fitted, notes=notes)

    def encoder(
        self, spec: Spec, augmentations: Sequence[Augmentation], *, train: bool
    ) -> "TextEncoder":
        """The function from tokenised to encoded samples.

        Raises:
            ValueError: the backbone takes no texts, or an augmentation is none of texts.
        """
        if not isinstance(spec, TextSpec):
            raise ValueError(f"this data holds texts, the backbone takes {spec.modality!r}")
        check_kinds(augmentations, ("tokens",), of="texts")
        masking = Masking.of(spec, random=train) if spec.objective == "masked" else None
        changes = tuple(each.make(spec) for each in augmentations) if train else ()
        draws = masking is not None and masking.random
        draws |= train and any(not each.deterministic for each in augmentations)
        return TextEncoder(changes, masking, spec, draws)

    @staticmethod
    def collate(spec: TextSpec, inputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The inputs of a batch, padded to its longest text."""
        return collate(inputs, pad_id=spec.pad_id, left=spec.left)

    def padding(self, spec: TextSpec) -> Padding:
        """By tokens."""
        return Padding(
            lengths=_lengths,
            pad=partial(at_length, left=spec.left),
            mask=_mask,
            left=spec.left,
            buckets=self.buckets,
        )

    def example(self, spec: TextSpec, *, items: int, device: torch.device) -> dict[str, Tensor]:
        """Texts of four tokens of id 0."""
        ids = torch.zeros(items, 4, dtype=torch.long, device=device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        inputs = {"input_ids": ids, "attention_mask": mask, "words": ids[:, :1]}
        return {**inputs, "token_type_ids": ids} if spec.type_ids else inputs

    def read(
        self,
        spec: TextSpec,
        given: Iterable[str | Path],
        *,
        dataset: Mapping[str, object],
        folder: Path,
    ) -> "Tokenised":
        """Files, folders and tables of texts; what names no file is a text itself."""
        from tlx.data.text import given as texts

        words = spec.unit == "word"
        known = texts.words_of(folder) if words else ()
        found = texts.texts(given, dataset, words=words, known=known)
        contents = [each.content for each in found]
        nothing = [None] * len(found)
        raw = Pool([each.place for each in found], nothing, [""] * len(found), contents)
        tokens = tokenised(contents, spec)
        _warn({"those given": tokens.counts(spec)}, spec)
        return Tokenised(raw=raw, tokens=tokens)

    def shown(self, raw: Text) -> str:
        """The beginning of a text."""
        return excerpt(raw)

    def columns(self, raw: Text) -> Mapping[str, str]:
        """A text: words with blanks between, of a pair both."""
        if isinstance(raw, tuple):
            return {"text": raw[0], "pair": raw[1]}
        return {"text": raw if isinstance(raw, str) else " ".join(raw)}

    def corpus(self, split: Split) -> Iterator[str]:
        """Texts as strings: pairs one after the other, words joined by blanks."""
        for text in _inputs(split):
            if isinstance(text, str):
                yield text
            elif isinstance(text, tuple):
                yield from text
            else:
                yield " ".join(text)


TEXTS = TextInputs()


def excerpt(text: str | Sequence[str]) -> str:
    """The beginning of a text, or of each of several, of `LONGEST_EXCERPT` characters in all.

    >>> excerpt("short"), excerpt(("one", "other")), len(excerpt("x" * 1000))
    ('short', 'one ‖ other', 300)
    """
    parts = [text] if isinstance(text, str) else list(text)
    room = LONGEST_EXCERPT // max(len(parts), 1)
    cut = [part if len(part) <= room else f"{part[: room - 1]}…" for part in parts]
    return " ‖ ".join(cut)


def _lengths(split: Any) -> Sequence[int]:
    lengths: Sequence[int] = split.lengths
    return lengths


def _mask(inputs: Mapping[str, Tensor]) -> Tensor:
    return inputs["attention_mask"]


def _ready(split: Split, spec: TextSpec, *, evaluated: bool) -> "Tokenised | WindowedText":
    tokens = token_files.kept(split, spec, make=lambda: tokenised(_inputs(split), spec))
    if spec.unit != "token":
        return Tokenised(raw=split, tokens=tokens)
    cut = windows(tokens, spec, evaluated=evaluated)
    if not len(cut) and len(split):
        raise ValueError(
            f"the texts {', '.join(split.ids[:3])}, ... are too short: there is no token to predict"
        )
    return WindowedText(raw=split, tokens=tokens, windows=cut)


def _inputs(split: Split) -> list[Text]:
    raw = raw_of(split)
    return [raw[index]["input"] for index in range(len(raw))]


def _warn(counts: Mapping[str, Mapping[str, int]], spec: TextSpec) -> None:
    cut = {name: each["truncated"] for name, each in counts.items() if each["truncated"]}
    if cut:
        shown = ", ".join(f"{count} of {name}" for name, count in cut.items())
        LOG.warning(
            "texts longer than backbone.max_length=%d tokens lose their ends: %s",
            spec.max_length,
            shown,
        )


@final
@dataclass(frozen=True)
class Tokenised(Fitted):
    """A split of texts as token ids.

    Attributes:
        tokens: of its items, in order.
    """

    tokens: Tokens

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each item."""
        return self.tokens.lengths

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position: `input` holds `input_ids` [T], and what else the unit needs."""
        return {
            "id": self.ids[index],
            "input": self.tokens.of(index),
            "target": self.targets[index],
        }


@final
@dataclass(frozen=True)
class WindowedText:
    """A split of windows on texts, for language models.

    Attributes:
        raw: the split of texts.
        tokens: of the texts.
        windows: on them.
    """

    raw: Split
    tokens: Tokens
    windows: Windows

    @property
    def ids(self) -> Sequence[str]:
        """`text/number` of each window."""
        texts = self.raw.ids
        return [f"{texts[text]}/{number}" for text, number in self.windows.names]

    @property
    def targets(self) -> Sequence[object]:
        """None: what is asked is the text itself."""
        return [None] * len(self.windows)

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each window."""
        return self.windows.lengths

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        """A window: `input_ids` [T]; target `labels` [T], `words`, `characters`, `spelled`."""
        text, number = self.windows.names[index]
        inputs, target = self.windows.of(index)
        return {"id": f"{self.raw.ids[text]}/{number}", "input": inputs, "target": target}


# -- encoding ---------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class TextEncoder:
    """Changes tokens, and hides some for a masked language model.

    Attributes:
        changes: functions of token ids [T], in order.
        masking: of masked language models.
        spec: that the texts were tokenised by.
        random: whether it draws what it changes or hides.
    """

    changes: tuple[Callable[[Tensor], Tensor], ...]
    masking: Masking | None
    spec: TextSpec
    random: bool

    def __call__(self, sample: Sample) -> Sample:
        """The encoded sample."""
        inputs = dict(sample["input"])
        for change in self.changes:
            inputs["input_ids"] = change(inputs["input_ids"])
        if self.masking is None:
            return {**sample, "input": inputs}
        inputs["input_ids"], labels = self.masking(inputs["input_ids"], sample["id"])
        return {**sample, "input": inputs, "target": {**sample["target"], "labels": labels}}

    def facts(self) -> Mapping[str, object]:
        """All of its parts; its samples' tokens follow from the texts and the spec."""
        return {**vars(self), "spec": self.spec.plain()}


def collate(
    inputs: Sequence[Mapping[str, Tensor]], *, pad_id: int, left: bool
) -> dict[str, Tensor]:
    """The inputs of a batch, padded to its longest text.

    Args:
        inputs: of encoded samples.
        pad_id: of padded tokens.
        left: whether padding comes first.
    """
    ids = [each["input_ids"] for each in inputs]
    longest = max(map(len, ids))
    made = {"input_ids": padded(ids, pad_id, left=left)}
    real = [torch.ones(len(each), dtype=torch.bool) for each in ids]
    made["attention_mask"] = padded(real, False, left=left)
    if "token_type_ids" in inputs[0]:
        made["token_type_ids"] = padded([each["token_type_ids"] for each in inputs], 0, left=left)
    if "words" in inputs[0]:
        words = padded([each["words"] for each in inputs], -1, left=False)
        if left:
            short = torch.tensor([longest - len(each) for each in ids])
            words = torch.where(words >= 0, words + short[:, None], words)
        made["words"] = words
    return made


def at_length(inputs: Mapping[str, Tensor], length: int, *, left: bool) -> dict[str, Tensor]:
    """The inputs of a batch, with masked tokens added, or cut off, at the side of padding."""
    more = length - inputs["attention_mask"].shape[1]
    ends = (more, 0) if left else (0, more)
    made = {name: pad(value, ends) for name, value in inputs.items() if name != "words"}
    if "words" in inputs:
        words = inputs["words"] + (more if left else 0)
        made["words"] = torch.where(inputs["words"] < 0, -1, words).clamp(max=length - 1)
    return made


def padded(rows: Sequence[Tensor], value: int | bool, *, left: bool) -> Tensor:
    """Rows of several lengths as one tensor [N, longest]."""
    longest = max(map(len, rows))
    made = rows[0].new_full((len(rows), longest), value)
    for place, row in enumerate(rows):
        if left:
            made[place, longest - len(row) :] = row
        else:
            made[place, : len(row)] = row
    return made
