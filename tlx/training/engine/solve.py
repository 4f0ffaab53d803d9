"""Solving a linear head on stored features instead of training it: exact linear probes.

It takes seconds and saves no checkpoints: a run that is interrupted begins again, on the features
that are stored by then.

Shapes: N items, D features, C outputs.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tlx.base.ends import Interrupted
from tlx.base.interrupts import REQUESTS
from tlx.methods import freezing
from tlx.methods.probes import ProbeProblem, Solution
from tlx.methods.stages import Stage
from tlx.methods.stopping import Plateau
from tlx.tasks.head_losses import HeadLoss
from tlx.tasks.heads import LinearHead
from tlx.tasks.task import Task
from tlx.training.collect import Collector
from tlx.training.effects import Smoothing
from tlx.training.engine.course import Course, Pace, Progress
from tlx.training.engine.module import TransferModule
from tlx.training.engine.referee import Referee
from tlx.training.engine.signals import StopFlag
from tlx.training.logs.progress import Display
from tlx.training.logs.run_logger import RunLogger
from tlx.training.optimizers import Lbfgs
from tlx.training.reuse import fixed
from tlx.training.reuse.source import Reuse

Judged = tuple[Solution, float, float]
"""A solution, the monitored figure, and the loss on validation."""


def pace(exact: Lbfgs, items: int) -> Pace:
    """The budget of a run that is solved, in passes over its `items` items."""
    return Pace(total_steps=exact.most_passes, steps_per_epoch=1, batch_size=items, eval_every=1)


def solve(
    trainer: pl.Trainer,
    module: TransferModule,
    *,
    exact: Lbfgs,
    course: Course,
    reuse: Reuse,
    display: Display,
    sparse: fixed.Vectors | None = None,
    recalibrate: Callable[[], Iterable[object]] | None = None,
) -> Progress:
    """Solves the head for each penalty, chooses on validation, and leaves the best in the module.

    Args:
        trainer: whose device, precision and loggers are used.
        module: of the run.
        exact: how it is solved.
        course: of a run that has not begun.
        reuse: gives the features.
        display: of progress.
        sparse: of a backbone whose features are sparse; they are then solved on as such.
        recalibrate: gives batches for batch-norm statistics, where they are recalibrated.

    Raises:
        ValueError: more than a linear head trains, or its features cannot be stored.
        Interrupted: a signal asked to stop; solutions are lost, features are stored.
    """
    started = time.monotonic()
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.resume(None)
    if recalibrate is not None:
        freezing.recalibrate(module.network, recalibrate())
    module.enter(course.span, start=0, states={})
    course.enter_stage()
    stop = StopFlag()
    stop.install()
    try:
        path = _Path(
            trainer, module, course=course, reuse=reuse, display=display, stop=stop, sparse=sparse
        )
        notes = path.run(exact)
    finally:
        stop.restore()
    REQUESTS.heed()
    progress = course.progress
    progress.notes = {"lbfgs": notes}
    progress.stage_wall_s = progress.wall_s = time.monotonic() - started
    progress.stage_over = "convergence" if notes["converged"] else "budget"
    course.leave_stage({name: p.numel() for name, p in module.network.named_parameters()})
    return progress


def choose(
    problem: ProbeProblem,
    exact: Lbfgs,
    *,
    course: Course,
    judge: Callable[[Solution], Mapping[str, float]],
) -> tuple[Solution, list[float]]:
    """Solves for one penalty after another, and for the best on validation to the end.

    Of equal figures the lower loss on validation counts. Where the path's strongest or weakest
    penalty is the best, it goes on beyond it while its end is the best.

    Solutions of the path are rough, and so are their figures: the best one and its neighbours are
    solved to the end, until the best is between two that are no better.

    Args:
        problem: to be solved.
        exact: how.
        course: takes note of steps and of what is selected.
        judge: a solution's figures on validation, `loss` among them.

    Returns:
        The best, and the penalties that were tried, in their order.

    Raises:
        ValueError: the monitored figure is undefined for all.
    """
    progress, metric = course.progress, course.selection.metric
    several = len(exact.penalties) > 1
    best: Solution | None = None
    tried: list[float] = []
    best_loss = least_loss = math.inf

    def solved(penalty: float, start: Solution | None, tolerance: float) -> Solution:
        made = problem.solve(
            penalty, start=start, tolerance=tolerance, most_iterations=exact.most_iterations
        )
        progress.step += made.passes
        return made

    def attempt(penalty: float, start: Solution | None) -> tuple[Solution, float]:
        """A solution of the path, and its loss on validation; takes note if it is the best."""
        nonlocal best, best_loss
        made = solved(penalty, start, exact.path_tolerance if several else exact.tolerance)
        tried.append(penalty)
        figures = judge(made)
        value, loss = figures[metric], figures["loss"]
        tied = value == progress.best_value and loss < best_loss
        if course.select(value) or tied:
            best, best_loss, progress.best_step = made, loss, progress.step
        return made, loss

    latest: Solution | None = None
    waited = 0
    for penalty in exact.penalties:
        latest, loss = attempt(penalty, latest)
        waited += 1
        if loss < least_loss:
            least_loss, waited = loss, 0
        if best is latest:
            waited = 0
        if exact.patience is not None and waited >= exact.patience:
            break
    if best is None:
        raise ValueError(f"monitor=val/{metric} is undefined for each penalty; choose another")
    if several:

        def settle(penalty: float, start: Solution) -> Judged:
            made = solved(penalty, start, exact.tolerance)
            if penalty not in tried:
                tried.append(penalty)
            figures = judge(made)
            return made, figures[metric], figures["loss"]

        best = _between_worse(
            best, settle, lambda at: exact.around(at, tried), mode=course.selection.mode
        )
        best = solved(best.penalty, best, exact.tolerance)
        progress.best_value, progress.best_step = judge(best)[metric], progress.step
    return best, tried


def _between_worse(
    best: Solution,
    settle: Callable[[float, Solution], Judged],
    around: Callable[[float], tuple[float, ...]],
    *,
    mode: str,
) -> Solution:
    """The solution that no neighbour is better than, looked for from one on.

    Args:
        best: where to begin.
        settle: solves for a penalty to the end, from a start, and judges it.
        around: a penalty's neighbours.
        mode: of the monitored figure, `max` or `min`.
    """
    known: dict[float, Judged] = {}

    def judged(penalty: float, start: Solution) -> Judged:
        if penalty not in known:
            known[penalty] = settle(penalty, start)
        return known[penalty]

    moved = True
    while moved:
        start, value, loss = judged(best.penalty, best)
        best, moved = start, False
        for penalty in around(start.penalty):
            near, its_value, its_loss = judged(penalty, start)
            better = Plateau.improves(its_value, value, mode=mode)
            if better or (its_value == value and its_loss < loss):
                best, value, loss, moved = near, its_value, its_loss, True
    return best


@final
class _Path:
    """The solutions of one run, and what validation says of them."""

    def __init__(
        self,
        trainer: pl.Trainer,
        module: TransferModule,
        *,
        course: Course,
        reuse: Reuse,
        display: Display,
        stop: StopFlag,
        sparse: fixed.Vectors | None,
    ) -> None:
        self.trainer, self.module, self.course = trainer, module, course
        self.display, self.stop = display, stop
        self.referee = Referee(course, display=display, log=self.log)
        self.task = module.recipe.task
        self.head = linear_head(module.network.head, [span.stage for span in course.spans])
        width = self.head.linear.in_features
        held = fixed.features(reuse, course, width=width, sparse=sparse, heed=self.heed)
        # other devices may lack float64
        self.held = held.to(module.device if module.device.type == "cuda" else torch.device("cpu"))
        device, self.items = self.held.device, len(reuse.splits.train)
        self.targets = reuse.targets(reuse.splits.train).to(device)[None]
        self.val_targets = reuse.targets(reuse.splits.val)
        smoothing = module.recipe.effects.value(Smoothing, 0.0)
        self.smoothing_1 = (
            torch.tensor([smoothing], dtype=torch.float64, device=device) if smoothing else None
        )
        self.loss, self.value_1 = solver_of(self.task), torch.tensor([math.nan], device=device)
        self.logged = time.monotonic()

    def run(self, exact: Lbfgs) -> dict[str, object]:
        """Solves and chooses, and leaves the head in the network (a mutator); notes on it."""
        problem = ProbeProblem(
            self.held.inputs(), self.gradient, outputs=self.head.linear.out_features
        )
        best, tried = choose(problem, exact, course=self.course, judge=self.judge)
        self.warn(best, tried, exact)
        return {
            "penalty": best.penalty,
            "penalties": tried,
            "error": best.error,
            "converged": best.converged,
        }

    def heed(self) -> None:
        """Raises Interrupted where a signal asked to stop."""
        if self.stop.received is not None:
            raise Interrupted(
                f"stopped by a signal after {self.course.progress.step} passes; the same command "
                "solves again, on stored features"
            )

    def gradient(self, outputs_CN: Tensor) -> Tensor:
        """The gradient of the task's loss; heeds a request to stop."""
        self.heed()
        grad_CN = torch.empty_like(outputs_CN)
        self.value_1 = self.loss.gradient(
            outputs_CN[None].clone(), self.targets, smoothing_g=self.smoothing_1, out=grad_CN[None]
        )
        return grad_CN

    def judge(self, found: Solution) -> dict[str, float]:
        """Puts a solution into the head and validates it (a mutator); logs and gives metrics."""
        progress, now = self.course.progress, time.monotonic()
        linear = self.head.linear
        linear.load_state_dict({"weight": found.weight_CD, "bias": found.bias_C})
        collector = Collector(self.task)
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            outputs = self.held.val_outputs(self.head)
        index = torch.arange(len(outputs))
        collector.add(outputs, {"index": index, "target": self.val_targets})
        collected = collector.finish()
        assert collected is not None
        metrics = self.task.metrics(collected)
        row = {
            "train/loss": float(self.value_1),
            "train/penalty": found.penalty,
            "train/epoch": progress.step,
            "train/stage": progress.stage,
            "train/samples_per_s": found.passes * self.items / max(now - self.logged, 1e-9),
        }
        self.logged = now
        self.log(row)
        self.display.trained(progress.step, progress.stage, row)
        self.referee.tell(metrics)
        return metrics

    def log(self, row: Mapping[str, float]) -> None:
        """A row of the run's logs."""
        for logger in self.trainer.loggers:
            logger.log_metrics(dict(row), step=self.course.progress.step)

    def warn(self, best: Solution, tried: list[float], exact: Lbfgs) -> None:
        """Says which penalty was chosen, and what is doubtful about it."""
        self.display.line(f"penalty {best.penalty:g} is chosen; error {best.error:.1e}")
        if not best.converged:
            self.display.line(
                f"it has not converged to optimizer.tolerance={exact.tolerance:g} in "
                f"{exact.most_iterations} iterations; raise optimizer.most_iterations"
            )
        ends = {max(tried): "strongest", min(tried): "weakest"}
        if len(tried) > 1 and best.penalty in ends:
            self.display.line(
                f"it is the {ends[best.penalty]} of the {len(tried)} that were tried; a wider "
                "range of optimizer.penalties may be better"
            )


def linear_head(head: nn.Module, stages: Sequence[Stage]) -> LinearHead:
    """A network's head, where it is linear and all that trains.

    Raises:
        ValueError: it is not.
    """
    others = [name for name in stages[0].trains if not name.startswith("head.")]
    if len(stages) > 1 or others or not isinstance(head, LinearHead):
        raise ValueError(
            f"optimizer=lbfgs solves a linear head; here train {others[:1] or 'other heads'}, in "
            f"{len(stages)} stages: use freeze_strategy=linear_probe, or another optimizer"
        )
    return head


def solver_of(task: Task) -> HeadLoss:
    """The loss by which a task's heads are solved.

    Raises:
        ValueError: there is none.
    """
    loss = task.solver()
    if loss is None:
        raise ValueError(
            f"optimizer=lbfgs cannot solve heads of {type(task).__name__}, whose solver() is None: "
            "use another optimizer"
        )
    return loss
