"""What a run must be given by a cluster."""

from collections.abc import Callable
from pathlib import Path

import yaml

from tlx.config import schema
from tlx.execution import runs


def gpus_each(folder: Path, node: schema.ExecutorConfig, *, there: Callable[[], bool]) -> float:
    """GPUs for each device of a run; parts of one are Ray's only.

    Args:
        folder: of the run.
        node: the config's `executor`; `gpus=null` follows `trainer.accelerator`.
        there: tells whether the cluster has GPUs, asked where the accelerator is `auto`.
    """
    if node.gpus is not None:
        return float(node.gpus)
    wanted = accelerator(folder)
    return 1.0 if wanted == "gpu" or (wanted == "auto" and there()) else 0.0


def accelerator(folder: Path) -> str:
    """`trainer.accelerator` of a frozen run."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(folder / runs.CONFIG, encoding="utf-8") as file:
        return str(yaml.load(file, Loader=loader)["trainer"]["accelerator"])
