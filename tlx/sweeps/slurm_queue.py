"""Slurm's own commands, as far as they are needed: the queue, requeue, cancel. No accounting."""

import getpass
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tlx.execution import runs

ANSWER_S = 120

OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    }
)
"""States that a job does not leave by itself."""


@dataclass(frozen=True)
class Queued:
    """A job as squeue shows it.

    Attributes:
        state: like PENDING, RUNNING, FAILED.
        why: Slurm's word for why it waits, or None.
    """

    state: str
    why: str

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER


def queue() -> dict[str, Queued] | None:
    """This user's jobs by id (`12`, or `12_3` in an array); None where Slurm does not answer.

    Ended jobs stay for some minutes (`MinJobAge`), with the state that they ended in.
    """
    line = ["squeue", "-h", "-r", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%T|%r"]
    try:
        said = _command(line)
    except FileNotFoundError:
        raise runs.RunError(
            "executor=slurm: there is no squeue here; launch from a login node of the cluster, "
            "or say executor=local"
        ) from None
    if said.returncode != 0:
        return None
    rows = (text.split("|", 2) for text in said.stdout.splitlines() if text.count("|") >= 2)
    return {job.strip(): Queued(state.strip(), why.strip()) for job, state, why in rows}


def state_of(job: str) -> str:
    """A job's state in the controller's own words; UNKNOWN where it has forgotten the job.

    Args:
        job: `12_3` of an array: a bare number may mean its every job.
    """
    said = _command(["scontrol", "show", "job", "-o", job])
    found = re.search(r"\bJobState=(\w+)", said.stdout)
    return found.group(1) if found else "UNKNOWN"


def requeue(job: str) -> str | None:
    """Puts a running job back into the queue, under its id; returns why not, where it fails."""
    said = _command(["scontrol", "requeue", job])
    return None if said.returncode == 0 else said.stderr.strip() or "scontrol requeue failed"


def cancel(jobs: Sequence[str]) -> None:
    """Ends jobs: waiting ones at once, running ones by SIGTERM, on which they save."""
    for start in range(0, len(jobs), 500):
        said = _command(["scancel", *jobs[start : start + 500]])
        if said.returncode != 0 and "Invalid job id" not in said.stderr:
            raise runs.RunError(f"scancel failed: {said.stderr.strip()}")


@cache
def has_gpus(partition: str | None) -> bool:
    """Whether a partition, or any for None, has nodes with GPUs."""
    line = ["sinfo", "-h", "-o", "%G", *(["-p", partition] if partition else [])]
    return "gpu" in _command(line).stdout


@cache
def largest_array() -> int:
    """How many jobs an array may have on this cluster."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _command(["scontrol", "show", "config"]).stdout)
    return max(int(found.group(1)) - 1, 1) if found else 1000


def _command(line: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        silence = f"{line[0]} did not answer within {ANSWER_S} seconds"
        return subprocess.CompletedProcess(line, 1, "", silence)
