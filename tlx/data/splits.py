"""Splits: what every source of data gives, whatever its modality."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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


@dataclass(frozen=True)
class Splits:
    """Train, val, test and any number of named extra evaluation sets.

    Attributes:
        train: what is fitted; `val`: what selection looks at; `test`: opened once, at the end.
        extra: further evaluation sets, reported beside test.
        source: which of them is of what the network comes from: it is evaluated before the first
            step too, as `NAME_before`, so that forgetting is seen; None: none is.
        labels: what the targets are.
        encoder: (input_spec, augmentations, train) -> function from a raw sample to one whose input
            is encoded, best one that says what it depends on (`tlx.data.encoder.Encoder`);
            it draws randomness from torch's and Python's global generators only, which the
            loader seeds by sample id and epoch.
        collate: inputs of encoded samples -> those of a batch.
        fingerprint: hash of the content of all splits (ids, targets, inputs).
        label_changing: names of augmentations that change this data's labels (`horizontal_flip`).
        notes: for the record: quarantined files, duplicates between splits, subset sizes.
        prepare: from the backbone's input spec to the same Splits made ready for it (texts are
            tokenised once); None where nothing is to be done.
        shown: from a raw input to what shows it, a line of text or an image; None: nothing does.
        texts: the training texts, from which a backbone may learn its vocabulary.
        bucketed: whether a batch is made of items of like length; the training split then has
            `lengths`, one number an item.
    """

    train: Split
    val: Split
    test: Split
    labels: Labels
    encoder: Callable[[Mapping[str, Any], Sequence[Any], bool], Encode]
    collate: Callable[[Sequence[Any]], Any]
    fingerprint: str
    extra: Mapping[str, Split] = field(default_factory=dict)
    source: str | None = None
    label_changing: frozenset[str] = frozenset()
    notes: Mapping[str, Any] = field(default_factory=dict)
    prepare: "Callable[[Mapping[str, Any]], Splits] | None" = None
    texts: Callable[[], Iterable[str]] | None = None
    bucketed: bool = False
    shown: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        """Refuses evaluation sets whose names cannot be names of files, whoever made them.

        Raises:
            ValueError: there are some.
        """
        check_extra(self.extra)
