"""Texts made ready for a backbone: tokenised once, encoded, padded.

Shapes: N items, T tokens, W words.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from tlx.data.augment import Augmentation
from tlx.data.splits import Sample, Split, Splits
from tlx.data.text import token_files
from tlx.data.text.masking import Masking
from tlx.data.text.tokenise import Tokens, tells_all, tokenised
from tlx.data.text.windows import Windows, windows
from tlx.methods.spelling import learn

LOG = logging.getLogger(__name__)


def prepare(splits: Splits, spec: Mapping[str, Any], *, buckets: bool = True) -> Splits:
    """The same splits, tokenised for a backbone; results are kept on disk for the next time.

    Args:
        splits: of texts: strings, pairs of strings, or lists of words.
        spec: the backbone's `input_spec`, with what the task adds.
        buckets: whether training batches are made of texts of like length.

    Raises:
        ValueError: the task reads something that these texts have not.
    """
    kind = splits.labels.kind
    spec = with_spelling(spec, splits.texts)
    wanted = {"tags": "word", "text": "token"}.get(kind, "pooled")
    if spec["unit"] != wanted:
        raise ValueError(
            f"the data has labels of kind {kind!r}, and the task reads one vector a "
            f"{spec['unit']}; choose another task (tlx list task)"
        )
    named = {"train": splits.train, "val": splits.val, "test": splits.test, **splits.extra}
    made = {name: _ready(split, spec, evaluated=name != "train") for name, split in named.items()}
    counts = {name: split.tokens.counts(spec) for name, split in made.items()}
    _warn(counts, spec)
    rest = {name: split for name, split in made.items() if name not in ("train", "val", "test")}
    return replace(
        splits,
        train=made["train"],
        val=made["val"],
        test=made["test"],
        extra=rest,
        prepare=None,
        collate=partial(collate, pad_id=spec["pad_id"], left=spec["padding_side"] == "left"),
        bucketed=buckets,
        notes={**splits.notes, "tokens": counts},
    )


def with_spelling(
    spec: Mapping[str, Any], texts: Callable[[], Iterable[str]] | None
) -> Mapping[str, Any]:
    """The spec of a language model, with what unknown words cost, learnt from training texts.

    Args:
        spec: the backbone's `input_spec`, with what the task adds.
        texts: of training; None: they are not at hand.
    """
    charged = spec.get("objective") == "causal" and not spec.get("spelling")
    if not charged or texts is None or tells_all(spec["tokenizer"]):
        return spec
    return {**spec, "spelling": learn(texts())}


def encoded(
    split: Split, spec: Mapping[str, Any]
) -> tuple[list[Sample], Callable[[Sequence[Any]], Any]]:
    """Samples of a split whose inputs a network reads, and how those of a batch are made of them.

    Args:
        split: of texts.
        spec: the backbone's `input_spec`, with what the task adds.
    """
    made = Tokenised(raw=split, tokens=tokenised(_inputs(split), spec))
    _warn({"those given": made.tokens.counts(spec)}, spec)
    encode = encoder(spec, [], False)
    left = spec["padding_side"] == "left"
    return [encode(made[index]) for index in range(len(made))], partial(
        collate, pad_id=spec["pad_id"], left=left
    )


def _ready(split: Split, spec: Mapping[str, Any], *, evaluated: bool) -> "Tokenised | WindowedText":
    tokens = token_files.kept(split, spec, make=lambda: tokenised(_inputs(split), spec))
    if spec["unit"] != "token":
        return Tokenised(raw=split, tokens=tokens)
    cut = windows(tokens, spec, evaluated=evaluated)
    if not len(cut) and len(split):
        raise ValueError(
            f"the texts {', '.join(split.ids[:3])}, ... are too short: there is no token to predict"
        )
    return WindowedText(raw=split, tokens=tokens, windows=cut)


def _inputs(split: Split) -> list[Any]:
    return [split[index]["input"] for index in range(len(split))]


def _warn(counts: Mapping[str, Mapping[str, int]], spec: Mapping[str, Any]) -> None:
    cut = {name: each["truncated"] for name, each in counts.items() if each["truncated"]}
    if cut:
        shown = ", ".join(f"{count} of {name}" for name, count in cut.items())
        LOG.warning(
            "texts longer than backbone.max_length=%d tokens lose their ends: %s",
            spec["max_length"],
            shown,
        )


@final
@dataclass(frozen=True)
class Tokenised:
    """A split of texts as token ids.

    Attributes:
        raw: the split that it was made of.
        tokens: of its items, in order.
    """

    raw: Split
    tokens: Tokens

    @property
    def ids(self) -> Sequence[str]:
        """Those of the raw split."""
        return self.raw.ids

    @property
    def targets(self) -> Sequence[Any]:
        """Those of the raw split."""
        return self.raw.targets

    @property
    def keys(self) -> Sequence[str]:
        """Hashes of the items' texts."""
        found: Sequence[str] = getattr(self.raw, "keys", ())
        return found

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each item."""
        return self.tokens.lengths

    def __len__(self) -> int:
        """Number of items."""
        return len(self.raw.ids)

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
    def targets(self) -> Sequence[Any]:
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


def encoder(
    spec: Mapping[str, Any], augmentations: Sequence[Augmentation], train: bool
) -> "TextEncoder":
    """The function from tokenised to encoded samples.

    Args:
        spec: the backbone's `input_spec`, with what the task adds.
        augmentations: of kind `tokens`, applied in training only.
        train: whether this is for training.

    Raises:
        ValueError: the backbone takes no texts, or an augmentation is none of texts.
    """
    if spec.get("kind") != "text":
        raise ValueError(f"this data holds texts, the backbone takes {spec.get('kind')!r}")
    wrong = [each.name for each in augmentations if each.kind != "tokens"]
    if wrong:
        raise ValueError(f"augmentation.{wrong[0]} is for images, and the data is texts")
    masking = Masking.of(spec, random=train) if spec.get("objective") == "masked" else None
    changes = tuple(each.make(spec) for each in augmentations) if train else ()
    draws = masking is not None and masking.random
    draws |= train and any(not each.deterministic for each in augmentations)
    return TextEncoder(changes, masking, dict(spec), draws)


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
    spec: Mapping[str, Any]
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

    def facts(self) -> Mapping[str, Any]:
        """All of its parts; its samples' tokens follow from the texts and the spec."""
        return vars(self)


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
