"""Cleaning: what goes, what never does, and that nobody is at work on it meanwhile."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tlx import cli
from tlx.config.check import CheckError
from tlx.execution import execute, preparing, runs
from tlx.execution.lease_places import leases
from tlx.execution.leases import myself
from tlx.report.arms_shown import predicted_split
from tlx.results import manifest as manifests
from tlx.results.manifest import Manifest, ManifestError, PlannedRun
from tlx.sweeps import cleaning, driven, slurm_task
from tlx.sweeps.studies import name_of


@pytest.fixture
def place(tmp_path):
    return tmp_path / "runs"


def run(place, name):
    (place / name / "checkpoints").mkdir(parents=True)
    (place / name / runs.CONFIG).write_text("seed: 0\n")
    return place / name


def study(place, *names, parents=()):
    """A study of runs of these names; its folder."""
    made = Manifest(
        study="mine",
        question=None,
        design="explicit",
        baseline=None,
        metric="test/accuracy",
        mode="max",
        directions={},
        claims=(),
        seeds=(0,),
        arms=("a",),
        factors={},
        tuned={},
        runs=tuple(PlannedRun(run=name, arm="a", seed=0) for name in names),
        parents=tuple(parents),
        command=(),
        created="",
    )
    return manifests.write(place / manifests.STUDIES / "mine", made).parent


def clean(place, *more):
    return cli.main(["clean", "mine", "--runs-dir", str(place), *more])


def test_a_study_goes_with_its_runs(place):
    folders = [run(place, name) for name in ("one", "two", "another")]
    folder = study(place, "one", parents=["two"])
    assert clean(place, "--runs") == 0
    assert folder.exists()
    assert clean(place, "--runs", "--yes") == 0
    assert [path.exists() for path in (*folders, folder)] == [False, False, True, False]


@pytest.mark.parametrize("name", ["../victim", "/etc", "..", ".", "", "a/../../victim", "a\0"])
@pytest.mark.parametrize("where", ["runs", "parents"])
def test_a_shared_manifest_names_nothing_outside(name, where, place, tmp_path, capsys):
    run(tmp_path, "victim")
    folder = study(place, *([name] if where == "runs" else []), parents=[name] * (where != "runs"))
    with pytest.raises(ManifestError, match=r"manifest\.json: .* is no name of a run"):
        manifests.read(folder)
    assert clean(place, "--runs", "--yes") != 0
    assert "is no name of a run" in capsys.readouterr().err
    assert (tmp_path / "victim" / runs.CONFIG).exists()


def test_what_is_no_run_stays(place, tmp_path):
    (place / "thesis").mkdir(parents=True)
    study(place, "thesis", ".leases")
    assert clean(place, "--runs", "--yes") == 0
    assert (place / "thesis").exists()


def test_a_study_that_lies_elsewhere_has_no_runs(place, tmp_path, capsys):
    run(tmp_path, "documents")
    folder = study(place, "documents")
    folder.parent.rename(tmp_path / "downloads")
    assert cli.main(["clean", str(tmp_path / "downloads/mine"), "--runs", "--yes"]) != 0
    assert "does not lie in studies/" in capsys.readouterr().err
    assert (tmp_path / "documents").exists()


def test_what_is_reached_through_a_link_stays(place, tmp_path):
    victim = run(tmp_path, "victim")
    one = run(place, "one")
    (one / preparing.BEFORE).symlink_to(victim)
    (place / "two").symlink_to(victim)
    study(place, "one", "two")
    assert clean(place, "--yes") == 0
    assert clean(place, "--runs", "--yes") == 0
    assert (victim / "checkpoints").exists()
    assert (place / "two").is_symlink()
    assert not one.exists()


@pytest.mark.parametrize("lease", ["one", "parent", "studies/mine/abc"])
@pytest.mark.parametrize("more", [["--runs"], []])
def test_nothing_goes_while_somebody_is_at_work(lease, more, place, capsys):
    paths = [run(place, "one"), run(place, "parent"), study(place, "one", parents=["parent"])]
    holder = myself()
    assert leases(place).claim(lease, holder) is None
    assert clean(place, *more) == 0
    assert f"by process {os.getpid()} on" in capsys.readouterr().out
    assert clean(place, *more, "--yes") != 0
    assert f"by process {os.getpid()} on" in capsys.readouterr().err
    assert all(path.exists() for path in paths)
    assert leases(place).held() == {lease: holder}
    leases(place).release(lease, holder)
    assert clean(place, "--runs", "--yes") == 0
    assert not any(path.exists() for path in paths)


def test_a_driver_elsewhere_that_died_is_waited_for(place, monkeypatch, capsys):
    monkeypatch.setattr("tlx.execution.leases.STALE_S", 0.2)
    monkeypatch.setattr("tlx.execution.leases.LOOK_S", 0.02)
    monkeypatch.setattr("tlx.sweeps.driven.LOOK_S", 0.02)
    study(place)
    away = replace(myself(), machine="elsewhere/pid:[1]/x")
    assert leases(place).claim("studies/mine/abc", away) is None
    assert clean(place, "--runs", "--yes") == 0
    assert "waiting up to" in capsys.readouterr().out


def test_a_study_is_driven_by_many_and_cleaned_by_one(place):
    place.mkdir()
    with driven.driving(place, "mine"), driven.driving(place, "mine"):
        assert len(leases(place).held()) == 2
        with pytest.raises(runs.Busy, match="the study is driven by process"):
            driven.alone(place, "mine", ["one"]).__enter__()
        with driven.alone(place, "other", ["two"]):
            pass
    with (
        driven.alone(place, "mine", ["one"]),
        pytest.raises(runs.Busy, match="mine is being cleaned by process"),
    ):
        driven.driving(place, "mine").__enter__()
    assert leases(place).held() == {}


@pytest.mark.parametrize("group", ["..", ".", "/..", "-x", ".x", "con", "x" * 101])
def test_a_group_is_a_name(group):
    with pytest.raises(CheckError, match=r"group: .* is to name the study's folder, and"):
        name_of([f"group={group}"])


def test_names_of_studies_and_runs_stay_as_they_were():
    assert name_of(["experiment=a/b"]) == "a_b"
    assert name_of(["group=mine v2"]) == "mine_v2"
    assert name_of(["group=e\u0301te"]) == "\u00e9te"


@pytest.mark.parametrize("name", ["../evil", "a/b", 5])
def test_runs_that_are_trained_as_one_are_beside_each_other(name, place):
    one = run(place, "one")
    (one / execute.FUSED).write_text(json.dumps(["one", name]))
    with pytest.raises(runs.RunError, match=r"fused\.json: .* is no name of a run; delete it"):
        execute.run_folder(one)


@pytest.mark.parametrize(
    ("text", "is_one"), [("12", True), ("12_3", True), ("../12", False), ("", False), (12, False)]
)
def test_jobs_have_ids(text, is_one):
    assert slurm_task.is_job(text) is is_one


def test_predictions_are_read_in_the_runs_folder():
    class Study:
        splits = ("val", "../../other", "night")

    assert predicted_split(Study()) == "night"


def test_sizes_are_of_what_is_there(place):
    (run(place, "one") / preparing.BEFORE).mkdir()
    (place / "one" / preparing.BEFORE / "a").write_bytes(b"12345")
    assert cleaning.disposable(study(place, "one")) == [(place / "one" / preparing.BEFORE, 5)]
    assert cleaning.run_names(Path(place / "studies/mine")) == ["one"]
