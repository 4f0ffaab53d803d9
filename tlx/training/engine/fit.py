"""Fitting stage by stage: each stage is a fresh `fit` of one Trainer over a static graph."""

import logging
import resource
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tlx.base.ends import Interrupted
from tlx.base.interrupts import REQUESTS
from tlx.data.splits import Batch
from tlx.methods import freezing
from tlx.methods.averaging import Average
from tlx.tasks.task import Collected
from tlx.training.collect import broadcast
from tlx.training.effects import Averaging
from tlx.training.engine import checkpoints, sharding
from tlx.training.engine.checkpoints import Payload, Tag
from tlx.training.engine.course import Course, Pace, Progress
from tlx.training.engine.divergence import REMEDY, Diverged, Losses, unusual
from tlx.training.engine.halving import Halving
from tlx.training.engine.memory import NO_UPDATE, OnOom, TooLarge
from tlx.training.engine.module import States, TransferModule, state_by_name
from tlx.training.engine.referee import Pruner, Referee
from tlx.training.engine.restart import choose
from tlx.training.engine.sharding import on_cpu
from tlx.training.engine.signals import StopFlag
from tlx.training.loaders import InSteps, StepBatches, batches_of
from tlx.training.logs.progress import Display
from tlx.training.logs.run_logger import RunLogger
from tlx.training.reuse.repeated import store_references
from tlx.training.reuse.source import Reuse

log = logging.getLogger(__name__)


def fit(trainer: pl.Trainer, conductor: "Conductor") -> Progress:
    """Runs every stage that is not done yet; leaves the final weights in the module.

    Args:
        trainer: a Lightning Trainer without limits of its own (`max_epochs=-1`).
        conductor: of a run; goes on from the newest valid checkpoint in its folder.

    Raises:
        ValueError: a checkpoint belongs to another run.
        Diverged: the loss, or what was to be saved, is not finite.
        Interrupted: a signal asked to stop; everything is saved.
        Pruned: the pruner ended the run; everything is saved.
    """
    module = conductor.module
    conductor.resume(trainer)
    conductor.halving.apply(trainer)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks += [conductor, conductor.halving]
    try:
        while not conductor.course.over:
            REQUESTS.heed()  # what came after a stage's last look
            if not conductor.progress.stage_over:
                conductor.enter_stage()
                parts, val = conductor.choose_loaders()
                apart = module.recipe.accumulate > 1
                train = InSteps(parts, module.settle) if apart else parts
                try:
                    trainer.fit(module, train, val)
                except RuntimeError as error:
                    conductor.redo(trainer, error)
                    continue
            conductor.leave_stage()
    finally:
        conductor.stop.restore()
        callbacks.remove(conductor)
        callbacks.remove(conductor.halving)
    REQUESTS.heed()
    conductor.load_final()
    conductor.progress.notes |= conductor.halving.notes()
    return conductor.progress


class Conductor(pl.Callback):
    """Decides at each step and validation what happens next, the same on every rank."""

    def __init__(
        self,
        module: TransferModule,
        course: Course,
        *,
        train_loader: "DataLoader[Batch]",
        val_loader: "DataLoader[Batch]",
        folder: Path,
        identity: Mapping[str, str],
        display: Display,
        averaging: Averaging | None = None,
        recalibrate: Callable[[], Iterable[object]] | None = None,
        pruner: Pruner | None = None,
        reuse: Reuse | None = None,
        on_oom: OnOom = "error",
    ) -> None:
        """Starts at step 0 of the first stage.

        Args:
            module: the module to train.
            course: of a run that has not begun: stages, when to validate, what that decides.
            train_loader: over `StepBatches`.
            val_loader: over `EvalBatches`.
            folder: of the checkpoints.
            identity: what a checkpoint must agree on, `{"run": id, "weights": id}`.
            display: of progress.
            averaging: of weights.
            recalibrate: gives batches for batch-norm statistics, where they are recalibrated.
            pruner: told step and metrics at each validation, on rank 0, whether to end the run
                there; other ranks need none.
            reuse: of what is frozen, where activations may be stored.
            on_oom: whether a batch is computed in more parts where a device's memory is full.
        """
        self.module, self.course, self.pace = module, course, course.pace
        self.selection = course.selection
        self.loaders = train_loader, val_loader
        self.batches = batches_of(train_loader, StepBatches)
        self.folder, self.identity, self.display = folder, dict(identity), display
        self.averaging, self.recalibrate, self.reuse = averaging, recalibrate, reuse
        self.average: Average | None = None
        self.referee = Referee(course, display=display, log=self._log, pruner=pruner)
        self.loggers: Sequence[Logger] = ()
        self.halving = Halving(
            module,
            self.batches,
            folder=folder,
            batch_size=course.pace.batch_size,
            on_oom=on_oom,
            say=display.line,
        )
        self.stop = StopFlag()
        self.carried: States = {}
        self.scaler: dict[str, object] | None = None
        self.gathers = False
        self.losses = Losses(module)
        self.unusual = unusual(module.network)
        self.logged_step = 0
        self.logged_time = time.monotonic()
        self.clock = time.monotonic()

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.course.progress

    # -- between fits -------------------------------------------------------------------------

    def resume(self, trainer: pl.Trainer) -> bool:
        """Goes on from the newest checkpoint that leads to the right end; whether there is one."""
        found = choose(
            self.folder,
            trainer,
            spans=self.course.spans,
            selection=self.selection,
            unusual=self.unusual,
        )
        step = found.payload["progress"]["step"] if found is not None else None
        self.loggers = trainer.loggers
        for logger in self.loggers:
            if isinstance(logger, RunLogger):
                logger.resume(step)
        if found is None:
            return False
        payload, path = found.payload, found.path
        if payload["identity"] != self.identity:
            raise ValueError(
                f"{path} belongs to {payload['identity']}, this run is {self.identity}; "
                "the data or the starting weights changed: start anew with --force"
            )
        self.course.progress = Progress.load(payload["progress"])
        self.progress.resumes += 1
        sharding.load(self.module.network, payload["network"])
        self.module.step = self.progress.step
        self.logged_step, self.module.sums = payload.get("since_logged", (self.progress.step, {}))
        self.carried = payload["optimizer"]
        self.scaler = payload["scaler"]
        if payload["average"] is not None:
            assert self.averaging is not None
            self.average = Average.load(payload["average"], keeps=self.averaging.keeps)
        if found.best_lost:
            self._swap_average()
            self._save_best(trainer, self.progress.best_value)
            self._swap_average()
        self.display.line(f"resumed at step {self.progress.step} from {path.name}")
        return True

    def enter_stage(self) -> None:
        """Prepares the module, the loader and the counters for the current stage."""
        progress, span = self.progress, self.course.span
        fresh = progress.step == progress.stage_start
        # one that goes on has them in its checkpoint
        if self.recalibrate is not None and fresh:
            freezing.recalibrate(self.module.network, self.recalibrate())
        self.module.enter(span, start=progress.stage_start, states=self.carried)
        self.course.enter_stage()
        log.debug("stage %s watches %s", span.stage.name, self.selection.metric)
        self._next_segment()

    def choose_loaders(self) -> "tuple[DataLoader[Batch], DataLoader[Batch]]":
        """Of training and validation: over stored activations where the stage allows that."""
        if self.reuse is None:
            return self.loaders
        references, progress = self.module.references, self.progress
        if references is not None and not references.settled:
            store_references(references, self.reuse, self.batches.order)
        left = (self.course.span.end - progress.step) * self.pace.batch_size
        source = self.reuse.enter(*self.loaders, samples=left, before=progress.reuse)
        if source is None:
            return self.loaders
        progress.stage_wall_s += source.wall_s
        progress.wall_s += source.wall_s
        return source.train, source.val

    def redo(self, trainer: pl.Trainer, error: RuntimeError) -> None:
        """Has the step that ran out of memory done again, in parts that fit (a mutator).

        Raises:
            RuntimeError: the error, or that it cannot be.
        """
        at = self.halving.at
        self.halving.divide(trainer, error)
        if at == "gradient":
            self.carried = self._carry(state_by_name(trainer.optimizers[0]))
            self.scaler = self._scaler_state(trainer)
        else:
            self.average = None
            if not self.resume(trainer):
                raise TooLarge(f"{NO_UPDATE} ({error})") from error

    def leave_stage(self) -> None:
        """Records the stage that ended, and turns to the next."""
        sizes = {n: p.numel() for n, p in self.module.network.named_parameters()}
        span = self.course.leave_stage(sizes)
        if span.stage.restore_best and not self.course.over:
            self._load_best()

    def load_final(self) -> None:
        """Puts the weights into the module that the run is judged by."""
        if self.selection.final == "best" and self.progress.best_step is not None:
            self._load_best()
        else:
            self._swap_average()

    def _load_best(self) -> None:
        found = checkpoints.load_step(self.folder, self.progress.best_step, tag="best")
        sharding.load(self.module.network, found["network"])

    # -- hooks of a fit -----------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over signals and, after a restart, the gradient scaler."""
        self.stop.install()
        self.gathers = sharding.is_sharded(self.module.network)
        self.clock = self.logged_time = time.monotonic()
        self.module.sums = {n: v.to(self.module.device) for n, v in self.module.sums.items()}
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.scaler is not None:
            scaler.load_state_dict(self.scaler)
            self.scaler = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Between stages all is saved: a request to stop need not wait for a step."""
        self.stop.restore()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        """Counts, averages, logs, saves, and heeds a request to stop."""
        if not self.module.count_batch():
            return
        progress, pace = self.progress, self.pace
        progress.step = step = self.module.step
        if self.averaging is not None:
            self._update_average(self.averaging)
        self.losses.look(trainer)
        boundary = step == self.batches.cursor.end  # a validation follows, which saves and asks
        if step % pace.log_every == 0 or boundary:
            self._log_training(trainer)
        every = pace.checkpoint_every
        if every and step % every == 0 and not boundary:
            self._save(trainer)
        if (self.stop.received is None and trainer.world_size == 1) or boundary:
            return
        # ranks must agree to stop, which costs all of them a message: not at each step
        if trainer.world_size == 1 or step % min(pace.log_every, 20) == 0:
            self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validates the averaged weights, once there are any."""
        self.halving.at = "update"  # weights are others' for a while
        self._swap_average()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Computes metrics, selects, decides whether the stage or the run is over, saves."""
        collected = self.module.collector.finish()
        metrics, prune = broadcast(self._judged(collected))
        # while the averaged weights, which were judged, are in the network
        if self.referee.judge(metrics):
            self._save_best(trainer, metrics[self.selection.metric])
        self._swap_average()
        self._save(trainer)
        if prune:
            self.referee.end_early(metrics)
        self._stop_if_asked(trainer)
        if self.progress.stage_over:
            trainer.should_stop = True
        else:
            self._next_segment()

    # -- parts --------------------------------------------------------------------------------

    def _next_segment(self) -> None:
        cursor = self.batches.cursor
        cursor.step, cursor.end = self.progress.step, self.course.segment_end()

    def _judged(self, collected: Collected | None) -> tuple[dict[str, float], bool]:
        """Metrics, and whether to end the run here; rank 0's are everybody's."""
        if collected is None:
            return {}, False
        metrics = self.module.recipe.task.metrics(collected)
        return metrics, self.referee.wants_end(metrics)

    def _save_best(self, trainer: pl.Trainer, value: float | None) -> None:
        if trainer.is_global_zero or self.gathers:
            payload: Payload = {"network": on_cpu(self._state()), "value": value}
        else:
            payload = {}
        self._write(trainer, payload, tag="best")

    def _write(self, trainer: pl.Trainer, payload: Payload, *, tag: Tag) -> None:
        """Writes a checkpoint, on rank 0; raises Diverged on every rank where it is not finite."""
        place = None
        if trainer.is_global_zero:
            try:
                checkpoints.save(
                    self.folder, self.progress.step, payload, tag=tag, unusual=self.unusual
                )
            except checkpoints.NotFinite as error:
                place = str(error)
        if (place := broadcast(place)) is not None:
            raise Diverged(
                f"at step {self.progress.step} {place} is not finite, and was not saved; {REMEDY}"
            )

    def _swap_average(self) -> None:
        if self.average is not None:
            self.average.swap(self.module.network)

    def _update_average(self, averaging: Averaging) -> None:
        start = averaging.start_fraction * self.pace.total_steps
        if self.average is None:
            if self.progress.step > start:
                self.average = Average(self.module.network, keeps=averaging.keeps)
        else:
            self.average.update(self.module.network)

    def _log_training(self, trainer: pl.Trainer) -> None:
        progress = self.progress
        steps = progress.step - self.logged_step
        if steps == 0:
            return
        self.losses.check(trainer)
        means = {name: float(value) for name, value in self.module.take_sums(steps).items()}
        now = time.monotonic()
        groups = trainer.optimizers[0].param_groups
        row = training_row(
            means,
            pace=self.pace,
            step=progress.step,
            stage=progress.stage,
            lr=max(group["lr"] for group in groups),
            samples_per_s=steps * self.pace.batch_size / max(now - self.logged_time, 1e-9),
        )
        self._log(row)
        self.display.trained(progress.step, progress.stage, row)
        self.logged_step, self.logged_time = progress.step, now

    def _log(self, row: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(dict(row), step=self.progress.step)

    def _save(self, trainer: pl.Trainer) -> None:
        self.losses.check(trainer)  # weights are lost with the loss, or at the next step
        progress = self.progress
        now = time.monotonic()
        progress.stage_wall_s += now - self.clock
        progress.wall_s += now - self.clock
        self.clock = now
        if self.reuse is not None:
            progress.reuse = self.reuse.state()
        self.carried = self._carry(state_by_name(trainer.optimizers[0]))
        if not trainer.is_global_zero and not self.gathers:
            self._write(trainer, {}, tag="last")
            return
        payload: Payload = {
            "identity": self.identity,
            "progress": asdict(progress),
            "network": on_cpu(self._state()),
            "optimizer": {name: on_cpu(state) for name, state in self.carried.items()},
            "scaler": self._scaler_state(trainer),
            "average": on_cpu(self.average.state()) if self.average is not None else None,
            # so that the curve of a run that goes on has no seam
            "since_logged": (self.logged_step, on_cpu(self.module.sums)),
        }
        self._write(trainer, payload, tag="last")

    def _scaler_state(self, trainer: pl.Trainer) -> dict[str, object] | None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return scaler.state_dict() if scaler is not None else None

    def _state(self) -> dict[str, Tensor]:
        trains = {name for span in self.course.spans for name in span.stage.trains}
        weights_id = self.identity.get("weights", "none")
        return saved_state(self.module.network, trains, weights_id=weights_id)

    def _carry(self, states: States) -> States:
        """State that the next optimizer takes over: in the stage itself, always all of it."""
        carry = self.module.recipe.carry
        if carry == "all":
            return {**self.carried, **states}
        if carry == "none" and self.progress.stage_over:
            return {}
        return states

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self.stop.agreed(self.module.device):
            self._save(trainer)
            raise Interrupted(f"stopped by a signal at step {self.progress.step}; saved")


def saved_state(
    network: nn.Module, trains: Collection[str], *, weights_id: str
) -> dict[str, Tensor]:
    """What a checkpoint holds of a network: all that may differ from the start.

    Args:
        network: the whole of it.
        trains: names of parameters that train in some stage.
        weights_id: of the starting weights.
    """
    state: dict[str, Tensor] = network.state_dict()
    if weights_id == "none":
        return state  # random weights may be others under another version of a library
    frozen = freezing.never_trained(network, trains)
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def training_row(
    means: Mapping[str, float],
    *,
    pace: Pace,
    step: int,
    stage: int,
    lr: float,
    samples_per_s: float,
) -> dict[str, float]:
    """A row of the training log."""
    return {
        **{f"train/{name}": value for name, value in means.items()},
        "train/lr": lr,
        "train/epoch": step / pace.steps_per_epoch,
        "train/stage": stage,
        "train/samples_per_s": samples_per_s,
    }


def peak_memory_bytes() -> int:
    """Peak memory of this process: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:  # what a process forked for one run resets, unlike getrusage's
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
