"""A process that has imported everything, and forks a child for each run.

A fork costs milliseconds where a fresh process imports for seconds, and a child that crashes,
leaks or changes global state harms no other run. Nothing here starts a thread or touches a GPU
before the fork: neither survives it.

It is spoken to in lines of JSON on its standard input, and answers likewise.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tlx.base.secrecy import masked_text
from tlx.config.places import targets_by_group
from tlx.execution import launch

PRELOAD = (
    "tlx.execution.execute", "tlx.train.train", "tlx.use.evaluate", "tlx.training.logs.loggers",
    "sklearn.datasets", "scipy.stats", "torchmetrics", "torchvision.transforms.v2",
    "matplotlib.font_manager", "yaml", "rich._emoji_codes", "rich.progress",
    "sklearn.datasets.data",
)  # fmt: skip


def main() -> NoReturn:
    """Serves until its standard input closes, which it does when the driver ends."""
    launch.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    _preload()
    Server(answers).serve()
    os._exit(0)  # libraries that were only ever forked have nothing to say at the end


def _preload() -> None:
    import importlib

    import torch

    torch.set_num_threads(1)  # no thread pool may exist before a fork
    targets = {target for group in targets_by_group().values() for target in group}
    for name in (*PRELOAD, *sorted({target.rpartition(".")[0] for target in targets})):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            getattr(module, "preload", lambda: None)()  # what all runs share
    from rich.cells import cell_len

    cell_len("─")  # reads a table of widths
    gc.collect()
    gc.freeze()  # so that children share these objects' memory


class Server:
    """Forks, and tells which children ended."""

    def __init__(self, answers: TextIO) -> None:
        """Watches for requests and for children that end."""
        self.answers = answers
        self.jobs: dict[int, int] = {}
        self.rest = b""
        self.woken, waker = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Works until the driver is gone; then takes the children along."""
        import torch

        self.say(ready=True, gpus=torch.cuda.device_count())
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self.woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.woken, 4096)
                    self.reap()
                if 0 in ready and not self.hear():
                    break
        for pid in self.jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def hear(self) -> bool:
        """Starts what was asked for; False once the driver has hung up."""
        data = os.read(0, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.start(json.loads(line))
        return bool(data)

    def start(self, request: dict[str, Any]) -> None:
        """Forks a child for a run."""
        pid = os.fork()
        if pid == 0:
            _child(request)
        self.jobs[pid] = request["job"]
        self.say(started=request["job"], pid=pid)

    def reap(self) -> None:
        """Tells the driver of every child that has ended."""
        while self.jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job = self.jobs.pop(pid, None)
            if job is not None:
                self.say(ended=job, status=os.waitstatus_to_exitcode(status))

    def say(self, **message: object) -> None:
        """One line to the driver."""
        self.answers.write(json.dumps(message) + "\n")


def _child(request: dict[str, Any]) -> None:
    """Trains one run, and never returns."""
    status = 1
    try:
        os.setsid()  # a group of its own: signals from the terminal are the driver's to pass on
        launch.die_with_parent()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _redirect(request["log"])
        os.environ.update(request["environment"])
        _forget_peak_memory()
        import torch

        torch.set_num_threads(request["threads"])
        from tlx.sweeps import worker

        status = worker.work(Path(request["folder"]))
    except BaseException:
        import traceback

        print(masked_text(traceback.format_exc()), file=sys.stderr, end="", flush=True)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # what the parent registered to do at its exit is not the child's


def _redirect(log: str) -> None:
    """Prints into the run's log from now on."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(source, number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _forget_peak_memory() -> None:
    """Starts the kernel's high-water mark anew, so that a run reports its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


if __name__ == "__main__":
    main()
