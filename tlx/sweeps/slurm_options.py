"""From the config's `executor` and a run's needs to submitit's parameters."""

import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tlx.config import schema
from tlx.execution import runs
from tlx.sweeps import slurm_queue, snapshot
from tlx.sweeps.executor import Job
from tlx.sweeps.needs import gpus_each

OURS = {
    "array": "runs are put into arrays anyway",
    "output": "logs lie in the run's folder",
    "error": "logs lie in the run's folder",
    "open-mode": "logs lie in the run's folder",
    "signal": "say executor.signal_s",
    "time": "say executor.job_minutes",
    "nodes": "say trainer.nodes",
    "ntasks": "say trainer.devices",
    "ntasks-per-node": "say trainer.devices",
    "cpus-per-task": "say executor.cpus",
    "gpus-per-node": "say executor.gpus",
    "requeue": "say executor.max_requeues",
    "no-requeue": "say executor.max_requeues",
    "wrap": "a config may not bring commands",
    "partition": "say executor.partition",
    "account": "say executor.account",
    "qos": "say executor.qos",
    "mem": "say executor.memory_gb",
}
"""Options of sbatch that `executor.kwargs` may not set, and what to do instead."""


@dataclass(frozen=True)
class Needs:
    """What a run's job must have; runs with equal needs share an array.

    Attributes:
        devices: tasks a node.
        nodes: machines.
        gpus: of each node.
    """

    devices: int
    nodes: int
    gpus: int


def check(node: schema.ExecutorConfig) -> None:
    """Passes an executor node whose values sbatch can be given.

    Raises:
        RunError: an option is tlx's own, or text would leave its line of the batch file.
    """
    for key, value in (node.kwargs or {}).items():
        option = str(key).replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", option):
            raise runs.RunError(f"executor.kwargs: {key!r} is no option of sbatch")
        if option in OURS:
            raise runs.RunError(f"executor.kwargs.{key} is tlx's own: {OURS[option]}")
        _one_line(f"executor.kwargs.{key}", value)
    for key in ("partition", "account", "qos"):
        _one_line(f"executor.{key}", getattr(node, key))
    if node.signal_s >= node.job_minutes * 60:
        raise runs.RunError(
            f"executor.signal_s={node.signal_s} is not before the time limit, "
            f"executor.job_minutes={node.job_minutes}; make it smaller"
        )


def _one_line(place: str, value: object) -> None:
    if isinstance(value, str) and not value.isprintable():
        raise runs.RunError(f"{place}={value!r} must be one line of text")


def needs(job: Job, node: schema.ExecutorConfig) -> Needs:
    """What the job of a run must have.

    Raises:
        RunError: it is to have a part of a GPU.
    """

    def there() -> bool:
        return slurm_queue.has_gpus(node.partition)

    each = gpus_each(job.folder, node, there=there)
    if not each.is_integer():
        raise runs.RunError(f"executor.gpus={each:g}: Slurm gives whole GPUs; or executor=ray")
    return Needs(job.devices, job.nodes, int(each) * job.devices)


def parameters(
    node: schema.ExecutorConfig, needs: Needs, *, name: str, code: Path | None
) -> dict[str, object]:
    """What submitit's Slurm executor is told."""
    given = {
        "job_name": name,
        "partition": node.partition,
        "account": node.account,
        "qos": node.qos,
        "time": node.job_minutes,
        "signal_delay_s": node.signal_s,
        "mem": None if node.memory_gb is None else f"{math.ceil(node.memory_gb * 1024)}MB",
        "cpus_per_task": node.cpus,
        "nodes": needs.nodes,
        "ntasks_per_node": needs.devices,
        "gpus_per_node": needs.gpus or None,
        "array_parallelism": node.workers or 1_000_000,
        "stderr_to_stdout": True,
        # one rank that dies would leave the others waiting for it until the time limit
        "srun_args": ["--kill-on-bad-exit=1"],
        "additional_parameters": {"requeue": True, **(node.kwargs or {})},
    }
    if code is not None:
        given["setup"] = [
            f"export {key}={shlex.quote(value)}"
            for key, value in snapshot.environment(code).items()
        ]
    given = {key: value for key, value in given.items() if value is not None}
    # submitit's own default of a wckey is refused where the cluster keeps a list of them
    return {**given, "wckey": None}


def hint(needs: Needs) -> str:
    """What to look at when Slurm refuses a job."""
    if needs.gpus:
        return (
            f"it asked for {needs.gpus} GPUs a node; if the cluster has none, "
            "say trainer=cpu or executor.gpus=0"
        )
    return "see `sinfo` for partitions and their limits, and executor.partition, .account, .qos"
