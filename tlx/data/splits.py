"""Splits: what every source of data gives; and who makes inputs of it, whatever its modality."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tlx.data.augment import Augmentation
from tlx.data.inputs import S
from tlx.data.split_names import check_extra

Sample = dict[str, Any]
"""`id` (str), `input`, `target`: raw (a PIL image, a text, ...), or encoded (tensors)."""

Batch = dict[str, Any]
"""Collated: `index` [N] int64 (position in the split), `input`, `target`."""

SOURCE = "source"
"""Name of the extra set that is of what the network comes from, where a dataset has one."""

IGNORED = -100
"""Target where nothing is asked: of padding, of tokens that are not predicted."""

Encode = Callable[[Sample], Sample]


class Split(Protocol):
    """A map-style dataset of raw samples with stable ids."""

    @property
    def ids(self) -> Sequence[str]:
        """Unique and stable."""

    @property
    def targets(self) -> Sequence[Any]:
        """Raw targets, in the same order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Labels:
    """What the targets are.

    Attributes:
        kind: `single` (class index), `multi` (0/1 vector), `real` (float vector), `tags` (a class
            index a word), `text` (the text itself is what is learnt).
        names: of classes, of tags, or of the regressed quantities; none for `text`.
    """

    kind: str
    names: tuple[str, ...]


class Unreadable(ValueError):
    """An item that cannot be read rightly; the message says why."""


class Encoder(Protocol):
    """A function from raw to encoded samples that says what its outputs depend on.

    A plain function does as well; what is computed of its outputs is then never stored.
    """

    @property
    def random(self) -> bool:
        """Whether it draws, from torch's and Python's global generators only.

        The loader seeds these by sample id and epoch.
        """

    def __call__(self, sample: Sample) -> Sample:
        """The sample with its input encoded."""

    def facts(self) -> Mapping[str, object]:
        """All that its outputs depend on beside the sample, as `described` can take it.

        Encoders of one class whose facts are equal give equal outputs for equal samples and draws.
        """


@dataclass(frozen=True)
class Padding:
    """How inputs of several lengths are made one batch.

    Attributes:
        lengths: of a fitted split's items.
        pad: the inputs of a batch at another length: what is added is masked, what is too much is
            cut off at the side of padding.
        mask: [N, T] of a batch's inputs, True where they are real.
        left: whether padding comes first.
        buckets: whether a batch is made of items of like length.
    """

    lengths: Callable[[Split], Sequence[int]]
    pad: Callable[[Any, int], object]
    mask: Callable[[Any], Tensor]
    left: bool = False
    buckets: bool = True


class Inputs(Protocol[S]):
    """What goes in: who makes a network's inputs of one modality's raw items.

    The spec is what the network reads, of the modality's own class.
    """

    @property
    def modality(self) -> str:
        """That of the specs that it can serve."""

    def learn(self, spec: S, corpus: Callable[[], Iterable[str]]) -> S:
        """The spec, with what must be known of the training items to make inputs; often itself."""

    def fit(self, spec: S, splits: "Splits") -> "Splits":
        """The same splits made ready for a network: texts tokenised, say; often themselves.

        Raises:
            ValueError: the network reads something that these items have not.
        """

    def encoder(self, spec: S, augmentations: Sequence[Augmentation], *, train: bool) -> Encode:
        """From a raw sample of a fitted split to one whose input is encoded; best an `Encoder`."""

    def collate(self, spec: S, inputs: Sequence[Any]) -> object:
        """The inputs of a batch, from those of encoded samples."""

    def padding(self, spec: S) -> Padding | None:
        """How they are padded; None where all have one shape."""

    def example(self, spec: S, *, items: int, device: torch.device) -> object:
        """Inputs of a batch of the right shapes, whatever they hold."""

    def read(
        self, spec: S, given: Iterable[str | Path], *, dataset: Mapping[str, object], folder: Path
    ) -> Split:
        """What a finished run is to predict, as a fitted split whose targets are None.

        An item that turns out bad when it is asked for raises `Unreadable`.

        Args:
            spec: what the network reads.
            given: files, folders, or what else the modality takes.
            dataset: the node of the run's data, which says how files are read.
            folder: of the run.

        Raises:
            FileNotFoundError: something is not there.
            ValueError: there is nothing to predict, or it is not of the kind.
        """

    def shown(self, raw: Any) -> object:
        """What shows a raw input: a line of text, or an image; None: nothing does."""

    def columns(self, raw: Any) -> Mapping[str, str]:
        """What of a raw input stands beside what is predicted of it."""

    def corpus(self, split: Split) -> Iterable[str]:
        """A raw split's inputs in the form that a vocabulary is learnt from; none for most."""


@dataclass(frozen=True)
class Fitted:
    """A parent for splits made ready item by item: an item is called, keyed and asked as it was.

    Attributes:
        raw: the split that it was made of.
    """

    raw: Split

    @property
    def ids(self) -> Sequence[str]:
        """Those of the raw split."""
        return self.raw.ids

    @property
    def targets(self) -> Sequence[object]:
        """Those of the raw split."""
        return self.raw.targets

    @property
    def keys(self) -> Sequence[str]:
        """Hashes of the items' contents; none where they are not known."""
        hashes: Sequence[str] = getattr(self.raw, "keys", ())
        return hashes

    def __len__(self) -> int:
        """Number of items."""
        return len(self.raw)

    def __getitem__(self, index: int) -> Sample:
        """The raw sample at a position."""
        return self.raw[index]


def raw_of(split: Split) -> Split:
    """The split that a fitted one was made of; itself where it was not."""
    raw: Split = getattr(split, "raw", split)
    return raw


def inputs_of(spec: S) -> Inputs[S]:
    """The inputs that a spec names."""
    module, _, name = spec.made_by.rpartition(".")
    inputs: Inputs[S] = getattr(importlib.import_module(module), name)
    return inputs


@dataclass(frozen=True)
class Splits:
    """Train, val, test and any number of named extra evaluation sets.

    Attributes:
        train: what is fitted; `val`: what selection looks at; `test`: opened once, at the end.
        extra: further evaluation sets, reported beside test.
        source: which of them is of what the network comes from: it is evaluated before the first
            step too, as `NAME_before`, so that forgetting is seen; None: none is.
        labels: what the targets are.
        inputs: makes a network's inputs of the items.
        fingerprint: hash of the content of all splits (ids, targets, inputs).
        notes: for the record: quarantined files, duplicates between splits, subset sizes.
    """

    train: Split
    val: Split
    test: Split
    labels: Labels
    inputs: Inputs[Any]
    fingerprint: str
    extra: Mapping[str, Split] = field(default_factory=dict)
    source: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, Split]:
        """All of them by name."""
        return {"train": self.train, "val": self.val, "test": self.test, **self.extra}

    def __post_init__(self) -> None:
        """Refuses evaluation sets whose names cannot be names of files, whoever made them.

        Raises:
            ValueError: there are some.
        """
        check_extra(self.extra)
