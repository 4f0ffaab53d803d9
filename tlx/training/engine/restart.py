"""Where a run goes on from, so that it ends with the weights of one that nobody disturbed."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from tlx.methods.stages import Span
from tlx.training.collect import broadcast
from tlx.training.engine import checkpoints
from tlx.training.engine.course import Selection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restart:
    """A checkpoint to go on from.

    Attributes:
        path: of the checkpoint.
        payload: what it holds.
        best_lost: the best weights, which are its own, are to be written anew.
    """

    path: Path
    payload: checkpoints.Payload
    best_lost: bool


def choose(
    folder: Path,
    trainer: pl.Trainer,
    *,
    spans: Sequence[Span],
    selection: Selection,
    unusual: Collection[str],
) -> Restart | None:
    """The newest sound checkpoint whose best weights are there too; None: start over.

    The best weights of a run lie in a file of their own, which may be lost where the checkpoint
    that names it is not. An earlier checkpoint, or the start, leads to the same weights again.
    Rank 0 decides: others may see a folder at another time.

    Args:
        folder: of the run's checkpoints.
        trainer: of the run.
        spans: its stages, which may start from the best weights of those before.
        selection: what validation decides.
        unusual: names of tensors that may hold infinities.
    """

    def reads_best(stage: int) -> bool:
        left = spans[stage:]
        return selection.final == "best" or any(span.stage.restore_best for span in left)

    found = _sound(folder, reads_best, unusual) if trainer.is_global_zero else None
    if trainer.world_size == 1:
        return found
    place = broadcast((found.path, found.best_lost) if found is not None else None)
    return place and Restart(place[0], checkpoints.load(place[0]), best_lost=place[1])


def _sound(
    folder: Path, reads_best: Callable[[int], bool], unusual: Collection[str]
) -> Restart | None:
    for payload, path in checkpoints.sound(folder, tag="last", unusual=unusual):
        progress = payload["progress"]
        step = progress["best_step"]
        if step is None or not reads_best(progress["stage"]):
            return Restart(path, payload, best_lost=False)
        best = checkpoints.sound(folder, tag="best", step=step, unusual=unusual)
        if next(best, None) is not None:
            return Restart(path, payload, best_lost=False)
        if step == progress["step"]:  # they are this checkpoint's own
            return Restart(path, payload, best_lost=True)
        log.warning(
            "checkpoint %s is passed over: the best weights, those of step %d, are lost", path, step
        )
    return None
