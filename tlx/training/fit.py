"""Fitting stage by stage: each stage is a fresh `fit` of one Trainer over a static graph."""

import logging
import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tlx.methods import freezing
from tlx.methods.averaging import Average
from tlx.methods.stages import Span
from tlx.methods.stopping import Plateau
from tlx.tasks.task import Collected
from tlx.training import checkpoints, sharding
from tlx.training.collect import broadcast
from tlx.training.effects import EarlyStopping, Ema
from tlx.training.loaders import StepBatches
from tlx.training.module import TransferModule, state_by_name
from tlx.training.progress import Display
from tlx.training.run_logger import RunLogger
from tlx.training.sharding import on_cpu
from tlx.training.signals import Interrupted, Pruned, StopFlag

log = logging.getLogger(__name__)

REMEDY = "lower optimizer.lr, add regularization=[grad_clip], or use trainer.precision=32"


class Diverged(RuntimeError):
    """The training loss is not finite."""


@dataclass(frozen=True)
class Pace:
    """When things happen, in optimizer steps.

    Attributes:
        total_steps: the budget.
        steps_per_epoch: optimizer steps of one pass over the training data.
        batch_size: items a step, over all ranks.
        eval_every: steps between validations; a stage's end is always validated.
        checkpoint_every: steps between checkpoints besides those at validations; None: no others.
        log_every: steps between rows of the training log.
    """

    total_steps: int
    steps_per_epoch: int
    batch_size: int
    eval_every: int
    checkpoint_every: int | None = None
    log_every: int = 20


@dataclass(frozen=True)
class Selection:
    """What validation decides.

    Attributes:
        metric: name of the validation metric.
        mode: `max` or `min`.
        final: `best` on validation or `last`.
        early_stopping: ends the run.
    """

    metric: str
    mode: str
    final: str = "best"
    early_stopping: EarlyStopping | None = None


@dataclass
class Progress:
    """All that a run must remember besides weights; plain values, saved in each checkpoint."""

    step: int = 0
    stage: int = 0
    stage_start: int = 0
    stage_over: str = ""
    best_value: float | None = None
    best_step: int | None = None
    last_value: float | None = None
    plateau: dict[str, Any] = field(default_factory=dict)
    early: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    stage_wall_s: float = 0.0
    wall_s: float = 0.0
    resumes: int = 0


def fit(
    trainer: pl.Trainer,
    module: TransferModule,
    *,
    spans: Sequence[Span],
    pace: Pace,
    selection: Selection,
    train_loader: "DataLoader[Any]",
    val_loader: "DataLoader[Any]",
    folder: Path,
    identity: Mapping[str, str],
    display: Display,
    ema: Ema | None = None,
    recalibrate: Callable[[], Any] | None = None,
    pruner: Callable[[int, Mapping[str, float]], bool] | None = None,
) -> Progress:
    """Runs every stage that is not done yet; leaves the final weights in the module.

    Args:
        trainer: a Lightning Trainer without limits of its own (`max_epochs=-1`).
        module: the module to train.
        spans: stages with their places in the budget.
        pace: when to validate, save and log.
        selection: what validation decides.
        train_loader: over `StepBatches`.
        val_loader: over `EvalBatches`.
        folder: of the checkpoints; the newest valid one is gone on from.
        identity: what a checkpoint must agree on, `{"run": id, "weights": id}`.
        display: of progress.
        ema: averaging of weights.
        recalibrate: gives batches for batch-norm statistics, where they are recalibrated.
        pruner: told step and metrics at each validation, on rank 0, whether to end the run there;
            other ranks need none.

    Raises:
        ValueError: a checkpoint belongs to another run.
        Diverged: the loss is not finite.
        Interrupted: a signal asked to stop; everything is saved.
        Pruned: the pruner ended the run; everything is saved.
    """
    conductor = Conductor(
        module,
        pace=pace,
        selection=selection,
        spans=spans,
        folder=folder,
        identity=identity,
        display=display,
        ema=ema,
        batches=train_loader.batch_sampler,  # type: ignore[arg-type]
        pruner=pruner,
    )
    conductor.resume(trainer)
    trainer.callbacks.append(conductor)  # type: ignore[attr-defined]
    try:
        while conductor.progress.stage < len(spans):
            if not conductor.progress.stage_over:
                conductor.enter_stage(recalibrate)
                trainer.fit(module, train_loader, val_loader)
            conductor.leave_stage()
    finally:
        conductor.stop.restore()
        trainer.callbacks.remove(conductor)  # type: ignore[attr-defined]
    conductor.load_final()
    return conductor.progress


class Conductor(pl.Callback):
    """Decides at each step and validation what happens next, the same on every rank."""

    def __init__(
        self,
        module: TransferModule,
        *,
        pace: Pace,
        selection: Selection,
        spans: Sequence[Span],
        folder: Path,
        identity: Mapping[str, str],
        display: Display,
        ema: Ema | None,
        batches: StepBatches,
        pruner: Callable[[int, Mapping[str, float]], bool] | None = None,
    ) -> None:
        """Starts at step 0 of the first stage."""
        self.module = module
        self.pace = pace
        self.selection = selection
        self.spans = spans
        self.folder = folder
        self.identity = dict(identity)
        self.display = display
        self.ema = ema
        self.average: Average | None = None
        self.batches = batches
        self.pruner = pruner
        self.progress = Progress()
        self.stop = StopFlag()
        self.carried: dict[str, dict[str, Any]] = {}
        self.scaler: dict[str, Any] | None = None
        self.gathers = False
        self.logged_step = 0
        self.logged_time = time.monotonic()
        self.clock = time.monotonic()

    # -- between fits -------------------------------------------------------------------------

    def resume(self, trainer: pl.Trainer) -> None:
        """Goes on from the newest valid checkpoint, if there is one."""
        found = checkpoints.load_newest(self.folder)
        step = found[0]["progress"]["step"] if found is not None else None
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.resume(step)
        if found is None:
            return
        payload, path = found
        if payload["identity"] != self.identity:
            raise ValueError(
                f"{path} belongs to {payload['identity']}, this run is {self.identity}; "
                "the data or the starting weights changed: start anew with --force"
            )
        self.progress = Progress(**payload["progress"])
        self.progress.resumes += 1
        sharding.load(self.module.network, payload["network"])
        self.module.step = self.logged_step = self.progress.step
        self.carried = payload["optimizer"]
        self.scaler = payload["scaler"]
        if payload["average"] is not None:
            self.average = Average.load(payload["average"])
        self.display.line(f"resumed at step {self.progress.step} from {path.name}")

    def enter_stage(self, recalibrate: Callable[[], Any] | None) -> None:
        """Prepares the module, the loader and the counters for the current stage."""
        progress, span = self.progress, self.spans[self.progress.stage]
        fresh = progress.step == progress.stage_start
        if recalibrate is not None and fresh:
            freezing.recalibrate(self.module.network, recalibrate())
        self.module.enter(span, start=progress.stage_start, states=self.carried)
        metric, mode = self.selection.metric, self.selection.mode
        self.plateau = _plateau(span.stage.until.plateau, 0.0, mode, progress.plateau)
        early = self.selection.early_stopping
        self.early = _plateau(
            early.patience if early else None,
            early.min_delta if early else 0.0,
            mode,
            progress.early,
        )
        log.debug("stage %s watches %s", span.stage.name, metric)
        self._next_segment()

    def leave_stage(self) -> None:
        """Records the stage that ended, and turns to the next."""
        progress, span = self.progress, self.spans[self.progress.stage]
        trains = span.stage.trains
        sizes = {n: p.numel() for n, p in self.module.network.named_parameters()}
        steps = progress.step - progress.stage_start
        progress.stages.append(
            {
                "name": span.stage.name,
                "start": progress.stage_start,
                "end": progress.step,
                "planned_end": span.end,
                "ended_by": progress.stage_over,
                "trainable": sum(size for name, size in sizes.items() if name in trains),
                "total": sum(sizes.values()),
                "wall_s": progress.stage_wall_s,
                "samples_per_s": steps * self.pace.batch_size / max(progress.stage_wall_s, 1e-9),
            }
        )
        run_over = progress.stage_over == "early_stopping"
        progress.stage = len(self.spans) if run_over else progress.stage + 1
        progress.stage_start = progress.step
        progress.stage_over = ""
        progress.stage_wall_s = 0.0
        progress.plateau, progress.early = {}, {}
        if span.stage.restore_best and progress.stage < len(self.spans):
            self._load_best()

    def load_final(self) -> None:
        """Puts the weights into the module that the run is judged by."""
        if self.selection.final == "best" and self.progress.best_step is not None:
            self._load_best()
        elif self.average is not None:
            self.average.swap(self.module.network)

    def _load_best(self) -> None:
        found = checkpoints.load_step(self.folder, self.progress.best_step, tag="best")
        sharding.load(self.module.network, found["network"])

    # -- hooks of a fit -----------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over signals and, after a restart, the gradient scaler."""
        self.stop.install()
        self.gathers = sharding.is_sharded(self.module.network)
        self.clock = self.logged_time = time.monotonic()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self.scaler is not None:
            scaler.load_state_dict(self.scaler)
            self.scaler = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Counts, averages, logs, saves, and heeds a request to stop."""
        if not self.module.count_batch():
            return
        progress, pace = self.progress, self.pace
        progress.step = step = self.module.step
        if self.ema is not None:
            self._update_average()
        boundary = step == self.batches.cursor.end
        if step % pace.log_every == 0 or boundary:
            self._log_training(trainer)
        every = pace.checkpoint_every
        if every and step % every == 0 and not boundary:
            self._save(trainer)
        if (self.stop.received is None and trainer.world_size == 1) or boundary:
            return
        if trainer.world_size == 1 or step % min(pace.log_every, 20) == 0:
            self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validates the averaged weights, once there are any."""
        if self.average is not None:
            self.average.swap(self.module.network)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Computes metrics, selects, decides whether the stage or the run is over, saves."""
        collected = self.module.collector.finish()
        metrics, prune = broadcast(self._judged(collected))
        if any(math.isnan(metrics.get(name, 0.0)) for name in ("loss", self.selection.metric)):
            raise Diverged(
                f"validation at step {self.progress.step} gave {metrics}: weights or running "
                f"statistics are not finite; {REMEDY}"
            )
        value = metrics[self.selection.metric]
        self._select(trainer, value)
        if self.average is not None:
            self.average.swap(self.module.network)
        self._decide(value)
        self._log(trainer, {f"val/{name}": number for name, number in metrics.items()})
        self.display.validated(self.progress.step, metrics)
        self._save(trainer)
        over = self.progress.stage_over == "early_stopping"
        if prune and not over and self.progress.step < self.pace.total_steps:
            raise Pruned(f"pruned at step {self.progress.step}, at {value:.6g}; saved")
        self._stop_if_asked(trainer)
        if self.progress.stage_over:
            trainer.should_stop = True
        else:
            self._next_segment()

    # -- parts --------------------------------------------------------------------------------

    def _next_segment(self) -> None:
        progress, every = self.progress, self.pace.eval_every
        following = (progress.step // every + 1) * every
        cursor = self.batches.cursor
        cursor.step = progress.step
        cursor.end = min(following, self.spans[progress.stage].end)

    def _judged(self, collected: Collected | None) -> tuple[dict[str, float], bool]:
        """Metrics, and whether to end the run here; rank 0's are everybody's."""
        if collected is None:
            return {}, False
        metrics = self.module.recipe.task.metrics(collected)
        return metrics, self.pruner is not None and self.pruner(self.progress.step, metrics)

    def _select(self, trainer: pl.Trainer, value: float) -> None:
        progress = self.progress
        progress.last_value = value
        better = Plateau.improves(value, progress.best_value, mode=self.selection.mode)
        if not better:
            return
        progress.best_value, progress.best_step = value, progress.step
        if trainer.is_global_zero or self.gathers:
            payload = {"network": on_cpu(self.module.network.state_dict()), "value": value}
        if trainer.is_global_zero:
            checkpoints.save(self.folder, progress.step, payload, tag="best", keep=2)

    def _decide(self, value: float) -> None:
        progress, span = self.progress, self.spans[self.progress.stage]
        if progress.step >= span.end:
            progress.stage_over = "budget"
        for name, rule in (("plateau", self.plateau), ("early_stopping", self.early)):
            if rule is not None and rule.update(value) and not progress.stage_over:
                progress.stage_over = name
        progress.plateau = self.plateau.state() if self.plateau else {}
        progress.early = self.early.state() if self.early else {}

    def _update_average(self) -> None:
        assert self.ema is not None
        start = self.ema.start_fraction * self.pace.total_steps
        if self.average is None:
            if self.progress.step > start:
                self.average = Average(self.module.network, decay=self.ema.decay)
        else:
            self.average.update(self.module.network)

    def _log_training(self, trainer: pl.Trainer) -> None:
        progress = self.progress
        steps = progress.step - self.logged_step
        if steps == 0:
            return
        means = {name: float(value) for name, value in self.module.take_sums(steps).items()}
        if not all(torch.isfinite(torch.tensor(v)) for v in means.values()):
            raise Diverged(
                f"the training loss is not finite between steps {self.logged_step} and "
                f"{progress.step} ({means}); {REMEDY}"
            )
        now = time.monotonic()
        groups = trainer.optimizers[0].param_groups
        row = {f"train/{name}": value for name, value in means.items()}
        row["train/lr"] = max(group["lr"] for group in groups)
        row["train/epoch"] = progress.step / self.pace.steps_per_epoch
        row["train/stage"] = progress.stage
        row["train/samples_per_s"] = (
            steps * self.pace.batch_size / max(now - self.logged_time, 1e-9)
        )
        self._log(trainer, row)
        self.display.trained(progress.step, progress.stage, row)
        self.logged_step, self.logged_time = progress.step, now

    def _log(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(row, step=self.progress.step)

    def _save(self, trainer: pl.Trainer) -> None:
        progress = self.progress
        now = time.monotonic()
        progress.stage_wall_s += now - self.clock
        progress.wall_s += now - self.clock
        self.clock = now
        self.carried = self._carry(state_by_name(trainer.optimizers[0]))
        if not trainer.is_global_zero and not self.gathers:
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        payload = {
            "identity": self.identity,
            "progress": asdict(progress),
            "network": on_cpu(self.module.network.state_dict()),
            "optimizer": {name: on_cpu(state) for name, state in self.carried.items()},
            "scaler": scaler.state_dict() if scaler is not None else None,
            "average": on_cpu(self.average.state()) if self.average is not None else None,
        }
        if trainer.is_global_zero:
            checkpoints.save(self.folder, progress.step, payload, tag="last", keep=2)

    def _carry(self, states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
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


def _plateau(
    patience: int | None, min_delta: float, mode: str, state: dict[str, Any]
) -> Plateau | None:
    if patience is None:
        return None
    rule = Plateau(patience=patience, min_delta=min_delta, mode=mode)
    if state:
        rule.load(state)
    return rule


def peak_memory_bytes() -> int:
    """Peak memory of this process: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:  # what a process forked for one run resets, unlike getrusage's
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
