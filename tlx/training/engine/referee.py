"""What a validation decides, whoever trains: one run, a solved head, or a run of a stack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from tlx.base.ends import Pruned
from tlx.training.engine.course import Course
from tlx.training.engine.divergence import check_validation
from tlx.training.logs.progress import Display

Figures = Mapping[str, float]
Pruner = Callable[[int, Figures], bool]
"""Told step and metrics of each validation, whether to end the run there."""


@final
@dataclass(frozen=True)
class Referee:
    """Selects, ends stages and runs, logs and shows; the same for everything that trains.

    Attributes:
        course: of the run, which takes note.
        display: of progress.
        log: gets each row of figures.
        pruner: of a search's trial; on rank 0.
    """

    course: Course
    display: Display
    log: Callable[[Figures], object]
    pruner: Pruner | None = None

    def wants_end(self, metrics: Figures) -> bool:
        """Whether the run's search gives it up here."""
        return self.pruner is not None and self.pruner(self.course.progress.step, metrics)

    def judge(self, metrics: Figures) -> bool:
        """Whether a validation is the best; notes that, and whether stage or run are over.

        Raises:
            Diverged: the monitored figure is not finite.
        """
        course = self.course
        metric = course.selection.metric
        check_validation(metrics, monitored=metric, step=course.progress.step)
        best = course.select(metrics[metric])
        course.decide(metrics[metric])
        self.tell(metrics)
        return best

    def tell(self, metrics: Figures) -> None:
        """Logs and shows a validation that nothing is decided by."""
        self.log({f"val/{name}": value for name, value in metrics.items()})
        self.display.validated(self.course.progress.step, dict(metrics))

    def end_early(self, metrics: Figures) -> None:
        """Ends a run that its search gave up, unless it is over anyway.

        Raises:
            Pruned: it goes on no further.
        """
        progress = self.course.progress
        over = progress.stage_over == "early_stopping"
        if not over and progress.step < self.course.pace.total_steps:
            value = metrics[self.course.selection.metric]
            raise Pruned(f"pruned at step {progress.step}, at {value:.6g}; saved")
