"""The command, started as users start it, on small runs in a folder of a test's own."""

import os
import subprocess
import sys
from pathlib import Path

from tlx.results import reading, record

TESTS = Path(__file__).parent
SMALL = (
    *("dataset=digits", "dataset.labels_per_class=8", "backbone=timm", "trainer=cpu"),
    *("backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"),
    *("trainer.steps=12", "trainer.batch_size=16", "trainer.eval_every_steps=4", "logger=[csv]"),
)
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
    )


def tlx(*words: str, cwd: Path, **more: str) -> tuple[int, str]:
    """Exit status and output of `tlx WORDS`."""
    process = start(*words, cwd=cwd, **more)
    out, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, out


def finished(cwd: Path) -> dict[str, int]:
    """Run to the time at which its record was finished."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in (cwd / "runs").glob(f"*/{record.FILE}")
        if reading.status_of(path.parent) == "finished"
    }
