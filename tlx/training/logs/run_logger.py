"""What every logger of a run offers beside Lightning's own methods."""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger

from tlx.base.shown import Making


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Which run is logged.

    Attributes:
        id: the run's id; a restarted run keeps it.
        dir: the run's folder.
        name: for people.
        group: the study.
        job_type: `train`, `pretrain`, ...
        tags: for filters.
        config: the resolved config, plain containers only.
    """

    id: str
    dir: Path
    name: str
    group: str | None = None
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)


class RunLogger(Logger, ABC):
    """A logger of one run; abstract. What a kind of logger cannot show, it leaves out.

    Lightning calls `finalize` at the end of each stage's fit, so that it only flushes here; what
    ends a run is `finish`. Metrics carry the global step.
    """

    def __init__(self, run: RunInfo) -> None:
        """Keeps the run; opens nothing yet, since every rank makes one."""
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def version(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.run.dir)

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self.run.dir)

    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """Nothing: the run's config is what is logged, once."""

    def resume(self, step: int | None) -> None:
        """Forgets what was logged after this global step, or everything for None (a fresh start).

        Call it once, before the first metric.
        """

    def log_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Logs figures of several global steps, each with its step, in ascending order."""
        for step, metrics in rows:
            self.log_metrics(dict(metrics), step=step)

    def log_view(self, key: str, make: Making, *, step: int | None = None) -> None:
        """Shows pictures, a matrix or a table, which a logger that shows none never makes."""

    def log_summary(self, figures: Mapping[str, object]) -> None:
        """Keeps final figures, flat names such as `test/accuracy`."""

    def finalize(self, status: str) -> None:
        """Flushes. Lightning calls it at the end of every fit, which is not the run's end."""
        self.save()

    def finish(self, status: str) -> None:
        """Ends the run: `finished`, or anything else for one that failed or was interrupted."""
        self.save()
