"""The local executor: runs on this machine, several at once, each in a process of its own."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

from tlx.base import cores, interrupts
from tlx.config import schema
from tlx.execution import runs
from tlx.sweeps.executor import OUTCOMES, Ended, Job

GRACE_S = 20.0
"""How long a run that is told to stop may take, before it is killed."""

HURRIED_GRACE_S = 5.0
"""How long one may take that is told to stop without saving."""


@dataclass
class Running:
    """A job at work, the slots it holds, and why it was killed if it was."""

    job: Job
    slots: list[int]
    started: float = field(default_factory=time.monotonic)
    pid: int | None = None
    killed_for: str | None = None


@final
class LocalExecutor:
    """Children of one warm process, at most one a slot; devices and threads divided among them."""

    def __init__(self, options: schema.ExecutorConfig) -> None:
        """Starts nothing yet.

        Args:
            options: `workers`, `per_device`, `threads`, `timeout_minutes`, `memory_gb`.
        """
        self.options = options
        self.server: subprocess.Popen[bytes] | None = None
        self.rest = b""
        self.running: dict[int, Running] = {}
        self.count = 0
        self.gpus: list[str] = []
        self.slots: list[str | None] = []

    # -- the protocol -------------------------------------------------------------------------

    def room(self, job: Job) -> bool:
        """Whether enough slots are free."""
        self._open()
        return self._choose(job) is not None

    def start(self, job: Job) -> None:
        """Forks a child for a job."""
        self._open()
        slots = self._choose(job)
        if slots is None:
            raise RuntimeError(f"no free slot for {job.folder.name}; ask `room` first")
        self.count += 1
        self.running[self.count] = Running(job, slots)
        threads = self._threads(slots=len(slots), devices=job.devices)
        environment = {"OMP_NUM_THREADS": str(threads)}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(self.slots[s]) for s in slots)
        self._say(
            job=self.count,
            folder=str(job.folder),
            log=str(job.folder / runs.LOG),
            environment=environment,
            threads=threads,
        )

    def ended(self, timeout_s: float) -> list[Ended]:
        """What ended since the last call."""
        until = time.monotonic() + timeout_s
        found: list[Ended] = []
        while True:
            self._enforce_limits()
            left = max(until - time.monotonic(), 0.0)
            for message in self._hear(min(left, 0.5)):
                if "started" in message:
                    self.running[message["started"]].pid = message["pid"]
                elif "ended" in message:
                    found.append(self._end(message["ended"], message["status"]))
            if self.server is not None and self.server.poll() is not None:
                found += self._server_gone()
            if found or not self.running or time.monotonic() >= until:
                return found

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Asks every run to stop at its next step; kills what has not after a while."""
        self._signal(signal.SIGTERM)
        until, hurried = time.monotonic() + GRACE_S, False
        while self.running and time.monotonic() < until:
            if hurry() and not hurried:
                self._signal(signal.SIGINT)  # after the other: at once, without a checkpoint
                until, hurried = time.monotonic() + HURRIED_GRACE_S, True
            self.ended(0.25)
        self._signal(signal.SIGKILL)
        while self.running and self.server is not None:
            self.ended(0.5)

    def close(self) -> None:
        """Ends the warm process, and with it whatever still runs."""
        if self.server is None:
            return
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
        self.server = None

    # -- slots --------------------------------------------------------------------------------

    def _lay_slots(self, gpus: int) -> None:
        visible = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
        self.gpus = visible if len(visible) == gpus else [str(index) for index in range(gpus)]
        workers = self.options.workers
        if self.gpus:
            every = [gpu for _ in range(self.options.per_device) for gpu in self.gpus]
            self.slots = list(every[:workers] if workers else every)
        else:
            each = self.options.threads or cores.asked_for() or 1
            self.slots = [None] * (workers or max(cores.usable() // each, 1))

    def _choose(self, job: Job) -> list[int] | None:
        """Free slots for a job, on different devices; None where there are not enough."""
        taken = {slot for running in self.running.values() for slot in running.slots}
        free = [slot for slot in range(len(self.slots)) if slot not in taken]
        if not self.gpus:
            wanted = min(job.devices, len(self.slots))
            return free[:wanted] if len(free) >= wanted else None
        if job.devices > len(self.gpus):
            raise runs.RunError(
                f"{job.folder.name} wants {job.devices} devices, this machine has {len(self.gpus)}"
            )
        by_device = {self.slots[slot]: slot for slot in reversed(free)}
        chosen = sorted(by_device.values())[: job.devices]
        return chosen if len(chosen) == job.devices else None

    def _threads(self, *, slots: int, devices: int) -> int:
        """Threads of each process of a run: as told, as the environment asks, or its share."""
        said = self.options.threads or cores.asked_for()
        # the ranks of a run divide what its slots are worth
        share = cores.usable() * slots // (max(len(self.slots), 1) * max(devices, 1))
        return said or max(share, 1)

    # -- the warm process ---------------------------------------------------------------------

    def _open(self) -> None:
        if self.server is not None:
            return
        from tlx.execution import launch

        self.server = subprocess.Popen(
            [sys.executable, "-m", "tlx.sweeps.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # OpenMP must not start threads before the forks
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=launch.die_with_parent,
            start_new_session=True,
        )
        while True:
            for message in self._hear(60.0):
                if message.get("ready"):
                    self._lay_slots(message["gpus"])
                    return
            if self.server.poll() is not None:
                raise runs.RunError("the process that forks the runs did not start, see above")

    def _say(self, **message: object) -> None:
        assert self.server is not None
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(message).encode() + b"\n")

    def _hear(self, timeout_s: float) -> list[dict[str, Any]]:
        if self.server is None or self.server.stdout is None:
            return []
        with selectors.DefaultSelector() as selector:
            selector.register(self.server.stdout, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return []
        data = os.read(self.server.stdout.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _server_gone(self) -> list[Ended]:
        """All that ran is lost; the next start brings another warm process."""
        lost = [Ended(running.job.folder, "lost") for running in self.running.values()]
        self.running.clear()
        assert self.server is not None
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server, self.rest = None, b""
        return lost

    # -- ends ---------------------------------------------------------------------------------

    def _end(self, number: int, status: int) -> Ended:
        running = self.running.pop(number)
        folder = running.job.folder
        if running.killed_for is not None:
            return Ended(folder, "failed", running.killed_for)
        if status >= 0:
            return Ended(folder, OUTCOMES.get(status, "failed"))
        name = signal.Signals(-status).name
        if -status in interrupts.SIGNALS:
            return Ended(folder, "interrupted")
        if -status == signal.SIGKILL:
            return Ended(folder, "lost", f"killed ({name}): by somebody, or for want of memory")
        return Ended(folder, "failed", f"the process crashed ({name}); see {folder / runs.LOG}")

    def _signal(self, number: signal.Signals, only: Running | None = None) -> None:
        for running in [only] if only else list(self.running.values()):
            if running.pid is None:
                continue
            try:
                # only the run itself is asked to stop, its loaders and ranks end with it
                (os.killpg if number == signal.SIGKILL else os.kill)(running.pid, number)
            except ProcessLookupError:
                continue

    def _enforce_limits(self) -> None:
        minutes, gigabytes = self.options.timeout_minutes, self.options.memory_gb
        if minutes is None and gigabytes is None:
            return
        for running in self.running.values():
            if running.killed_for is not None or running.pid is None:
                continue
            seconds = time.monotonic() - running.started
            if minutes is not None and seconds > 60 * minutes:
                running.killed_for = f"ran longer than executor.timeout_minutes={minutes:g}"
            elif gigabytes is not None and (used := _resident_gb(running.pid)) > gigabytes:
                running.killed_for = f"used {used:.1f} GB, above executor.memory_gb={gigabytes:g}"
            if running.killed_for is not None:
                self._signal(signal.SIGKILL, running)


def _resident_gb(pid: int) -> float:
    """Resident memory of a process and all that it started."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        return total / 1e9
    return total / 1e9
