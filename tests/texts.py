"""Splits of a few texts, and input specs for them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from tlx.backbones.text import vocabulary
from tlx.data.splits import Batch, Labels, Sample, Splits
from tlx.data.targets import KINDS
from tlx.data.text.inputs import TextInputs
from tlx.data.text.spec import TextSpec
from tlx.data.text.stdlib.docs import stdlib_docs
from tlx.training.loaders import Collate, Encoded


@dataclass
class Few:
    """A split in memory."""

    inputs: Sequence[Any]
    targets: Sequence[Any]
    prefix: str = "item"

    @property
    def ids(self) -> list[str]:
        return [f"{self.prefix}{i}" for i in range(len(self.inputs))]

    @property
    def keys(self) -> list[str]:
        return [hashlib.sha256(repr(text).encode()).hexdigest() for text in self.inputs]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        return {
            "id": self.ids[index],
            "input": self.inputs[index],
            "target": self.targets[index],
        }


def splits(train: Few, *, labels: Labels, other: Few | None = None, buckets: bool = True) -> Splits:
    """Splits whose val and test are the same few items."""
    other = other or train
    return Splits(
        train=train,
        val=other,
        test=other,
        labels=labels,
        inputs=TextInputs(buckets),
        fingerprint="few",
    )


def fitted(made: Splits, spec: TextSpec) -> Splits:
    """The same splits, tokenised."""
    return made.inputs.fit(spec, made)


def batch_of(made: Splits, split: Any, places: Sequence[int], encode: Any) -> Batch:
    """A batch as a loader makes it."""
    targets = KINDS[made.labels.kind](made.labels)
    items = Encoded(split, encode, targets=targets, seed=None)
    return Collate(partial(made.inputs.collate, encode.spec), targets)(
        [items[place, 0] for place in places]
    )


def flat(text: Any) -> str:
    return text if isinstance(text, str) else " ".join(text)


def spec(
    texts: Sequence[str], *, unit: str = "pooled", kind: str = "words", **more: Any
) -> TextSpec:
    """A spec with a vocabulary of some texts."""
    causal = more.get("objective") == "causal"
    made = vocabulary.learn(lambda: texts, kind=kind, size=1000, causal=causal)
    ids = vocabulary.special_ids(made, {})
    plain = {
        "tokenizer": made,
        "pad_id": ids.pad,
        "mask_id": ids.mask,
        "eos_id": ids.eos,
        "unknown_id": ids.unknown,
        "vocabulary": vocabulary.size_of(made),
        "max_length": 64,
        "unit": unit,
    }
    return TextSpec(**{**plain, **more})


def with_ends(tokenizer: str, template: str) -> str:
    """A tokenizer that puts `<s>` and `</s>` around a text, as `<s> $A` says."""
    made = Tokenizer.from_str(tokenizer)
    made.add_special_tokens([word for word in template.split() if word != "$A"])
    made.post_processor = processors.TemplateProcessing(
        single=template,
        special_tokens=[(w, made.token_to_id(w)) for w in set(template.split()) - {"$A"}],
    )
    return str(made.to_str())


def alternating(folder: Path, lines: Sequence[str]) -> list[str]:
    """The overrides of a run on lines in a file, every other one of class 0."""
    path = folder / "texts.tsv"
    rows = [f"{i % 2}\t{line}" for i, line in enumerate(lines)]
    path.write_text("\n".join(["label\ttext", *rows]), encoding="utf-8")
    return ["dataset=text_csv", f"dataset.path={path}"]


def written(folder: Path, *, each: int = 20) -> dict[str, list[str]]:
    """Real texts in files: the overrides of a run on their classes, and of one on their language.

    Args:
        folder: that the files go to.
        each: texts of each class.
    """
    made = stdlib_docs(labels_per_class=each)
    items = [made.train[index] for index in range(len(made.train))]
    lines = [" ".join(item["input"].split()) for item in items]
    names = [made.labels.names[item["target"]] for item in items]
    rows = [f"{name}\t{line}" for name, line in zip(names, lines, strict=True)]
    (folder / "texts.tsv").write_text("\n".join(["label\ttext", *rows]), encoding="utf-8")
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    return {
        "classes": [
            *("dataset=text_csv", f"dataset.path={folder / 'texts.tsv'}"),
            "dataset.quoting=none",
        ],
        "language": ["dataset=text_lines", f"dataset.path={folder / 'lines.txt'}", "task.block=32"],
    }
