"""What a Slurm job executes: the worker, once a device, put back into the queue when stopped."""

import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, final

from tlx.execution import runs
from tlx.results import reading
from tlx.sweeps import child, slurm_queue
from tlx.sweeps.executor import Outcome

SUBMITTED = "slurm.json"
"""In a run's folder, written by who submits: `job`, `submitted`, `code`."""

NOTES = "slurm_notes.json"
"""In a run's folder, written by the job itself: the fields of `Notes`."""

CANCELLED = "slurm_cancelled.json"
"""In a run's folder, written before a job is cancelled: `job`."""


LIVING = frozenset({"RUNNING", "SIGNALING", "RESIZING", "UNKNOWN"})
"""States of a job that Slurm is not ending; one that was cancelled is COMPLETING first."""


@dataclass(frozen=True)
class Notes:
    """What a job tells those who wait for it; Slurm's accounting is not needed.

    Attributes:
        job: id; notes of another job are old.
        requeues: how often it has put itself back into the queue.
        outcome: as in `Ended`, once it is over.
        reason: of the outcome, or of the last requeue.
        node: where it runs or ran.
        time: of writing, in seconds since 1970.
    """

    job: str
    requeues: int = 0
    outcome: Outcome | None = None
    reason: str | None = None
    node: str = ""
    time: float = 0.0


def read_notes(folder: Path) -> Notes | None:
    """What the last job of a run has noted, or None."""
    found = read_json(folder / NOTES)
    return Notes(**found) if found else None


def read_json(path: Path) -> dict[str, Any]:
    """A file's mapping; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class JobFailed(RuntimeError):
    """Raised so that Slurm, too, shows the job as failed."""


@final
@dataclass(frozen=True)
class SlurmTask:
    """The function that submitit calls, in every task of the job.

    Args:
        folder: of the run.
        max_requeues: how often the job may go back into the queue.
    """

    folder: Path
    max_requeues: int

    def __call__(self) -> Outcome:
        """Runs the worker; returns the outcome.

        Raises:
            JobFailed: the run failed or its worker was killed.
        """
        first = int(os.environ.get("SLURM_PROCID", "0")) == 0
        notes = self._begin(write=first)
        if reading.status_of(self.folder) == "finished":
            return self._over(notes, "finished", None)
        worker = child.Child()
        worker.catch_signals()  # after submitit, which would requeue without waiting for us
        log = self.folder / (runs.LOG if first else f"log.{os.environ['SLURM_PROCID']}.txt")
        status = worker.run(
            child.worker_command(self.folder), log=log, environment=rendezvous(os.environ)
        )
        outcome, reason = child.understand(self.folder, status)
        if outcome == "interrupted":
            return self._go_on_later(notes, reason) if first else outcome
        if outcome in {"failed", "lost"}:
            self._over(notes, outcome, reason)
            raise JobFailed(f"{self.folder.name}: {outcome}, {reason}")
        return self._over(notes, outcome, reason) if first else outcome

    def _begin(self, *, write: bool) -> Notes:
        job, before = job_id(), read_notes(self.folder)
        requeues = before.requeues if before is not None and before.job == job else 0
        notes = Notes(job=job, requeues=requeues, node=os.uname().nodename)
        return self._write(notes) if write else notes

    def _write(self, notes: Notes) -> Notes:
        notes = replace(notes, time=time.time())
        runs.write_json(self.folder / NOTES, asdict(notes))
        return notes

    def _over(self, notes: Notes, outcome: Outcome, reason: str | None) -> Outcome:
        self._write(replace(notes, outcome=outcome, reason=reason))
        return outcome

    def _go_on_later(self, notes: Notes, reason: str | None) -> Outcome:
        """Puts the job back into the queue, unless Slurm is ending it or it was too often."""
        if slurm_queue.state_of(notes.job) not in LIVING:
            # cancelled, out of time, or requeued by Slurm itself: the queue will tell
            self._write(replace(notes, reason=reason))
            sys.exit(0)
        if notes.requeues >= self.max_requeues:
            times = f"after {notes.requeues} times back in the queue (executor.max_requeues)"
            return self._over(notes, "failed", f"{reason}, {times}; --retry-failed goes on from it")
        self._write(replace(notes, requeues=notes.requeues + 1, reason=reason))
        problem = slurm_queue.requeue(notes.job)
        if problem is not None and slurm_queue.state_of(notes.job) != "PENDING":
            return self._over(notes, "interrupted", f"{reason}; Slurm did not requeue: {problem}")
        sys.exit(0)  # no result for submitit: the job is not over


def cancelled_by_us(folder: Path, job: str) -> bool:
    """Whether it was tlx that cancelled a job, so that the run is no failure."""
    return read_json(folder / CANCELLED).get("job") == job


def is_job(text: object) -> TypeGuard[str]:
    """Whether what was read from a file is a job's id; it names files of submitit's."""
    return isinstance(text, str) and re.fullmatch(r"[0-9]+(_[0-9]+)?", text) is not None


def job_id() -> str:
    """This job's id as squeue shows it: `12`, or `12_3` in an array."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def rendezvous(variables: "os._Environ[str]") -> dict[str, str]:
    """Variables for the worker: its threads, and how the tasks of one node find each other."""
    found = {"OMP_NUM_THREADS": variables.get("SLURM_CPUS_PER_TASK", "1")}
    found = {name: value for name, value in found.items() if name not in variables}
    if variables.get("SLURM_JOB_NUM_NODES") == "1" and int(variables.get("SLURM_NTASKS", "1")) > 1:
        found["MASTER_ADDR"] = "127.0.0.1"
        found["MASTER_PORT"] = str(15000 + int(variables["SLURM_JOB_ID"]) % 15000)
    return found
