"""The command on small runs, in a folder of a test's own: started as users start it, or forked."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from forking import CONTEXT
from tlx.base import interrupts
from tlx.results import reading, record

TESTS = Path(__file__).parent
SMALL = (
    *("dataset=digits", "dataset.labels_per_class=8", "backbone=timm", "trainer=cpu"),
    *("backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"),
    *("trainer.steps=12", "trainer.batch_size=16", "trainer.eval_every_steps=4", "logger=[csv]"),
)
PROBE = (
    *(*SMALL, "dataset.labels_per_class=6", "freeze_strategy=linear_probe", "trainer.workers=0"),
    *("trainer.steps=4", "trainer.batch_size=8", "trainer.eval_every_steps=2"),
)
"""Shorter still: four steps of a head."""

LIMIT_S = 400


def start(*words: str, cwd: Path, **more: str) -> "subprocess.Popen[str]":
    """Starts `tlx WORDS` in a folder, in a session of its own; `more` adds to the environment."""
    # what wandb left in this process would be of no use to another
    own = {name: value for name, value in os.environ.items() if "WANDB" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "tlx.cli", *words],
        cwd=cwd,
        env={**own, "PYTHONPATH": str(TESTS), "WANDB_MODE": "offline", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


def _heed_signals() -> None:
    """What a shell started in the background ignores Control-C, and so would all that it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def tlx(*words: str, cwd: Path, **more: str) -> tuple[int, str]:
    """Exit status and output of `tlx WORDS`, in a fork of what has imported it already."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "said.txt"
        process = CONTEXT.Process(target=_work, args=(words, cwd, log, more))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"tlx {' '.join(words)}: {log.read_text()}")
        assert process.exitcode is not None
        return process.exitcode, log.read_text()


def _work(words: tuple[str, ...], cwd: Path, log: Path, more: dict[str, str]) -> None:
    os.setsid()
    os.chdir(cwd)
    for name in [name for name in os.environ if "WANDB" in name]:
        del os.environ[name]
    os.environ.update({"PYTHONPATH": str(TESTS), "WANDB_MODE": "offline", **more})
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for number in interrupts.SIGNALS:  # the server of forks has set some of its own
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    torch.set_num_threads(1)
    sys.argv = ["tlx", *words]
    from tlx import cli

    sys.exit(cli.main())


def finished(cwd: Path) -> dict[str, int]:
    """Run to the time at which its record was finished."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in (cwd / "runs").glob(f"*/{record.FILE}")
        if reading.status_of(path.parent) == "finished"
    }
