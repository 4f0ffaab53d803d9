"""Searches as users start them: real runs, killed and started again, pruned, repeated, refused."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from studying import finished, start, tlx
from tlx import cli
from tlx.config.check import CheckError
from tlx.results import manifest as manifests
from tlx.results import reading
from tlx.sweeps import searching

EXPERIMENT = {
    "defaults": [
        {"override /dataset": "digits"},
        {"override /backbone": "timm"},
        {"override /trainer": "cpu"},
        {"override /search": "tpe"},
    ],
    "dataset": {"labels_per_class": 8},
    "backbone": {"name": "test_resnet", "init": "none", "image_size": 32},
    "trainer": {"epochs": None, "steps": 12, "batch_size": 16, "eval_every_steps": 4},
    "search": {
        "trials": 6,
        "startup_trials": 3,
        "space": {
            "optimizer.lr": "tag(log, interval(1e-4, 1e-1))",
            "freeze_strategy": "choice(full, linear_probe)",
        },
    },
    "study": {"design": "search", "seeds": [0, 1]},
}


@pytest.fixture
def line(tmp_path):
    """Starts the search of the folder `mine`, in which `change` can change it."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "look.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    return ["train", "--config-dir", str(tmp_path / "mine"), "experiment=look"]


def manifest(cwd: Path) -> manifests.Manifest:
    (folder,) = (cwd / "runs" / manifests.STUDIES).iterdir()
    return manifests.read(folder)


def trials(cwd: Path) -> dict[int, str]:
    return {run.trial: run.candidate for run in manifest(cwd).runs if run.trial is not None}


@pytest.mark.slow
def test_a_search_that_is_killed_ends_with_its_budget_and_the_same_trials(line, tmp_path):
    one = [*line, "executor.workers=1"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    code, out = tlx(*one, cwd=tmp_path / "a")
    assert code == 0, out
    assert len(trials(tmp_path / "a")) == 6
    for wait_s in (9.0, 11.0):
        process = start(*one, cwd=tmp_path / "b")
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, out = tlx(*one, cwd=tmp_path / "b")
    assert code == 0, out
    assert trials(tmp_path / "b") == trials(tmp_path / "a")
    assert set(finished(tmp_path / "b")) == set(finished(tmp_path / "a"))


@pytest.mark.slow
def test_two_drivers_draw_from_one_search(line, tmp_path):
    both = [start(*line, "search.seeds_per_trial=2", cwd=tmp_path) for _ in range(2)]
    outs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert len(trials(tmp_path)) == 6
    assert len(manifest(tmp_path).runs) == 12
    assert set(finished(tmp_path)) == {run.run for run in manifest(tmp_path).runs}


@pytest.mark.slow
def test_a_pruned_trial_counts_and_its_other_seeds_never_begin(line, tmp_path):
    pruned = ["search.pruner=median", "search.pruner_startup_trials=2", "search.trials=10"]
    code, out = tlx(*line, *pruned, "search.seeds_per_trial=2", cwd=tmp_path)
    assert code == 0, out
    assert "given up after step" in out
    assert len(trials(tmp_path)) == 10
    for run in manifest(tmp_path).runs:
        status = reading.status_of(tmp_path / "runs" / run.run)
        assert status in {"finished", "pruned"}
        assert status == "finished" or run.seed == 0
    page = next((tmp_path / "runs" / manifests.STUDIES).glob("*/report.html"))
    assert "pruned" in page.read_text()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ("search.objectives={test/accuracy: max}", "is no test"),
        ("search.space={optimizer.lrr: 'interval(0,1)'}", "optimizer.lr"),
        ("search.sampler=tpee", "tpe"),
        ("search.sampler=grid", "no end of values"),
        ("search.seeds_per_trial=3", "more than study.seeds"),
        ("search.trials=0", "at least 1"),
    ],
)
def test_a_wrong_search_is_refused_before_anything_starts(
    line, tmp_path, monkeypatch, capsys, changed, says
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*line, changed]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/config.yaml"))


@pytest.mark.parametrize("objectives", [{}, {"val/loss": "min"}])
def test_vocabularies_are_not_searched_by_a_figure_per_token(objectives):
    node = {"seeds_per_trial": 1, "objectives": objectives, "sampler": "random", "trials": 2}
    task = {"_target_": "tlx.tasks.language_modeling.language_modeling", "objective": "causal"}

    def space(searched, **more):
        config = {"task": task, "monitor": None, "search": {**node, "space": searched, **more}}
        composer = SimpleNamespace(compose=lambda line: config)
        return searching.space(
            config, line=[], study="s", seeds=[0], metric="", composer=composer, locator=None
        )

    size = {"backbone.vocabulary_size": "interval(8, 4000)", "optimizer.lr": "interval(0.1, 1)"}
    for searched in (size, {"backbone": "choice(char_lm, word_lm)"}):
        with pytest.raises(CheckError, match=r"per token.*val/bits_per_character"):
            space(searched)
        space(searched, objectives={"val/bits_per_character": "min"})
    space({"optimizer.lr": "interval(0.1, 1)"})


@pytest.mark.slow
def test_trials_that_fail_end_the_search_and_are_told(line, tmp_path):
    code, out = tlx(
        *line,
        "search.space={optimizer.lr: 'interval(1e20, 1e30)'}",
        "search.trials=2",
        "optimizer=sgd",
        cwd=tmp_path,
    )
    assert code == 1, out
    assert "Diverged" in out
    (folder,) = (tmp_path / "runs" / manifests.STUDIES).iterdir()
    text = (folder / "optuna.journal").read_text()
    assert "Diverged" in json.dumps(text)
