"""When validation has stopped improving. Standard library only."""

import math
from collections.abc import Mapping
from typing import Any, final


@final
class Plateau:
    """Counts validations without improvement; over after `patience` of them in a row.

    >>> plateau = Plateau(patience=2, min_delta=0.0, mode="max")
    >>> [plateau.update(value) for value in (0.5, 0.6, 0.6, float("nan"))]
    [False, False, False, True]
    """

    def __init__(self, *, patience: int, min_delta: float = 0.0, mode: str = "max") -> None:
        """Starts with no value seen.

        Args:
            patience: validations without improvement, at least 1.
            min_delta: by how much a value must be better to count, in the metric's unit.
            mode: `max` or `min`, what is better.

        Raises:
            ValueError: an argument is out of range.
        """
        if patience < 1:
            raise ValueError(f"patience={patience}; give 1 or more validations")
        if not min_delta >= 0:
            raise ValueError(f"min_delta={min_delta}; give 0 or more")
        _check_mode(mode)
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.best: float | None = None
        self.waited = 0

    @staticmethod
    def improves(value: float, best: float | None, *, mode: str, min_delta: float = 0.0) -> bool:
        """Whether a value is better than the best so far (None: any number is); NaN never is.

        >>> Plateau.improves(0.3, 0.2, mode="min"), Plateau.improves(float("nan"), None, mode="min")
        (False, False)
        """
        _check_mode(mode)
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value > best + min_delta if mode == "max" else value < best - min_delta

    def update(self, value: float) -> bool:
        """Takes the next value (a mutator); True once patience is used up."""
        if self.improves(value, self.best, mode=self.mode, min_delta=self.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain values."""
        return {"best": self.best, "waited": self.waited}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state` (a mutator)."""
        self.best, self.waited = state["best"], state["waited"]


def _check_mode(mode: str) -> None:
    if mode not in ("max", "min"):
        raise ValueError(f"mode={mode!r}; give 'max' or 'min'")
