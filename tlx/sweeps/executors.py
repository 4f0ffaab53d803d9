"""The executor that a config asks for; what a kind needs is imported with it alone."""

from pathlib import Path

from tlx.config import schema
from tlx.sweeps.executor import Executor


def make(options: schema.Executor, *, runs_dir: Path, name: str) -> Executor:
    """The executor that a config's `executor` node asks for.

    Args:
        options: of the node.
        runs_dir: where the runs live.
        name: of the study, for the cluster's lists of jobs.

    Raises:
        RunError: its package is not installed, or an option cannot be.
    """
    if options.kind == "slurm":
        from tlx.sweeps.slurm import SlurmExecutor

        return SlurmExecutor(options, runs_dir=runs_dir, name=name)
    if options.kind == "ray":
        from tlx.sweeps.ray import RayExecutor

        return RayExecutor(options, runs_dir=runs_dir)
    from tlx.sweeps.local import LocalExecutor

    return LocalExecutor(options)
