"""Requests to stop, sent to real processes at each moment of a run: its record, and the status."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import launching
import studying
from cover import cover
from forking import CONTEXT
from studying import SMALL
from tlx.base import interrupts
from tlx.execution import execute, runs
from tlx.execution.runs import PROGRESS
from tlx.results import reading, record

BETWEEN_S = 1.2 * interrupts.SAME_S
# 27 images to test on: on hundreds of them a run spends a third of its time
FEW = (*SMALL, "dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0")
LINE = ("train", *FEW, "trainer.eval_every_steps=6")


class Pressed:
    """Sabotage: when a function is called for the nth time, signals come, and it takes a while."""

    def __init__(self, place: str, signals: list[int], *, calls: int = 1) -> None:
        """Names the function, `tlx.train:evaluate` or `tlx.train:Class.method`."""
        self.place, self.signals, self.calls = place, signals, calls

    def __call__(self) -> None:
        """Puts the trap in place."""
        import importlib

        module, _, path = self.place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        original, seen = getattr(owner, name), [0]

        def trapped(*args: Any, **kwargs: Any) -> Any:
            seen[0] += 1
            if seen[0] == self.calls:
                threading.Thread(target=self.press, daemon=True).start()
                time.sleep(BETWEEN_S * (len(self.signals) + 1))
            return original(*args, **kwargs)

        setattr(owner, name, trapped)

    def press(self) -> None:
        """Sends the signals, as from outside."""
        for number in self.signals:
            os.kill(os.getpid(), number)
            time.sleep(BETWEEN_S)


def _work(words: tuple[str, ...], folder: Path, sabotage: Callable[[], None] | None) -> None:
    os.chdir(folder)
    with open(folder / "said.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(1)
    for number in interrupts.SIGNALS:  # the server of forks has set some of its own
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    if sabotage is not None:
        sabotage()
    sys.argv = ["tlx", *words]
    from tlx import cli

    sys.exit(cli.main())


def tlx(folder: Path, *words: str, sabotage: Callable[[], None] | None = None) -> int:
    """Exit status of `tlx WORDS` in a process of its own; what it says is in said.txt."""
    process = CONTEXT.Process(target=_work, args=(words, folder, sabotage))
    process.start()
    process.join(launching.LIMIT_S)
    assert process.exitcode is not None
    return process.exitcode


def run_of(folder: Path) -> Path:
    """The one run there is."""
    (found,) = (path.parent for path in (folder / "runs").glob("*/record.json"))
    return found


STEP = "tlx.training.engine.module:TransferModule.training_step"
PHASES: dict[str, tuple[str, int]] = {
    "data": ("tlx.building.plans:splits", 1),
    "training": (STEP, 8),
    "validation": ("tlx.training.engine.module:TransferModule.validation_step", 1),
    "saving": ("tlx.training.engine.checkpoints:_write", 1),
    "evaluation": ("tlx.training.procedures:by_trainer", 2),
    "writing": ("tlx.train.finish:save_weights", 1),
    "goodbye": ("tlx.training.logs.csv_logger:CsvLogger.finish", 1),
}
INT, TERM, HUP, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
QUICK = {
    ("training", (INT, INT)),
    ("evaluation", (TERM,)),
    ("training", (HUP,)),
    ("goodbye", (INT,)),
}
KINDS = [(INT,), (INT, INT), (INT, INT, INT), (TERM,), (HUP,), (USR1,), (TERM, TERM, INT)]


@pytest.mark.parametrize(
    ("phase", "signals"),
    [
        pytest.param(
            phase,
            kinds,
            id=f"{phase}-{'-'.join(kind.name for kind in kinds)}",
            marks=[] if (phase, kinds) in QUICK else pytest.mark.slow,
        )
        for phase, kinds in sorted({*QUICK, *cover(list(PHASES), KINDS, every=7)})
    ],
)
def test_whatever_signal_comes_whenever_the_run_is_interrupted(
    phase: str, signals: tuple[int, ...], tmp_path: Path
) -> None:
    place, calls = PHASES[phase]
    status = tlx(tmp_path, *LINE, sabotage=Pressed(place, list(signals), calls=calls))
    said = (tmp_path / "said.txt").read_text()
    assert status == interrupts.STATUS, said
    folder = run_of(tmp_path)
    assert reading.status_of(folder) == ("finished" if phase == "goodbye" else "interrupted"), said
    assert "Traceback" not in said
    patient = phase in {"training", "saving", "validation"} and signals[1:] == ()
    if patient:
        assert "; saved" in (record.error_of(folder) or "")
    if (phase, signals) in QUICK:
        assert tlx(tmp_path, *LINE) == 0
        assert reading.status_of(folder) == "finished"


def test_control_c_while_modules_are_imported_ends_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tlx.cli", *LINE], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while "yaml" not in maps.read_text() and "numpy" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(INT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (interrupts.STATUS, "stopped")
    assert not list(tmp_path.glob("runs/*/record.json"))


@pytest.mark.parametrize("kind", [INT, TERM], ids=["INT", "TERM"])
def test_a_signal_to_the_loaders_as_well_lets_the_run_save(kind: int, tmp_path: Path) -> None:
    """Ctrl-C, and what batch systems send, reach every process of the run."""
    trap = Group(STEP, [kind, kind] if kind == INT else [kind], calls=4)
    status = tlx(tmp_path, *LINE, "trainer.workers=2", sabotage=trap)
    said = (tmp_path / "said.txt").read_text()
    assert status == interrupts.STATUS, said
    assert reading.status_of(run_of(tmp_path)) == "interrupted"
    assert kind == INT or "stopped by a signal at step 4; saved" in said


class Group(Pressed):
    """Signals to all processes of a group."""

    def __call__(self) -> None:
        """Puts the trap in place, in a group of its own."""
        os.setpgrp()
        super().__call__()

    def press(self) -> None:
        """Sends the signals."""
        for number in self.signals:
            os.killpg(os.getpid(), number)
            time.sleep(BETWEEN_S)


LONG = ("train", *FEW, "trainer.steps=1000000", "trainer.eval_every_steps=20")
"""Small, and never over by itself."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "runs", "signals"),
    [
        pytest.param(("-m", "seed=0,1", "executor.workers=2"), 2, (INT, INT, INT), id="study"),
        pytest.param(("-m", "seed=0,1", "executor.workers=2"), 2, (TERM,), id="study-saves"),
        pytest.param(("trainer.devices=2",), 1, (INT, INT, INT), id="ranks"),
        pytest.param(("trainer.devices=2",), 1, (HUP,), id="ranks-save"),
    ],
)
def test_what_was_started_for_a_command_ends_with_it(
    words: tuple[str, ...], runs: int, signals: tuple[int, ...], tmp_path: Path
) -> None:
    """Signals to the whole group, as a terminal sends them, to a study and to ranks."""
    process = studying.start(*LONG, *words, cwd=tmp_path)
    begun = f"*/{PROGRESS}"
    try:
        while len(list((tmp_path / "runs").glob(begun))) < runs and process.poll() is None:
            time.sleep(0.05)
        for number in signals:
            os.killpg(process.pid, number)
            time.sleep(BETWEEN_S)
        said, _ = process.communicate(timeout=120)
    except BaseException:
        # what does not end by itself would go on training beside all tests that follow
        process.kill()
        subprocess.run(["pkill", "-KILL", "-f", f"{tmp_path}/"], check=False)
        raise
    assert process.returncode == interrupts.STATUS, said
    folders = [path.parent for path in (tmp_path / "runs").glob("*/record.json")]
    assert [reading.status_of(folder) for folder in folders] == ["interrupted"] * runs, said
    if len(signals) == 1:
        assert all("; saved" in (record.error_of(folder) or "") for folder in folders)
    assert not subprocess.run(
        ["pgrep", "-f", str(tmp_path)], check=False, capture_output=True
    ).stdout


def _hold(folder: Path, held: Any, seconds: float) -> None:
    with runs.at_work(folder):
        held.set()
        time.sleep(seconds)


def test_a_process_that_is_slow_to_end_has_its_run_recorded_all_the_same(tmp_path: Path) -> None:
    folder = launching.freeze(list(LINE[1:]), runs_dir=tmp_path)
    record.write(folder, execute.blank(folder, runs.read_run(folder)))
    held = CONTEXT.Event()
    rank = CONTEXT.Process(target=_hold, args=(folder, held, 1.0))
    rank.start()
    held.wait(launching.LIMIT_S)
    execute.cut_off(folder, "it was killed")
    rank.join()
    assert reading.status_of(folder) == "interrupted"
    assert record.error_of(folder) == "stopped: it was killed"


def test_a_request_that_was_held_is_handed_on_at_once() -> None:
    requests, heard = interrupts.REQUESTS, []
    assert requests.install()
    try:
        with interrupts.holding():
            os.kill(os.getpid(), TERM)
            with interrupts.Asked().heard_by(lambda: heard.append("stop")):
                assert heard == ["stop"]
    finally:
        requests.restore()


LOST = """
import os, signal, threading, time
from tlx.base import interrupts

def press(number):
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

class Loader:
    def __del__(self):
        press(signal.SIGTERM)
        for _ in range(20):
            time.sleep(0.02)

def finalizer():
    Loader()

def callback():  # like one of a C library, which has nobody to tell
    import ctypes
    kind = ctypes.CFUNCTYPE(ctypes.c_int)
    press(signal.SIGHUP)
    kind(lambda: time.sleep(0.5))()

def extension():  # as when one is being imported
    try:
        press(signal.SIGTERM)
        time.sleep(1)
    except BaseException as error:
        raise TypeError("expected a message argument") from error

def swallowed():
    try:
        press(signal.SIGTERM)
        time.sleep(1)
    except BaseException:
        pass
    press(signal.SIGTERM)

interrupts.LOST_S = 0.05
interrupts.REQUESTS.install()
try:
    with interrupts.at_work():
        {case}()
        for _ in range(100):
            time.sleep(0.02)
    print("went on")
except interrupts.Stopped:
    print("stopped")
"""


@pytest.mark.parametrize("case", ["finalizer", "callback", "extension", "swallowed"])
def test_a_request_is_heeded_whoever_loses_it(case: str) -> None:
    line = [sys.executable, "-c", LOST.replace("{case}", case)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("stopped\n", "")


def test_a_signal_as_python_ends_changes_no_status() -> None:
    code = """
import os, signal, sys
from tlx.base import interrupts

class Slow:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGHUP):
        kill(me, number)

interrupts.REQUESTS.install()
sys.kept = Slow()
sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 3
