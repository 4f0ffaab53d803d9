"""How long ranks wait for one another before they take one for lost."""

import time
from datetime import timedelta
from typing import final

import pytorch_lightning as pl
import torch.distributed as dist

USUAL_MINUTES = 10.0
"""Of a run that an earlier tlx froze."""

ALONE = 3
"""Times as long while a rank may be at work alone: reading data, judging, writing the end."""


def starting(minutes: float) -> timedelta:
    """How long ranks wait for one another before training, in which nothing is measured yet."""
    return timedelta(minutes=ALONE * minutes)


@final
class Patience(pl.Callback):
    """Sets how long the ranks of a run wait for one another: as asked, or as evaluations need."""

    def __init__(self, minutes: float) -> None:
        """Knows what was asked for, in minutes."""
        self.asked_s = 60.0 * minutes
        self.first_evaluation_s: float | None = None
        self._begun: float | None = None

    @property
    def limit_s(self) -> float:
        """Seconds that ranks wait while training: as asked, or 3 times the first evaluation."""
        return max(self.asked_s, 3 * (self.first_evaluation_s or 0.0))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on all ranks do the same at the same time."""
        wait(self.limit_s)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to measure the first evaluation."""
        self._begun = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Ends the measurement: what follows an evaluation, as a checkpoint, is a part of it."""
        if self._begun is not None and self.first_evaluation_s is None:
            self.first_evaluation_s = time.monotonic() - self._begun
            wait(self.limit_s)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rank 0 may now judge and write for long, while the others wait."""
        wait(ALONE * self.limit_s)


def wait(seconds: float) -> None:
    """Has this rank wait for others for so long (a mutator of the process group)."""
    if not dist.is_initialized():
        return
    set_timeout = getattr(dist, "set_timeout", None)  # public since torch 2.12
    if set_timeout is None:
        set_timeout = dist.distributed_c10d._set_pg_timeout
    set_timeout(timedelta(seconds=seconds), None)
