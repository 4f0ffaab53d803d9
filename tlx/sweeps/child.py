"""The worker as a child of a cluster's task: signals are handed on, its end is put into words."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import final

from tlx.base import interrupts
from tlx.execution import runs
from tlx.results import record
from tlx.sweeps.executor import OUTCOMES, Outcome

STOP_SIGNALS = interrupts.SIGNALS
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
)
"""Signals that a program brings upon itself: started again, it would do so again."""


def worker_command(folder: Path) -> list[str]:
    """The line that trains the run whose config is frozen in a folder."""
    return [sys.executable, "-u", "-m", "tlx.sweeps.worker", str(folder)]


@final
class Child:
    """A worker process of one run, which a signal to this process asks to stop."""

    def __init__(self, *, flag: Path | None = None) -> None:
        """Starts nothing yet.

        Args:
            flag: file whose appearance asks the worker to stop as well.
        """
        self.flag = flag
        self.asked: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def catch_signals(self) -> None:
        """Takes over the requests to stop of this process, for good."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.stop(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Asks the worker to stop at its next step; a worker not yet started never is."""
        self.asked = number
        self._hand_on()

    def _hand_on(self) -> None:
        if self.asked is not None and self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def run(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> int:
        """Runs a worker to its end.

        Args:
            command: of the worker.
            log: file that gets what it prints, after what is there.
            environment: added to this process's.
            cwd: folder to run in; None: this process's.

        Returns:
            Its exit status, 3 where it was asked to stop before it could start.
        """
        if self.asked is not None:
            return 3
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
            )
        self._hand_on()  # what was heard while it was being started
        return self.wait()

    def wait(self) -> int:
        """Waits for the worker; returns its exit status, 3 where it never started."""
        while self._process is not None:
            if self.asked is None and self.flag is not None and self.flag.exists():
                self.stop()
            try:
                # not for ever: Ray's way to interrupt a task waits for the end of a system call
                return self._process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue
        return 3


def understand(folder: Path, status: int) -> tuple[Outcome, str | None]:
    """What a worker's exit status means.

    Args:
        folder: of the run.
        status: exit status; negative: the signal that killed it.

    Returns:
        Outcome and reason, as in `Ended`.
    """
    if status in OUTCOMES:
        outcome = OUTCOMES[status]
        told = outcome in {"failed", "interrupted", "lost"}
        return outcome, record.error_of(folder) if told else None
    number = -status if status < 0 else status - 128  # 128 more is a shell's way to tell a signal
    try:
        name = signal.Signals(number).name
    except ValueError:
        return "failed", f"the worker exited with status {status}; see {folder / runs.LOG}"
    if number in STOP_SIGNALS:
        # it had no handler yet, or no longer: its last checkpoint is what there is
        return "interrupted", f"stopped by {name}"
    if number in CRASHES:
        return "failed", f"the worker crashed ({name}); see {folder / runs.LOG}"
    return "lost", f"the worker was killed ({name}): by somebody, or for want of memory"
