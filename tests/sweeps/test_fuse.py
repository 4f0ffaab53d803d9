"""Studies whose runs are trained as one: real driver and executor, kills, failures, searches."""

import csv
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

import launching
from studying import SMALL, finished, tlx
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.config.schema import ExecutorConfig
from tlx.execution import runs
from tlx.execution.lineage import Locator
from tlx.results import manifest as manifests
from tlx.results import reading, record
from tlx.sweeps import fuse
from tlx.sweeps.driver import LOOK_EVERY_S, Driver, Pending
from tlx.sweeps.executor import Job
from tlx.sweeps.local import LocalExecutor

FEW = ["dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"]  # 27 images to test on
BASE = [
    *(*SMALL, *FEW),
    *("trainer.epochs=null", "trainer.log_every_steps=4", "freeze_strategy=linear_probe"),
    "optimizer=sgd",
]
STOPS = [
    "regularization=[early_stopping]",
    "regularization.early_stopping.patience=1",
    "regularization.early_stopping.min_delta=0.9",
]
ARMS = {
    "low": ["optimizer.lr=0.01", "order_seed=1"],
    "high": ["optimizer.lr=0.3", "schedule=constant", "regularization=[label_smoothing]"],
    "stops": ["optimizer.lr=0.3", *STOPS],
}
TWO = {name: ARMS[name] for name in ("low", "high")}
OPTIONS = ExecutorConfig(workers=2, threads=1)
FILES = {
    *("config.yaml", "overrides.txt", "provenance.json", "record.json", "metrics.csv", "log.txt"),
    *("progress.json", "model.safetensors", "predictions"),
}


@pytest.fixture(scope="module")
def executor():
    """One warm process for all tests."""
    made = LocalExecutor(OPTIONS)
    yield made
    made.close()


def tasks(runs_dir: Path, *more: str, arms: dict[str, list[str]] = ARMS) -> dict[str, Pending]:
    locator = Locator()
    found = {}
    for name, own in arms.items():
        config = compose([*BASE, *own, *more, f"runs_dir={runs_dir}"])
        found[name] = Pending(locator.locate(typed(config)), name)
    return found


def drive(executor, runs_dir: Path, made: dict[str, Pending], **options) -> list[str]:
    said: list[str] = []
    driver = Driver(executor, runs_dir, say=said.append, **options)
    driver.add(list(made.values()))
    driver.drive()
    assert not executor.running  # nothing of it ends after it has returned
    return said


def folder(task: Pending) -> Path:
    return task.found.folder


def states(made: dict[str, Pending]) -> dict[str, str]:
    return {name: task.state for name, task in made.items()}


def test_a_study_that_fuses_equals_one_that_does_not(executor, tmp_path):
    one = tasks(tmp_path / "one")
    alone = tasks(tmp_path / "alone", "fuse=off", "cache=off")
    said = drive(executor, tmp_path / "one", one)
    assert said[0] == "  3 runs are trained as one: low, high, stops"
    assert sorted(line.partition("]")[0] for line in said[1:]) == ["[1/3", "[2/3", "[3/3"]
    assert not any("as one" in line for line in drive(executor, tmp_path / "alone", alone))
    for name, task in one.items():
        mine, theirs = folder(task), folder(alone[name])
        assert mine.name == theirs.name
        assert {path.name for path in mine.iterdir()} >= FILES
        assert not (mine / "checkpoints").exists()
        compare(mine, theirs)
        others = {other.run for other in one.values()} - {task.run}
        assert set(record.read(mine).fused_with) == others
        assert record.read(theirs).fused_with == ()
    assert record.read(folder(one["stops"])).used_steps < 12
    before = finished_in(one)
    drive(executor, tmp_path / "one", tasks(tmp_path / "one"))
    assert finished_in(one) == before


class Late:
    """An executor that tells of ends after their runs' records have long been seen."""

    def __init__(self, inner, seconds: float) -> None:
        self.inner, self.seconds = inner, seconds
        self.room, self.start, self.stop = inner.room, inner.start, inner.stop
        self.kept: list = []

    @property
    def running(self):
        return [*self.inner.running, *self.kept]

    def ended(self, timeout_s: float):
        due = time.monotonic() + self.seconds
        self.kept += [(due, end) for end in self.inner.ended(timeout_s)]
        told = [end for due, end in self.kept if due <= time.monotonic()]
        self.kept = [(due, end) for due, end in self.kept if end not in told]
        return told


def test_a_study_ends_with_the_process_of_its_stack(executor, tmp_path):
    made = tasks(tmp_path, arms=TWO)
    drive(Late(executor, 3 * LOOK_EVERY_S), tmp_path, made)
    assert set(states(made).values()) == {"finished"}


def compare(mine: Path, theirs: Path) -> None:
    first, second = record.read(mine), record.read(theirs)
    assert (first.status, second.status) == ("finished", "finished")
    assert first.used_steps == second.used_steps
    assert [stage.ended_by for stage in first.stages] == [s.ended_by for s in second.stages]
    assert first.selected.step == second.selected.step
    for name, split in first.splits.items():
        for metric, value in split.metrics.items():
            other = second.splits[name].metrics[metric]
            assert value.value == pytest.approx(other.value, abs=1e-4), (name, metric)
    one, two = launching.weights(mine), launching.weights(theirs)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=1e-4, msg=name)
    steps = [[row["step"] for row in rows(each)] for each in (mine, theirs)]
    assert steps[0] == steps[1]


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def finished_in(made: dict[str, Pending]) -> dict[str, int]:
    return {
        name: (folder(task) / record.FILE).stat().st_mtime_ns
        for name, task in made.items()
        if reading.status_of(folder(task)) == "finished"
    }


LONG = ["trainer.steps=3000", "trainer.eval_every_steps=50", "trainer.log_every_steps=50"]


class Strike(threading.Thread):
    """Signals the stack's process once one of its runs has finished; `done` had finished then."""

    def __init__(self, executor: LocalExecutor, number: signal.Signals, made: dict[str, Pending]):
        super().__init__()
        self.executor, self.number, self.made = executor, number, made
        self.done: dict[str, int] = {}

    def run(self) -> None:
        until = time.monotonic() + 120
        while not self.done and time.monotonic() < until:
            time.sleep(0.02)
            self.done = finished_in(self.made)
        (running,) = self.executor.running.values()
        os.kill(running.pid, self.number)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stack_whose_process_ends_goes_on_and_nothing_is_run_twice(number, executor, tmp_path):
    arms = {name: [*LONG, *ARMS[name]] for name in ARMS}
    made = tasks(tmp_path, arms=arms)
    strike = Strike(executor, number, made)
    strike.start()
    said = drive(executor, tmp_path, made)
    strike.join()
    assert states(made) == dict.fromkeys(arms, "finished")
    assert set(strike.done) == {"stops"}
    assert finished_in(made)["stops"] == strike.done["stops"]
    assert [line for line in said if "as one" in line] == [
        "  3 runs are trained as one: low, high, stops",
        "  2 runs are trained as one: low, high",
    ]
    assert sum("it goes on from step" in line for line in said) == 2
    for name in ("low", "high"):
        done = record.read(folder(made[name]))
        assert done.used_steps == 3000
        assert len(done.fused_with) == 1
        steps = [int(row["step"]) for row in rows(folder(made[name]))]
        assert steps == sorted(set(steps))
        assert steps[-1] == 3000
    log = (folder(made["low"]) / runs.LOG).read_text()
    assert ("stopped by a signal" in log) == (number == signal.SIGTERM)


def test_one_that_raises_costs_itself_alone(executor, tmp_path):
    made = tasks(tmp_path)
    (folder(made["high"]) / "metrics.csv").mkdir(parents=True)  # cannot be written to
    said = drive(executor, tmp_path, made)
    assert states(made) == {name: "failed" if name == "high" else "finished" for name in made}
    assert "IsADirectoryError" in (made["high"].reason or "")
    assert any("3 of them to be trained alone: not as one: IsADirectory" in line for line in said)
    assert record.read(folder(made["low"])).fused_with == ()


@pytest.mark.slow
def test_what_does_not_fit_together_after_all_is_trained_alone(executor, tmp_path):
    made = tasks(tmp_path, "cache_gb=0.00001", arms=TWO)
    said = drive(executor, tmp_path, made)
    assert states(made) == {"low": "finished", "high": "finished"}
    assert any("2 of them to be trained alone" in line and "do not fit" in line for line in said)
    assert all(record.read(folder(task)).fused_with == () for task in made.values())


@pytest.mark.slow
def test_a_store_that_is_full_at_the_end_costs_no_run(executor, tmp_path):
    # room for the features of train and val, none for those of test
    made = tasks(tmp_path, "cache_gb=0.00011", arms=TWO)
    drive(executor, tmp_path, made)
    assert states(made) == {"low": "finished", "high": "finished"}
    assert record.read(folder(made["low"])).fused_with


@pytest.mark.slow
def test_a_store_that_cannot_be_written_costs_no_run(executor, tmp_path):
    (tmp_path / "file").touch()
    made = tasks(tmp_path / "runs", f"cache_dir={tmp_path / 'file'}")
    drive(executor, tmp_path / "runs", made)
    assert set(states(made).values()) == {"finished"}


class Noting:
    """An executor that notes what is handed over, and does nothing."""

    def __init__(self):
        self.jobs: list[str] = []

    def room(self, job: Job) -> bool:
        return True

    def start(self, job: Job) -> None:
        self.jobs.append(job.folder.name)


def test_runs_that_go_on_are_not_stacked_with_those_that_begin(tmp_path):
    made = tasks(tmp_path)
    for name in ("low", "stops"):
        checkpoints = folder(made[name]) / "checkpoints"
        checkpoints.mkdir(parents=True)
        for serial, step in ((99, 900), (100, 4), (7, 8)):  # the last serial number counts
            place = checkpoints / f"last-{serial:06d}-step{step:010d}-0123456789abcdef.pt"
            place.touch()
        (checkpoints / "best-000101-step0000000012-0123456789abcdef.pt").touch()
    assert fuse.begun(folder(made["low"])) == 4
    assert fuse.begun(folder(made["high"])) == 0
    said: list[str] = []
    noting = Noting()
    driver = Driver(noting, tmp_path, say=said.append)
    driver.add(list(made.values()))
    driver._dispatch()
    assert said == ["  2 runs are trained as one: low, stops"]
    assert noting.jobs == [made["low"].run, made["high"].run]


# -- as users start them ----------------------------------------------------------------------


@pytest.mark.slow
def test_the_tables_of_a_sweep_are_those_without_fusing(tmp_path):
    axes = ["optimizer.lr=0.01,0.3", "schedule=constant,cosine", "seed=range(2)", "group=same"]
    base = [each for each in BASE if not each.startswith("trainer.log")]
    tables = []
    for name, more in (("one", []), ("alone", ["fuse=off", "cache=off"])):
        cwd = tmp_path / name
        cwd.mkdir()
        code, out = tlx("train", "-m", *base, *axes, *more, cwd=cwd)
        assert code == 0, out
        assert ("4 runs are trained as one" in out) == (name == "one")
        assert len(finished(cwd)) == 8
        tables.append((cwd / "runs" / manifests.STUDIES / "same/tables/main.csv").read_text())
    assert tables[0] == tables[1]


SEARCH = {
    "monitor": "val/loss",  # accuracies of a random network tie
    "defaults": [
        {"override /dataset": "digits"},
        {"override /backbone": "timm"},
        {"override /trainer": "cpu"},
        {"override /optimizer": "sgd"},
        {"override /freeze_strategy": "linear_probe"},
        {"override /search": "random"},
    ],
    "dataset": {"labels_per_class": 8, "classes": [0, 1, 2], "folds": 20, "fold": 0},
    "backbone": {"name": "test_resnet", "init": "none", "image_size": 32},
    "trainer": {"epochs": None, "steps": 24, "batch_size": 16, "eval_every_steps": 3},
    "search": {
        "trials": 8,
        "seeds_per_trial": 2,
        "pruner": "successive_halving",
        "space": {"optimizer.lr": "tag(log, interval(1e-4, 1))"},
    },
    "study": {"design": "search", "seeds": [0, 1]},
}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_trials_are_drawn_at_once_and_pruned_ones_leave_the_stack(sampler, tmp_path):
    options = tmp_path / "mine" / "experiment"
    options.mkdir(parents=True)
    (options / "look.yaml").write_text(yaml.safe_dump(SEARCH, sort_keys=False))
    line = ["train", "--config-dir", str(tmp_path / "mine"), "experiment=look"]
    more = [f"search={sampler}"] + (["search.startup_trials=5"] if sampler == "tpe" else [])
    code, out = tlx(*line, *more, cwd=tmp_path)
    assert code == 0, out
    first = 8 if sampler == "random" else 5
    assert f"  {first} runs are trained as one: trial 0 seed 0, trial 1 seed 0" in out
    assert "given up after step" in out
    (study,) = (tmp_path / "runs" / manifests.STUDIES).iterdir()
    found = manifests.read(study).runs
    assert len({run.trial for run in found}) == 8
    ends = {run.run: record.read(tmp_path / "runs" / run.run) for run in found}
    assert {end.status for end in ends.values()} == {"finished", "pruned"}
    for run in found:
        if ends[run.run].status == "pruned":
            assert run.seed == 0
            assert list((tmp_path / "runs" / run.run / "checkpoints").glob("last-*"))
        elif run.trial < first and run.seed == 0:
            assert len(ends[run.run].fused_with) == first - 1
