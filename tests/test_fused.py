"""Runs trained as one stack are the runs that they would be alone."""

import csv
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import launching
from forking import CONTEXT
from launching import KillAt
from tlx.base.ends import Interrupted
from tlx.config.compose import Composer
from tlx.config.run import typed
from tlx.execution import execute, runs
from tlx.execution.lineage import Locator
from tlx.fused.stack import StackedRuns
from tlx.results import reading, record
from tlx.sweeps import fuse

BASE = [
    *("dataset=digits", "dataset.labels_per_class=8", "backbone=timm", "backbone.init=none"),
    *("dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"),  # 27 images to test on
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu", "logger=[csv]"),
    *("trainer.epochs=null", "trainer.steps=36", "trainer.batch_size=16"),
    *("trainer.eval_every_steps=6", "trainer.log_every_steps=4", "freeze_strategy=linear_probe"),
]
SGD, ADAMW = ["optimizer=sgd"], ["optimizer=adamw"]
STOPS = [
    *("regularization=[early_stopping,weight_decay]", "regularization.early_stopping.patience=2"),
    "regularization.early_stopping.min_delta=0.9",
]
STACKS = {
    "sgd": [
        [*SGD, "optimizer.lr=0.1"],
        [*SGD, "optimizer.lr=0.5", "optimizer.momentum=0.0", "schedule=constant"],
        [*SGD, "optimizer.lr=0.2", "optimizer.nesterov=false", *STOPS],
        [*SGD, "optimizer.lr=1.0", "regularization=[label_smoothing,weight_decay]"],
        [*SGD, "optimizer.lr=0.3", "regularization=[grad_clip]", "schedule=linear"],
        [*SGD, "optimizer.lr=0.1", "final_weights=last", "schedule=one_cycle"],
    ],
    "adamw": [
        [*ADAMW, "optimizer.lr=0.01"],
        [*ADAMW, "optimizer.lr=0.1", "optimizer.betas=[0.8,0.99]", "schedule=slanted_triangular"],
        [*ADAMW, "optimizer.lr=0.03", "regularization.weight_decay.value=0.5"],
        [*ADAMW, "optimizer.lr=0.003", *STOPS],
        [*ADAMW, "optimizer.lr=0.03", "order_seed=3"],
    ],
    "other_data": [
        [*SGD, "optimizer.lr=0.2", "dataset.seed=1"],
        [*SGD, "optimizer.lr=0.2", "dataset.seed=2"],
        [*SGD, "optimizer.lr=0.4", "dataset.seed=2"],
    ],
}


def frozen(runs_dir: Path, stack: list[list[str]], *more: str) -> list[Path]:
    return [launching.freeze([*BASE, *own, *more], runs_dir=runs_dir) for own in stack]


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(alone: Path, stacked: Path, *, losses: tuple[str, ...] = ("train/loss",)) -> None:
    one, two = launching.weights(alone), launching.weights(stacked)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=1e-4, msg=name)
    mine, theirs = record.read(alone), record.read(stacked)
    assert mine.used_steps == theirs.used_steps
    assert [(s.end, s.ended_by) for s in mine.stages] == [
        (s.end, s.ended_by) for s in theirs.stages
    ]
    assert mine.selected == theirs.selected
    assert mine.splits.keys() == theirs.splits.keys()
    for name, split in mine.splits.items():
        assert split.metrics.keys() == theirs.splits[name].metrics.keys()
        for metric, value in split.metrics.items():
            other = theirs.splits[name].metrics[metric]
            assert (value.value, value.low) == pytest.approx((other.value, other.low), abs=1e-4)
    for before, after in zip(rows(alone), rows(stacked), strict=True):
        for key in ("step", *losses, "train/lr", "train/epoch", "val/accuracy", "val/loss"):
            if before[key]:
                assert float(before[key]) == pytest.approx(float(after[key]), abs=1e-4), key
    assert (alone / "predictions").exists()
    for path in (alone / "predictions").iterdir():
        mine_, theirs_ = path.read_text(), (stacked / "predictions" / path.name).read_text()
        ids = [line.split(",")[:3] for line in mine_.splitlines()]
        assert ids == [line.split(",")[:3] for line in theirs_.splitlines()]


@pytest.mark.parametrize(
    "name", [pytest.param(s, marks=[] if s == "sgd" else pytest.mark.slow) for s in STACKS]
)
def test_a_stack_equals_separate_runs(name, tmp_path):
    alone = frozen(tmp_path / "alone", STACKS[name], "cache=off", "fuse=off")
    stacked = frozen(tmp_path / "stacked", STACKS[name])
    for folder in alone:
        execute.run_here(folder)
    execute.run_together(stacked)
    ends = set()
    for one, two in zip(alone, stacked, strict=True):
        same(one, two)
        done = record.read(two)
        ends.add(done.used_steps)
        assert set(done.fused_with) == {f.name for f in stacked} - {two.name}
        assert done.status == "finished"
    if name != "other_data":
        assert len(ends) > 1, "no run stopped early: the stack was never made smaller"


def test_one_that_diverges_fails_alone(tmp_path):
    stack = [[*SGD, "optimizer.lr=0.1"], [*SGD, "optimizer.lr=1e30"], [*SGD, "optimizer.lr=0.2"]]
    first, second, third = frozen(tmp_path, stack)
    execute.run_together([first, second, third])
    assert [record.read(f).status for f in (first, second, third)] == [
        *("finished", "failed", "finished")
    ]
    assert "not finite" in (record.read(second).error or "")


def test_one_that_cannot_be_written_fails_alone(tmp_path):
    first, second, third = frozen(tmp_path, [STACKS["sgd"][place] for place in (0, 1, 5)])
    (second / "predictions").write_text("in the way")
    execute.run_together([first, second, third])
    assert [record.read(f).status for f in (first, second, third)] == [
        *("finished", "failed", "finished")
    ]
    assert "FileExistsError" in (record.read(second).error or "")


def test_what_is_finished_or_at_work_is_left_alone(tmp_path):
    folders = frozen(tmp_path, STACKS["sgd"][:4])
    execute.run_here(folders[1])
    before = (folders[1] / "record.json").stat().st_mtime_ns
    ready, done = CONTEXT.Event(), CONTEXT.Event()
    other = CONTEXT.Process(target=hold, args=(folders[2], ready, done))
    other.start()
    assert ready.wait(60)
    execute.run_together(folders)
    done.set()
    other.join(60)
    assert (folders[1] / "record.json").stat().st_mtime_ns == before
    assert reading.status_of(folders[2]) is None
    assert record.read(folders[3]).fused_with == (folders[0].name,)


def hold(folder, ready, done):
    with runs.at_work(folder):
        ready.set()
        done.wait(120)


def test_runs_that_do_not_fit_are_told_apart(tmp_path):
    stack = [[*SGD], [*SGD, "dataset.labels_per_class=4"]]
    folders = frozen(tmp_path, stack)
    with pytest.raises(runs.Apart, match="training sets of other sizes"):
        execute.run_together(folders)
    assert {reading.status_of(folder) for folder in folders} == {"interrupted"}
    execute.run_here(folders[0])  # alone it goes on
    assert record.read(folders[0]).status == "finished"


def stop_at(step, monkeypatch):
    """A signal that arrives when the stack has trained so many steps."""
    original = StackedRuns._batch

    def batch(self):
        if self.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(StackedRuns, "_batch", batch)


@pytest.mark.parametrize(
    "together",
    [pytest.param(True, id="as_one"), pytest.param(False, id="alone", marks=pytest.mark.slow)],
)
def test_a_stopped_stack_goes_on(together, tmp_path, monkeypatch):
    alone = frozen(tmp_path / "alone", STACKS["adamw"][:3])
    stacked = frozen(tmp_path / "stacked", STACKS["adamw"][:3])
    for folder in alone:
        execute.run_here(folder)
    with monkeypatch.context() as patch:
        stop_at(15, patch)
        with pytest.raises(Interrupted):
            execute.run_together(stacked)
    assert {reading.status_of(folder) for folder in stacked} == {"interrupted"}
    if together:
        execute.run_together(stacked)
    else:
        for folder in stacked:
            execute.run_here(folder)
    for one, two in zip(alone, stacked, strict=True):
        same(one, two, losses=())  # the mean since the last row begins anew at a restart


@pytest.mark.slow
def test_runs_begun_alone_go_on_as_one(tmp_path):
    alone = frozen(tmp_path / "alone", STACKS["sgd"][:2], "trainer.checkpoint_every_steps=4")
    stacked = frozen(tmp_path / "stacked", STACKS["sgd"][:2], "trainer.checkpoint_every_steps=4")
    kill = KillAt("tlx.training.engine.module:TransferModule", "training_step", 19)
    for one, two in zip(alone, stacked, strict=True):
        execute.run_here(one)
        assert launching.run(two, sabotage={0: kill}) == [-9]
    execute.run_together(stacked)
    for one, two in zip(alone, stacked, strict=True):
        same(one, two, losses=())
        assert record.read(two).fused_with


@pytest.fixture(scope="module")
def keys() -> Callable[..., str | None]:
    """The planner's key of a run with these overrides."""
    composer = Composer()

    @functools.cache
    def key(*overrides: str) -> str | None:
        return fuse.key(Locator().locate(typed(composer.compose([*BASE, *overrides]))))

    return key


def test_the_planner_stacks_what_differs_in_the_head_only(keys):
    base = keys()
    assert base is not None
    for own in (
        *("optimizer.lr=0.5", "schedule=constant", "regularization.weight_decay.value=0.1"),
        *("regularization=[label_smoothing]", "order_seed=7", "dataset.seed=3", "arm=x"),
        *("final_weights=last", "logger=[]", "name=x"),
    ):
        assert keys(own) == base, own


@pytest.mark.parametrize(
    "own",
    [
        *("backbone.name=test_resnet.r160_in1k", "dataset.labels_per_class=9", "monitor=val/loss"),
        *("trainer.batch_size=8", "trainer.steps=30", "seed=1", "optimizer=sgd"),
        *("backbone.image_size=40", "frozen.norm_stats=freeze", "trainer.eval_every_steps=5"),
    ],
)
def test_the_planner_keeps_apart_what_differs_below(own, keys):
    assert keys(own) != keys()


@pytest.mark.parametrize(
    "own",
    [
        *("fuse=off", "cache=off", "freeze_strategy=full", "freeze_strategy=lp_ft"),
        *("augmentation=[standard]", "regularization=[ema]", "regularization=[l2_sp]"),
        *("regularization=[dropout]", "trainer.devices=2", "trainer.precision=bf16-mixed"),
        *("optimizer=lion", "trainer.accumulate=2", "trainer.compile=true"),
    ],
)
def test_the_planner_trains_alone_what_a_stack_cannot(own, keys):
    assert keys(own) is None
