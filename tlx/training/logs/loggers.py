"""The options of the config group `logger`. The files are the truth; the others show them."""

from typing import Annotated, Literal

from tlx.base.ranges import Range
from tlx.base.secrecy import masked
from tlx.training.logs.csv_logger import CsvLogger
from tlx.training.logs.run_logger import RunInfo, RunLogger
from tlx.training.logs.tensorboard_logger import TensorboardLogger
from tlx.training.logs.wandb_logger import WandbLogger

__all__ = ["RunInfo", "RunLogger", "csv", "masked", "tensorboard", "wandb"]

MODES = ("auto", "online", "offline", "disabled")


def csv(run: RunInfo) -> RunLogger:
    """Writes `metrics.csv` in the run's folder, one row a step."""
    return CsvLogger(run)


def wandb(
    run: RunInfo,
    *,
    project: str = "tlx",
    mode: Literal["auto", "online", "offline", "disabled"] = "auto",
    entity: str | None = None,
    init_timeout_s: Annotated[float, Range(above=0)] = 5.0,
) -> RunLogger:
    """Shows the run in W&B, grouped by study, one W&B run a run id.

    Args:
        run: the run.
        project: W&B's project.
        mode: `auto` is online for who is logged in (and has not set WANDB_MODE), else offline.
        entity: the team, by default the person's own.
        init_timeout_s: how long a server may take to answer before the run is logged offline.

    Raises:
        ValueError: an unknown mode, an empty project, a time that is not positive.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; it is one of {', '.join(MODES)}")
    if not project:
        raise ValueError("project=''; a name is needed, tlx say")
    if not init_timeout_s > 0:
        raise ValueError(f"init_timeout_s={init_timeout_s}; a positive number of seconds, 5 say")
    return WandbLogger(
        run, project=project, mode=mode, entity=entity, init_timeout_s=init_timeout_s
    )


def tensorboard(run: RunInfo) -> RunLogger:
    """Writes TensorBoard's event files in the run's folder.

    Raises:
        ModuleNotFoundError: the package tensorboard is missing.
    """
    return TensorboardLogger(run)
