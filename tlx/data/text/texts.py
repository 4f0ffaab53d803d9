"""From the texts of a source to its Splits."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.items import Medium, Pool
from tlx.data.splits import Labels, Splits
from tlx.data.text.inputs import TextInputs
from tlx.data.text.near import near_texts
from tlx.data.text.spec import Text

MEDIUM = Medium("text", "a text", near_texts, "but for case, blanks and punctuation")


def text_pool(ids: Sequence[str], inputs: Sequence[Text], targets: Sequence[object]) -> Pool:
    """Texts with their targets, and keys computed."""
    return Pool(ids, targets, [text_key(text) for text in inputs], inputs, marks=inputs)


def text_key(text: Text) -> str:
    """A hash of a text.

    >>> text_key("a b") == text_key("a b"), text_key(("a", "b")) == text_key("a b")
    (True, False)
    """
    return hashlib.blake2b(json.dumps(text).encode(), digest_size=16).hexdigest()


def from_texts(
    pools: Mapping[str, Pool],
    labels: Labels,
    *,
    draw: Draw,
    length_buckets: bool = True,
    notes: Mapping[str, object] | None = None,
    source: str | None = None,
) -> Splits:
    """The Splits of a source of texts; they are tokenised when a backbone's spec is known.

    Args:
        pools: `train`, and where the source has them `val`, `test` and extra evaluation sets.
        labels: what the targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        length_buckets: whether training batches are made of texts of like length.
        notes: of the source, for the record.
        source: which extra set is of what the network comes from, see `Splits`.

    Raises:
        ValueError: a split is empty, targets do not fit the labels, or there are too few texts.
    """
    return divide(
        pools,
        labels,
        draw=draw,
        medium=MEDIUM,
        inputs=TextInputs(length_buckets),
        notes=notes,
        source=source,
    )
