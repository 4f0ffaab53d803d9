"""How items become inputs, and all that this depends on: what stored activations are known by."""

import hashlib
import importlib.metadata
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tlx.data.splits import Encode, Split, Splits

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "pillow", "numpy")

LONGEST_FACT = 200
"""Longer texts are known by their hash."""


@dataclass(frozen=True)
class Transform:
    """How an item of a split becomes the network's input.

    Attributes:
        encode: raw to encoded sample.
        seed: of its random draws; None: it draws none.
        facts: all that it depends on, as plain data.
    """

    encode: Encode
    seed: int | None
    facts: Mapping[str, Any]


def item_keys(split: Split, splits: Splits) -> list[str]:
    """A hash of each item's content; its id and the whole data's hash where none is known."""
    known: Sequence[str] = getattr(split, "keys", ())
    if len(known) != len(split.ids):
        known = [""] * len(split.ids)
    return [
        key or hashlib.sha256(f"{splits.fingerprint}\n{name}".encode()).hexdigest()
        for key, name in zip(known, split.ids, strict=True)
    ]


def transform_facts(encode: Encode, spec: Mapping[str, Any], nodes: Mapping[str, Any]) -> Any:
    """What an encoder's outputs depend on: input spec, augmentations, its source, libraries."""
    source = inspect.getsourcefile(type(encode)) or ""
    return {
        "input": {key: _short(value) for key, value in spec.items()},
        "augmentation": {name: dict(node) for name, node in nodes.items()},
        "encoder": f"{type(encode).__module__}.{type(encode).__qualname__}",
        "source": _hash_of(source),
        "versions": _versions(),
    }


def _short(value: Any) -> Any:
    """A plain value of an input spec; the hash of a long text, as a tokenizer's."""
    if isinstance(value, str) and len(value) > LONGEST_FACT:
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return list(value) if isinstance(value, tuple) else value


@cache
def _hash_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else ""


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
