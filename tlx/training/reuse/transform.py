"""How items become inputs, and all that this depends on: what stored activations are known by."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tlx.data.encoder import Undescribed, described, source_of
from tlx.data.splits import Encode, Split, Splits
from tlx.training.loaders import MakeInputs

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "tokenizers", "pillow", "numpy")


@dataclass(frozen=True)
class Transform:
    """How an item of a split becomes the network's input.

    Attributes:
        encode: raw to encoded sample.
        seed: of its random draws; None: it draws none.
        facts: all that it depends on, as plain data; None: it cannot be known.
        why_unknown: a sentence for the log, where there are no facts.
    """

    encode: Encode
    seed: int | None
    facts: Mapping[str, object] | None
    why_unknown: str = ""


def draws(encode: Encode) -> bool:
    """Whether a sample may be another in each epoch: what does not say so may."""
    return bool(getattr(encode, "random", True))


def transform(encode: Encode, *, seed: int | None, collate: MakeInputs) -> Transform:
    """An encoder with what it says of itself.

    Args:
        encode: raw to encoded sample.
        seed: of its random draws, None where it draws none.
        collate: makes the inputs of a batch.
    """
    try:
        return Transform(encode, seed, _facts(encode, collate))
    except Undescribed as reason:
        return Transform(encode, seed, None, str(reason))


def _facts(encode: Encode, collate: MakeInputs) -> dict[str, object]:
    """What inputs depend on beside the items: encoder, its source, collate, libraries.

    Raises:
        Undescribed: that cannot be known.
    """
    ask = getattr(encode, "facts", None)
    told = ask() if callable(ask) else None
    kind = type(encode)
    if told is None:
        name = getattr(encode, "__name__", kind.__name__)
        raise Undescribed(
            f"the data's encoder {name!r} does not say what its outputs depend on (it has no "
            "facts(), see docs/performance.md)"
        )
    try:
        parts = {"facts": described(told), "collate": described(collate)}
    except Undescribed as reason:
        raise Undescribed(
            f"what the data's encoder does cannot be told in full: {reason}"
        ) from None
    return {
        "encoder": f"{kind.__module__}.{kind.__qualname__}",
        "source": source_of(kind),
        "versions": _versions(),
        **parts,
    }


def item_keys(split: Split, splits: Splits) -> list[str]:
    """A hash of each item's content; its id and the whole data's hash where none is known.

    Images that nobody has looked at yet are looked at: the data's hash may rest on a sample.
    """
    known: Sequence[str] = getattr(split, "keys", ())
    if len(known) != len(split.ids):
        known = [""] * len(split.ids)
    look = getattr(split, "key_of", None)
    if look is not None:
        return [key or look(index) for index, key in enumerate(known)]
    return [
        key or hashlib.sha256(f"{splits.fingerprint}\n{name}".encode()).hexdigest()
        for key, name in zip(known, split.ids, strict=True)
    ]


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
