"""Augmentations (stub: being written)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Augmentation:
    """One augmentation."""

    name: str
    kind: Literal["geometry", "sample", "tensor", "batch"]
    make: Callable[..., Any]
    deterministic: bool = False
