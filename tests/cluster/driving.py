"""A small driver for tests of executors: starts runs, starts again what was lost, compares."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import torch

import launching
from tlx.config.schema import ExecutorConfig
from tlx.results import reading, record
from tlx.sweeps.executor import Job

# Twelve labels a class are 120 images; batch 16.
BASE = [
    "dataset=digits",
    "dataset.labels_per_class=12",
    "backbone=timm",
    "backbone.name=test_resnet",
    "backbone.init=none",
    "backbone.image_size=32",
    "augmentation=[standard]",
    "regularization=[dropout]",
    "trainer=cpu",
    "trainer.epochs=null",
    "trainer.batch_size=16",
    "trainer.eval_every_steps=20",
    "trainer.checkpoint_every_steps=5",
    "logger=[csv]",
]
LIMIT_S = 600


def freeze(runs_dir, *, seed=0, steps=60, more=()):
    """A frozen run."""
    lines = [*BASE, f"seed={seed}", f"trainer.steps={steps}", *more]
    return launching.freeze(lines, runs_dir=Path(runs_dir))


def options(kind, **changes):
    """Options of an executor with the schema's defaults, made for tests."""
    quick = {"poll_s": 0.5, "cpus": 1, "max_requeues": 5}
    return ExecutorConfig(kind=kind, **{**quick, **changes})


class Drive:
    """Runs at an executor, and how each of their jobs ended."""

    def __init__(self, executor, folders, *, devices=1):
        self.executor, self.folders, self.devices = executor, list(folders), devices
        self.ends = {folder: [] for folder in folders}
        self.open = set()
        for folder in folders:
            self._start(folder)

    def _start(self, folder):
        self.executor.start(Job(folder, devices=self.devices))
        self.open.add(folder)

    def look(self):
        """Takes what has ended; what was lost or interrupted is started again, four times."""
        release()
        for end in self.executor.ended(0.5):
            self.open.discard(end.folder)
            self.ends[end.folder].append(end)
            if end.outcome in {"lost", "interrupted"} and len(self.ends[end.folder]) < 5:
                self._start(end.folder)

    def until(self, happened):
        """Goes on until something is the case."""
        deadline = time.monotonic() + LIMIT_S
        while not happened():
            assert time.monotonic() < deadline, (self.ends, queue_text())
            self.look()

    def finish(self):
        """Goes on until nothing is open."""
        self.until(lambda: not self.open)

    def outcomes(self, folder):
        """What its jobs ended with."""
        return [end.outcome for end in self.ends[folder]]


def step(folder):
    """The step that a run last told of."""
    try:
        return int(json.loads((folder / "progress.json").read_text())["step"])
    except (OSError, ValueError, KeyError):
        return -1


def training(folder):
    """Whether a run has a checkpoint and is not done."""
    kept = folder / "checkpoints"
    return kept.is_dir() and any(kept.iterdir()) and reading.status_of(folder) == "running"


def worker_pids(folder):
    """The processes that train a run, told from those that merely name it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tlx.sweeps.worker" in words and str(folder).encode() in words:
            found.append(int(place.name))
    return sorted(found)


def kill_worker(folder):
    """`kill -9` of a run's worker."""
    for pid in worker_pids(folder):
        os.kill(pid, signal.SIGKILL)


def same(first, second):
    """Weights bit-identical, and every metric of every split equal."""
    one, two = launching.weights(first), launching.weights(second)
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    assert record.read(first).splits == record.read(second).splits


# -- Slurm ------------------------------------------------------------------------------------


def command(*line):
    """What a command of Slurm prints."""
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def notice(job):
    """Sends what a preemption notice sends.

    Slurm 22.05 answers "try again later" for a job of an array that is partly pending, although it
    has sent the signal, and scancel does try again, every few seconds: it is ended before that.
    """
    with subprocess.Popen(["scancel", "--signal=USR2", job]) as process:
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()


def queue_text():
    """The queue, for messages."""
    done = subprocess.run(["squeue", "-r"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if "SLURM_CONF" in os.environ else ""


_seen: dict[str, float] = {}


def release():
    """Lets requeued jobs start now: Slurm holds them back for two minutes.

    Not at once: a job that starts within the second of its requeue is refused by its node.
    """
    if "SLURM_CONF" not in os.environ:
        return
    waiting = command("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i %r").splitlines()
    jobs = {line.split()[0] for line in waiting if line.endswith("BeginTime")}
    for job in set(_seen) - jobs:
        del _seen[job]
    for job in jobs:
        if time.monotonic() - _seen.setdefault(job, time.monotonic()) > 3:
            command("scontrol", "update", f"jobid={job}", "starttime=now")


def job_of(folder):
    """The id of the run's Slurm job."""
    return json.loads((folder / "slurm.json").read_text())["job"]


def notes(folder):
    """What the job has noted in the run's folder."""
    try:
        return json.loads((folder / "slurm_notes.json").read_text())
    except (OSError, ValueError):
        return {}


def requeues(folder):
    """How often the run's job has gone back into the queue."""
    return notes(folder).get("requeues", 0)
