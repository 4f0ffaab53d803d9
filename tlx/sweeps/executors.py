"""The executor that a config asks for; what a kind needs is imported with it alone."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from tlx.config import schema
from tlx.config.calls import function_of
from tlx.sweeps.executor import Executor

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "local": ("tlx.sweeps.local.LocalExecutor", ()),
    "slurm": ("tlx.sweeps.slurm.SlurmExecutor", ("runs_dir", "name")),
    "ray": ("tlx.sweeps.ray.RayExecutor", ("runs_dir",)),
}
"""Kind to its class, and what that is told besides its options."""


def make(options: schema.ExecutorConfig, *, runs_dir: Path, name: str) -> Executor:
    """The executor that a config's `executor` node asks for.

    Args:
        options: of the node.
        runs_dir: where the runs live.
        name: of the study, for the cluster's lists of jobs.

    A kind of one's own is the dotted name of a function from options, `runs_dir` and `name`.

    Raises:
        RunError: its package is not installed, or an option cannot be.
    """
    given = {"runs_dir": runs_dir, "name": name}
    if options.kind not in KINDS:
        own: Executor = function_of(options.kind)(options, **given)
        return own
    place, keys = KINDS[options.kind]
    module, _, kind = place.rpartition(".")
    made: Executor = getattr(importlib.import_module(module), kind)(
        options, **{key: given[key] for key in keys}
    )
    return made
