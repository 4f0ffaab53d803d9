"""How the training of a run may end early, with all that it needs to go on saved."""

from tlx.base.interrupts import REQUESTS


class Interrupted(Exception):
    """Training stopped at a step boundary, after a checkpoint, because it was asked to."""

    def __init__(self, reason: str) -> None:
        """From here on further signals wait until the run's end is recorded."""
        REQUESTS.mode, REQUESTS.raised = "hold", False
        super().__init__(reason)


class Pruned(Exception):
    """Training stopped after a validation, and a checkpoint, because its search gave it up."""


class Divided(RuntimeError):
    """Out of memory on one of several ranks: all go on from the last checkpoint, in more parts."""
