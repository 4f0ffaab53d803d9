"""What training on new text does to the text that a network comes from, before and after."""

import csv
import json
import math
import re
from dataclasses import replace

import pytest

import launching
import tiny
from launching import KillAt
from tlx.config.check import CheckError, check
from tlx.config.compose import compose
from tlx.execution import execute, runs
from tlx.results import record
from tlx.train.evaluation import START, _known_start
from tlx.training.logs import tables
from tlx.use.evaluate import evaluate

BASE = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=4", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=2", "final_weights=last", "optimizer.lr=0.01", "logger=[csv]"),
    *("dataset=text_lines", "task.block=16", "backbone=transformers", "backbone.dropout=0"),
    *("trainer.checkpoint_every_steps=1", "keep=checkpoints"),
]
OF = {"gpt2": "language_modeling", "bert": "masked_language_modeling"}


def network(kind):
    sizes = ",".join(f"{key}:{value}" for key, value in tiny.ALL[kind].items())
    return [
        *(f"task={OF[kind]}", f"backbone.name={kind}", f"backbone.kwargs={{{sizes}}}"),
        "task.block=16",
    ]


@pytest.fixture
def old(tmp_path):
    """A file of the text that comes first."""
    path = tmp_path / "old.txt"
    path.write_text("\n".join(f"the cat number {i} sat on the mat" for i in range(60)), "utf-8")
    return path


@pytest.fixture
def new(tmp_path):
    """A file of the text that comes after it."""
    path = tmp_path / "new.txt"
    path.write_text("\n".join(f"a dog that ran away, {i} times {i}" for i in range(60)), "utf-8")
    return path


def run(folder, *overrides):
    config = compose([*BASE, *overrides, f"runs_dir={folder / 'runs'}"])
    assert check(config) == []
    return execute.run(config)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k == "gpt2" else []) for k in OF]
)
def test_before_is_the_starting_run_and_after_the_final_one(kind, old, new, tmp_path, capsys):
    start = ["backbone.init=none", f"dataset.path={old}"]
    parent = run(tmp_path, *network(kind), *start, "trainer.steps=40")
    child = run(
        *(tmp_path, *network(kind), f"dataset.path={new}", f"dataset.source_text={old}"),
        *(f"backbone.init=run:{parent.run}", "init_head=keep"),
    )
    assert re.search(r"^│ source_before +│ +60 │", capsys.readouterr().out, re.MULTILINE)
    asked = [f"dataset.path={new}", f"dataset.source_text={old}"]
    for name, owner in {"source_before": parent, "source": child}.items():
        found = evaluate(tmp_path / "runs" / owner.run, overrides=asked)["source"]
        mine = child.splits[name]
        assert mine.n == found["n"] == 60
        for metric, value in found["metrics"].items():
            assert mine.metrics[metric].value == pytest.approx(value["value"], rel=1e-5), metric
    worse = [child.splits[name].metrics["perplexity"].value for name in ("source_before", "source")]
    assert worse[0] != worse[1]
    with open(
        tmp_path / "runs" / child.run / "predictions" / "source_before.csv", encoding="utf-8"
    ) as file:
        rows = list(csv.DictReader(file))
    nats = sum(float(row["loss"]) * float(row["tokens"]) for row in rows)
    mean = nats / sum(float(row["tokens"]) for row in rows)
    assert math.exp(mean) == pytest.approx(worse[0], rel=1e-5)
    for name, value in child.splits["source"].metrics.items():
        child.splits["source"].metrics[name] = replace(value, low=-54321.0, high=98765.0)
    assert re.search(r"^│ source_before +│ +60 │", tables.result(child, tmp_path), re.MULTILINE)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"identity": {"run": "a"}}'])
def test_figures_of_the_start_are_found_anew_where_their_file_is_damaged(content, tmp_path):
    path = tmp_path / START
    runs.write_json(path, {"identity": {"run": "a"}, "reports": {"source_before": {}}})
    assert _known_start(path, {"run": "a"}) == {"source_before": {}}
    path.write_bytes(content)
    assert _known_start(path, {"run": "a"}) is None


def test_evaluating_the_start_changes_nothing_of_training(old, new, tmp_path):
    both = [*network("gpt2"), "backbone.init=none", f"dataset.path={new}"]
    plain = run(tmp_path, *both)
    with_source = run(tmp_path, *both, f"dataset.source_text={old}")
    assert with_source.run != plain.run
    one, two = (launching.weights(tmp_path / "runs" / each.run) for each in (plain, with_source))
    assert all((one[name] == two[name]).all() for name in one)


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_figures_of_its_start(old, new, tmp_path):
    data = [f"dataset.path={new}", f"dataset.source_text={old}", "backbone.init=none"]
    folder = launching.freeze([*BASE, *network("gpt2"), *data], runs_dir=tmp_path / "runs")
    kill = KillAt("tlx.training.engine.module:TransferModule", "training_step", 4)
    assert launching.run(folder, sabotage={0: kill}) == [-9], launching.log(folder)
    path = folder / "checkpoints" / START
    kept = json.loads(path.read_text("utf-8"))
    figure = kept["reports"]["source_before"]["metrics"]["perplexity"]
    assert figure["value"] > 1
    figure["value"] = 123.5  # no evaluation gives this
    path.write_text(json.dumps(kept), "utf-8")
    assert launching.run(folder) == [0], launching.log(folder)
    found = record.read(folder)
    assert found.stages[0].end == 4
    assert found.splits["source_before"].metrics["perplexity"].value == 123.5
    kept["identity"]["weights"] = "others"
    path.write_text(json.dumps(kept), "utf-8")
    (folder / record.FILE).unlink()
    assert launching.run(folder) == [0], launching.log(folder)
    again = record.read(folder).splits["source_before"].metrics["perplexity"].value
    assert again not in (123.5, found.splits["source"].metrics["perplexity"].value)


def test_a_source_that_is_not_there_is_told_before_training(new):
    words = [*network("gpt2"), f"dataset.path={new}", "dataset.source_text=nowhere.txt"]
    with pytest.raises(CheckError, match=r"dataset\.source_text: nowhere\.txt is no file"):
        compose([*BASE, *words, "backbone.init=none"])


def test_claims_may_name_the_source(new, old):
    words = [*BASE, *network("gpt2"), f"dataset.path={new}", "backbone.init=none"]
    study = ["study.seeds=[0]", "+study.arms={a:[],b:['optimizer.lr=0.5']}"]
    study += ["study.metric=source_before/perplexity"]
    compose([*words, *study, f"dataset.source_text={old}"])
    with pytest.raises(CheckError, match="source_before"):
        compose([*words, *study])
