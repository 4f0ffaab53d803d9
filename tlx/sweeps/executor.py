"""What runs of a study are handed to: this machine, Slurm or Ray, behind one protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Outcome = Literal["finished", "failed", "interrupted", "pruned", "busy", "lost", "apart"]

FINISHED, FAILED, INTERRUPTED, BUSY, PRUNED, LOST, APART = 0, 1, 3, 4, 5, 6, 7
"""Exit statuses of a worker."""

OUTCOMES: dict[int, Outcome] = {
    FINISHED: "finished",
    FAILED: "failed",
    INTERRUPTED: "interrupted",
    BUSY: "busy",
    PRUNED: "pruned",
    LOST: "lost",
    APART: "apart",
}


@dataclass(frozen=True)
class Job:
    """A run whose frozen config lies in its folder.

    Attributes:
        folder: of the run.
        devices: processes on each node.
        nodes: how many nodes.
    """

    folder: Path
    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        folder: of the run.
        outcome: `lost` was killed from outside and may go on; `busy` is trained elsewhere;
            `apart` could not be trained with others as one.
        reason: of a failure that the run's record does not tell.
    """

    folder: Path
    outcome: Outcome
    reason: str | None = None


class Executor(Protocol):
    """Takes jobs, tells how they ended."""

    def room(self, job: Job) -> bool:
        """Whether it can take this job now."""
        ...

    def start(self, job: Job) -> None:
        """Takes a job."""
        ...

    def ended(self, timeout_s: float) -> list[Ended]:
        """What ended since the last call; waits for something up to `timeout_s`."""
        ...

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Asks every job to stop at its next step, and waits until it has saved.

        Args:
            hurry: asked while it waits; once true, jobs are not to save any more.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds; jobs that still run are killed, or left to their cluster."""
        ...
