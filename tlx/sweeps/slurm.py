"""Runs as Slurm jobs, submitted as arrays through submitit.

Submitit writes the batch file and starts our function in every task. It neither waits nor
requeues for us: it learns how jobs ended from the accounting database, which many clusters lack,
and it requeues inside a signal handler, which ends the worker before it has saved. How a job
ended stands in the run's folder instead (`slurm_task.Notes`).
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tlx.config import schema
from tlx.execution import runs
from tlx.results import reading
from tlx.sweeps import slurm_options, slurm_queue, slurm_task, snapshot
from tlx.sweeps.executor import Ended, Job
from tlx.sweeps.slurm_options import Needs

FOLDER = "slurm"
"""In the folder of runs: submitit's batch files, pickled tasks and their logs."""

SILENCE_S = 900.0

HINTS = {
    "TIMEOUT": ", before it had saved (raise executor.job_minutes or executor.signal_s)",
    "OUT_OF_MEMORY": " (raise executor.memory_gb)",
}
"""What to do about a state that a job ended in."""


@dataclass
class _Open:
    """A job that has been submitted: its id, and when it was first seen to be over."""

    job: str
    over_since: float | None = None


@final
class SlurmExecutor:
    """Submits runs as Slurm jobs and waits for them; a job of an earlier driver is taken over."""

    def __init__(self, node: schema.ExecutorConfig, *, runs_dir: Path, name: str = "tlx") -> None:
        """Prepares; nothing is submitted before the first `ended`.

        Args:
            node: the config's `executor`.
            runs_dir: folder of the runs; every node of the cluster must see it.
            name: of the jobs, in squeue.
        """
        self.node, self.name = node, name
        self.runs_dir = runs_dir.absolute()
        self.settle_s = 10.0
        self._waiting: list[Job] = []
        self._open: dict[Path, _Open] = {}
        self._queue: dict[str, slurm_queue.Queued] = {}
        self._asked, self._answered = -1e9, time.monotonic()
        self._code: Path | None = None
        slurm_options.check(node)

    def room(self, job: Job) -> bool:
        """Whether fewer than `executor.max_jobs` jobs are waiting or running."""
        return len(self._waiting) + len(self._open) < int(self.node.max_jobs)

    def start(self, job: Job) -> None:
        """Takes a run; it is submitted, together with others, by the next `ended`."""
        before = slurm_task.read_json(job.folder / slurm_task.SUBMITTED).get("job")
        # squeue may still show a job that has noted its end
        if slurm_task.is_job(before) and not _noted_end(job.folder, before):
            self._look()
            found = self._queue.get(before)
            if found is not None and not found.over:
                self._open[job.folder] = _Open(before)
                return
        self._waiting.append(job)

    def ended(self, timeout_s: float) -> list[Ended]:
        """Submits what was started, waits up to `timeout_s`, returns what has ended since."""
        self._submit_all()
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._collect()
            left = deadline - time.monotonic()
            if found or not self._open or left <= 0:
                return found
            time.sleep(min(left, 1.0))

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Forgets what is not submitted; jobs stay, for the next driver to wait for."""
        self._waiting.clear()
        if self._open:
            print(
                f"{len(self._open)} Slurm jobs stay in the queue or go on; the same command waits "
                "for them again, `tlx cancel` ends them",
                flush=True,
            )

    def cancel(self, folders: Sequence[Path]) -> int:
        """Ends the jobs of runs; those that run save first. Returns how many there were."""
        return cancel(folders)

    def close(self) -> None:
        """Leaves everything as it is: jobs do not need their driver."""

    # -- submitting ---------------------------------------------------------------------------

    def _submit_all(self) -> None:
        groups: dict[Needs, list[Job]] = {}
        while self._waiting:
            job = self._waiting.pop(0)
            groups.setdefault(slurm_options.needs(job, self.node), []).append(job)
        for needs, jobs in groups.items():
            size = slurm_queue.largest_array() if len(jobs) > 1 else 1
            for first in range(0, len(jobs), size):
                self._submit(jobs[first : first + size], needs)

    def _submit(self, jobs: list[Job], needs: Needs) -> None:
        try:
            import submitit
        except ImportError as error:
            raise runs.RunError("executor=slurm needs submitit: pip install submitit") from error
        if self.node.snapshot and self._code is None:
            self._code = snapshot.take(self.runs_dir, paths=self.node.snapshot_paths or ())
        executor = submitit.SlurmExecutor(folder=self.runs_dir / FOLDER)
        executor.update_parameters(
            **slurm_options.parameters(self.node, needs, name=self.name, code=self._code)
        )
        tasks = [slurm_task.SlurmTask(job.folder, self.node.max_requeues) for job in jobs]
        try:
            with _outside_jobs(), executor.batch():
                submitted = [executor.submit(task) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            raise runs.RunError(
                f"Slurm refused {len(jobs)} jobs: {error}\n{slurm_options.hint(needs)}"
            ) from error
        for job, made in zip(jobs, submitted, strict=True):
            facts = {"job": made.job_id, "submitted": time.time(), "code": self._code}
            runs.write_json(job.folder / slurm_task.SUBMITTED, facts)
            self._open[job.folder] = _Open(made.job_id)
        self._asked = -1e9

    # -- waiting ------------------------------------------------------------------------------

    def _collect(self) -> list[Ended]:
        self._look()
        found = []
        for folder, job in list(self._open.items()):
            end = self._end(folder, job)
            if end is not None:
                del self._open[folder]
                found.append(end)
                if end.outcome == "finished":
                    self._tidy(job.job)
        return found

    def _tidy(self, job: str) -> None:
        """Removes submitit's files of a job that went well; the run has its own log."""
        for name in ("submitted.pkl", "0_result.pkl", "0_log.out"):
            (self.runs_dir / FOLDER / f"{job}_{name}").unlink(missing_ok=True)

    def _end(self, folder: Path, job: _Open) -> Ended | None:
        if (end := _noted_end(folder, job.job)) is not None:
            return end
        seen = self._queue.get(job.job)
        if seen is not None and not seen.over:
            job.over_since = None
            return None
        now = time.monotonic()
        job.over_since = job.over_since or now
        # between two attempts a job looks ended for a moment, and files need time on NFS
        if now - job.over_since < self.settle_s or self._asked < job.over_since:
            return None
        if reading.status_of(folder) == "finished":
            return Ended(folder, "finished")
        return self._vanished(folder, job.job, seen)

    def _vanished(self, folder: Path, job: str, seen: slurm_queue.Queued | None) -> Ended:
        """How a job ended that could not say so itself."""
        if seen is not None and seen.state.startswith("CANCELLED"):
            ours = slurm_task.cancelled_by_us(folder, job)
            reason = f"Slurm job {job} was cancelled"
            return Ended(folder, "interrupted" if ours else "failed", reason)
        state = seen.state if seen is not None else "no longer in the queue"
        log = self.runs_dir / FOLDER / f"{job}_0_log.out"
        return Ended(folder, "lost", f"Slurm job {job} is {state}{HINTS.get(state, '')}; see {log}")

    def _look(self) -> None:
        """Asks squeue again, not more often than every `executor.poll_s`."""
        now = time.monotonic()
        if now - self._asked < self.node.poll_s:
            return
        found = slurm_queue.queue()
        self._asked = time.monotonic()
        if found is not None:
            self._queue, self._answered = found, self._asked
        elif self._asked - self._answered > SILENCE_S:
            raise runs.RunError(
                f"squeue has not answered for {SILENCE_S / 60:.0f} minutes; jobs go on without "
                "us, launch again when Slurm is back"
            )


def _noted_end(folder: Path, job: str) -> Ended | None:
    """How a job ended in its own words; None where it has not, or could not say so."""
    notes = slurm_task.read_notes(folder)
    if notes is None or notes.job != job or notes.outcome is None:
        return None
    return Ended(folder, notes.outcome, notes.reason)


def cancel(folders: Sequence[Path]) -> int:
    """Ends the queued and running jobs of runs; those that run save first.

    Returns:
        How many there were.

    Raises:
        RunError: Slurm does not answer.
    """
    read = {folder: slurm_task.read_json(folder / slurm_task.SUBMITTED) for folder in folders}
    jobs = {f: facts["job"] for f, facts in read.items() if slurm_task.is_job(facts.get("job"))}
    queued = slurm_queue.queue() if jobs else {}
    if queued is None:
        raise runs.RunError("squeue does not answer, so that nothing was cancelled; try again")
    living = {job: folder for folder, job in jobs.items() if job in queued and not queued[job].over}
    for job, folder in living.items():
        runs.write_json(folder / slurm_task.CANCELLED, {"job": job})
    slurm_queue.cancel(sorted(living))
    return len(living)


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hides the variables of a Slurm job that this process itself runs in; sbatch heeds them."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [n for n in os.environ if n.startswith("SLURM_") and n != "SLURM_CONF"]
        hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
