"""From the texts of a source to its Splits."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.splits import Labels, Sample, Splits
from tlx.data.text import inputs as tokens

Text = str | tuple[str, str] | list[str]
"""A text, a pair of texts, or the words of one."""

LONGEST_EXCERPT = 300
"""Characters of a text that show it in a line; the data has the whole of it."""


@final
@dataclass(frozen=True)
class Texts:
    """A split of texts.

    Attributes:
        ids: unique and stable.
        targets: class indices, tuples of 0 and 1 or of numbers, tuples of tag indices, or None.
        keys: hashes of the texts.
        inputs: the texts.
    """

    ids: Sequence[str]
    targets: Sequence[Any]
    keys: Sequence[str]
    inputs: Sequence[Text]

    @classmethod
    def of(cls, ids: Sequence[str], inputs: Sequence[Text], targets: Sequence[Any]) -> "Texts":
        """A split with its keys computed."""
        return cls(ids, targets, [text_key(text) for text in inputs], inputs)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The raw sample at a position."""
        return {
            "id": self.ids[index],
            "input": self.inputs[index],
            "target": self.targets[index],
        }

    def take(self, positions: Sequence[int]) -> "Texts":
        """The items at some positions, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in positions],
            targets=[self.targets[i] for i in positions],
            keys=[self.keys[i] for i in positions],
            inputs=[self.inputs[i] for i in positions],
        )

    def without(self, positions: Collection[int]) -> "Texts":
        """The items at all other positions."""
        gone = set(positions)
        return self.take([i for i in range(len(self)) if i not in gone])


def text_key(text: Text) -> str:
    """A hash of a text.

    >>> text_key("a b") == text_key("a b"), text_key(("a", "b")) == text_key("a b")
    (True, False)
    """
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=16).hexdigest()


def from_texts(
    pools: Mapping[str, Texts],
    labels: Labels,
    *,
    draw: Draw,
    drop_duplicates: bool = False,
    length_buckets: bool = True,
    notes: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> Splits:
    """The Splits of a source of texts; they are tokenised when a backbone's spec is known.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        drop_duplicates: remove from training the texts that are in an evaluation split.
        length_buckets: whether training batches are made of texts of like length.
        notes: of the source, for the record.
        source: which extra set is of what the network comes from, see `Splits`.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few texts.
    """
    parts = divide(
        pools, labels, draw=draw, noun="text", drop_duplicates=drop_duplicates, notes=notes
    )
    made = Splits(
        train=parts.train,
        val=parts.val,
        test=parts.test,
        extra=parts.extra,
        source=source,
        labels=labels,
        encoder=tokens.encoder,
        collate=partial(tokens.collate, pad_id=0, left=False),
        fingerprint=parts.fingerprint,
        notes=parts.notes,
        texts=partial(_plain, parts.train.inputs),
        excerpt=excerpt,
    )
    return replace(made, prepare=partial(tokens.prepare, made, buckets=length_buckets))


def excerpt(text: Text) -> str:
    """The beginning of a text, or of each of several, of `LONGEST_EXCERPT` characters in all.

    >>> excerpt("short"), excerpt(("one", "other")), len(excerpt("x" * 1000))
    ('short', 'one ‖ other', 300)
    """
    parts = [text] if isinstance(text, str) else list(text)
    room = LONGEST_EXCERPT // max(len(parts), 1)
    cut = [part if len(part) <= room else f"{part[: room - 1]}…" for part in parts]
    return " ‖ ".join(cut)


def _plain(inputs: Sequence[Text]) -> Iterator[str]:
    """Texts as strings: pairs one after the other, words joined by blanks."""
    for text in inputs:
        if isinstance(text, str):
            yield text
        elif isinstance(text, tuple):
            yield from text
        else:
            yield " ".join(text)
