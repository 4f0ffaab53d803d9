"""Checks that tasks share; each error names what is wrong and how to mend it."""

import math
from collections.abc import Sequence

from tlx.data.splits import Labels


def check_labels(labels: Labels, *, kind: str, least: int) -> None:
    """Raises ValueError unless the labels are of this kind and at least so many."""
    if labels.kind != kind:
        raise ValueError(
            f"labels are of kind {labels.kind!r}, this task needs {kind!r}; choose another task, "
            "or another dataset"
        )
    if len(labels.names) < least:
        raise ValueError(
            f"labels.names={list(labels.names)}; at least {least} needed; check the dataset"
        )


def some_labels(kind: str, count: int) -> Labels:
    """So many labels, two at least, where it does not matter what they are."""
    return Labels(kind, tuple(str(number) for number in range(max(count, 2))))


def check_weights(
    name: str, weights: Sequence[float] | None, labels: Labels
) -> tuple[float, ...] | None:
    """The weights as a tuple; ValueError unless there is one a label, none negative, some > 0."""
    if weights is None:
        return None
    numbers = tuple(float(weight) for weight in weights)
    if len(numbers) != len(labels.names):
        raise ValueError(
            f"{name} has {len(numbers)} values; one for each of the "
            f"{len(labels.names)} labels is needed"
        )
    if not all(math.isfinite(w) and w >= 0 for w in numbers) or sum(numbers) == 0:
        raise ValueError(f"{name}={list(numbers)}; finite values from 0 up, not all 0")
    return numbers


def check_smoothing(smoothing: float) -> None:
    """Raises ValueError unless the smoothing lies in [0, 1)."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing={smoothing}; it lies in [0, 1), 0.1 say")
