"""Augmentations: what may be done to a training sample without changing its label.

Kinds, in the order in which they act; those of inputs are the modality's own, as:
- `geometry`: make(size, interpolation, label_changing) gives image -> image of that size, in place
  of the evaluation's crop; at most one.
- `sample`: make is image -> image.
- `tensor`: make is tensor -> tensor, after normalisation.
- `batch`: make is (batch with soft targets, generator) -> batch, in the training step.
- `features`: make is (features [N, D], soft targets, generator=) -> both, before the head.

Samples draw from torch's global generator, which the loader seeds.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, final

IN_STEP = ("batch", "features")
"""Kinds that act in the training step, on what the loader gives."""


@final
@dataclass(frozen=True)
class Augmentation:
    """One augmentation.

    Attributes:
        name: of the option.
        kind: when it acts.
        make: see the kinds above.
        deterministic: whether it draws nothing.
    """

    name: str
    kind: str
    make: Callable[..., Any]
    deterministic: bool = False


def check_kinds(augmentations: Sequence[Augmentation], kinds: Collection[str], *, of: str) -> None:
    """Passes augmentations that a modality knows.

    Args:
        augmentations: of a run.
        kinds: that the modality's encoder can apply, or leaves to the training step.
        of: what the items are called, for the message.

    Raises:
        ValueError: one is of another kind.
    """
    for each in augmentations:
        if each.kind not in kinds:
            raise ValueError(
                f"augmentation.{each.name} is none of {of} (kind {each.kind!r}); leave it out"
            )
