"""Real studies of small runs on this machine: faults, kills, two drivers, cancelling, cleaning."""

import csv
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from faults import OPTIMIZER, SETTINGS
from studying import LIMIT_S, SMALL, finished, start, tlx
from tlx.execution.runs import PROGRESS
from tlx.results import manifest as manifests

TIMED = ("wall_s", "samples_per_s", "peak_memory_bytes", "saved_s", "computed", "reused")
"""Columns that tell how a launch went: which run was the first to compute what all share."""


def results(cwd: Path) -> dict[str, list[dict[str, str]]]:
    """The study's tables, less timings and the provenance, which has the time of day."""
    (folder,) = (cwd / "runs" / manifests.STUDIES).iterdir()
    paths = sorted((folder / "tables").glob("*.csv"))
    found = {}
    for path in paths:
        if path.stem in {"cost", "provenance"}:
            continue
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        found[path.stem] = [{k: v for k, v in row.items() if k not in TIMED} for row in rows]
    assert len(found["runs"]) == RUNS
    return found


@pytest.fixture
def faulty(tmp_path):
    """A folder of options with an optimizer that goes wrong, which the person's settings allow."""
    (tmp_path / "mine/optimizer").mkdir(parents=True)
    (tmp_path / "mine/optimizer/faulty.yaml").write_text(OPTIMIZER)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    return {"TLX_SETTINGS": str(tmp_path / "settings.toml")}


@pytest.mark.slow
def test_faults_cost_their_runs_alone(tmp_path, faulty):
    line = [
        *("train", "-m", "--config-dir", "mine", *SMALL, "optimizer=faulty"),
        "optimizer.how=right,raise,segfault,hang,diverge",
        *(f"optimizer.flag={tmp_path / 'mended'}", "executor.timeout_minutes=0.3"),
    ]
    code, out = tlx(*line, cwd=tmp_path, **faulty)
    assert code == 1, out
    for how, reason in {
        "raise": "ValueError: a mistake in the third step",
        "segfault": "crashed (SIGSEGV)",
        "hang": "ran longer than executor.timeout_minutes=0.3",
        "diverge": "Diverged",
    }.items():
        (line_of,) = re.findall(rf"^\[./5\] how={how} .*FAILED: (.*)$", out, flags=re.MULTILINE)
        assert reason in line_of
    assert "failed: 4; the same line with --retry-failed" in out
    assert len(finished(tmp_path)) == 1
    said = tlx("status", "sweep", cwd=tmp_path)[1]
    assert "1 finished, 4 failed" in said
    assert "crashed (SIGSEGV)" in said.replace("\n", "")

    before = finished(tmp_path)
    code, again = tlx(*line, cwd=tmp_path, **faulty)
    assert code == 1
    assert finished(tmp_path) == before  # what failed waits to be asked for
    assert "FAILED:" not in again

    (tmp_path / "mended").touch()
    code, out = tlx(*line, "--retry-failed", cwd=tmp_path, **faulty)
    assert code == 0, out
    assert len(finished(tmp_path)) == 5
    assert finished(tmp_path).items() >= before.items()
    assert out.count("test/accuracy 0.") == 4


@pytest.mark.slow
def test_a_run_that_holds_too_much_memory_is_ended(tmp_path):
    code, out = tlx("train", "-m", *SMALL, "seed=0", "executor.memory_gb=0.05", cwd=tmp_path)
    assert code == 1
    assert re.search(r"used \d+\.\d GB, above executor.memory_gb=0.05", out)


def victims(driver: int) -> list[psutil.Process]:
    """The driver and all that it started."""
    try:
        parent = psutil.Process(driver)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


STUDY = (
    *("train", "-m", *SMALL, "trainer.checkpoint_every_steps=3"),
    *("freeze_strategy=full,linear_probe,lp_ft", "seed=range(3)", "executor.max_restarts=50"),
)
RUNS = 9
KILLS = 20 if os.environ.get("TLX_ALL_CASES") else 6


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("undisturbed")
    code, out = tlx(*STUDY, cwd=cwd)
    assert code == 0, out
    assert len(finished(cwd)) == RUNS
    return results(cwd)


def steps_told(cwd: Path) -> int:
    """Of all runs together."""
    told = (path.read_text() for path in (cwd / "runs").glob(f"*/{PROGRESS}"))
    return sum(json.loads(text)["step"] for text in told)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_again_and_again_a_study_ends_as_if_undisturbed(tmp_path, undisturbed):
    """Kills come when so many more steps are done, whatever time that takes."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, kills, seen = random.Random(seed), 0, {}
    deadline = time.monotonic() + 1200
    while True:
        assert time.monotonic() < deadline, f"{kills} kills, {len(seen)} runs finished"
        process = start(*STUDY, cwd=tmp_path)
        while kills < KILLS and process.poll() is None:
            wanted = steps_told(tmp_path) + chance.randint(1, 4 if KILLS > 6 else 12)
            while steps_told(tmp_path) < wanted and process.poll() is None:
                time.sleep(0.02)
            alive = victims(process.pid)
            now = finished(tmp_path)
            assert now.items() >= seen.items(), "a finished run was trained again"
            seen = now
            if not alive or len(seen) == RUNS:
                break
            victim = alive[0] if kills % 3 == 0 else chance.choice(alive)
            victim.send_signal(signal.SIGKILL)
            kills += 1
            if victim.pid == process.pid:
                break
        process.communicate(timeout=LIMIT_S)
        if process.returncode == 0:
            break
    assert kills >= KILLS // 2
    now = finished(tmp_path)
    assert now.items() >= seen.items()
    assert len(now) == RUNS
    assert results(tmp_path) == undisturbed
    time.sleep(1)
    assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(_line(p))]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["sqlite", "journal"])
def test_two_drivers_share_a_study(tmp_path, undisturbed, kept):
    both = [start(*STUDY, cwd=tmp_path, TLX_LEASES=kept) for _ in range(2)]
    outs = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert results(tmp_path) == undisturbed
    trained = [
        len(re.findall(r"^run .*: finished", path.read_text(), flags=re.MULTILINE))
        for path in (tmp_path / "runs").glob("*/log.txt")
    ]
    assert len(trained) == RUNS
    for path in (tmp_path / "runs").glob("*/provenance.json"):
        text = (path.parent / "log.txt").read_text()
        assert text.count("step 12/12") == 1, f"{path.parent.name} was trained twice"


@pytest.mark.slow
def test_cancel_stops_and_the_same_line_goes_on(tmp_path):
    line = ["train", "-m", *SMALL[:-4], "trainer.steps=4000", "logger=[csv]", "seed=0,1"]
    line += ["trainer.eval_every_steps=50", "trainer.batch_size=16"]
    process = start(*line, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("*/checkpoints/*")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "running" in tlx("status", "sweep", cwd=tmp_path)[1]
    assert tlx("cancel", "sweep", cwd=tmp_path)[0] == 0
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "stopped; the same command goes on" in out
    said = tlx("status", "sweep", cwd=tmp_path)[1]
    assert "interrupted" in said
    reached = [json.loads(p.read_text())["step"] for p in tmp_path.glob("runs/*/progress.json")]
    assert max(reached) > 0


@pytest.mark.slow
def test_clean_lists_first_and_spares_what_others_need(tmp_path):
    line = ["train", "-m", *SMALL, "keep=checkpoints"]
    assert tlx(*line, "seed=0,1", "group=one", cwd=tmp_path)[0] == 0
    assert tlx(*line, "seed=1,2", "group=two", cwd=tmp_path)[0] == 0
    runs = sorted((tmp_path / "runs").glob("digits-*"))
    assert len(runs) == 3  # the second is of both studies
    code, out = tlx("clean", "one", cwd=tmp_path)
    assert code == 0
    assert out.count("checkpoints") == 2
    assert all((run / "checkpoints").is_dir() for run in runs)
    assert tlx("clean", "one", "--yes", cwd=tmp_path)[0] == 0
    assert [(run / "checkpoints").is_dir() for run in runs] == [False, False, True]
    assert len(finished(tmp_path)) == 3
    assert tlx("clean", "one", "--runs", "--yes", cwd=tmp_path)[0] == 0
    assert [run.is_dir() for run in runs] == [False, True, True]
    assert tlx("report", "two", cwd=tmp_path)[0] == 0


@pytest.mark.slow
def test_wandb_groups_a_study_and_shows_its_tables(tmp_path):
    line = ["train", "-m", *SMALL[:-1], "logger=[csv,wandb]", "freeze_strategy=full,linear_probe"]
    code, out = tlx(*line, "group=shown", cwd=tmp_path)
    assert code == 0, out
    logged = {path.name: path.read_bytes() for path in tmp_path.rglob("run-*.wandb")}
    assert len(logged) == 3
    tables = logged.pop("run-study-shown.wandb")
    for word in (b"shown", b"summary", b"differences"):
        assert word in tables
    for arm in (b"full", b"linear_probe"):
        assert sum(b"freeze_strategy=" + arm in content for content in logged.values()) == 1
    assert all(b"shown" in content for content in logged.values())


@pytest.mark.slow
def test_a_study_over_folds_tests_each_item_once(tmp_path):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    study = {
        "study": {
            "seeds": [0],
            "folds": 2,
            "arms": {"full": ["freeze_strategy=full"], "probe": ["freeze_strategy=linear_probe"]},
        }
    }
    (tmp_path / "mine/experiment/cv.yaml").write_text(
        f"# @package _global_\n{json.dumps(study)}\n", encoding="utf-8"
    )
    code, out = tlx(*("train", "--config-dir", "mine", "experiment=cv", *SMALL), cwd=tmp_path)
    assert code == 0, out
    (folder,) = (tmp_path / "runs" / manifests.STUDIES).iterdir()
    for arm in ("full", "probe"):
        runs = [run for run in manifests.read(folder).runs if run.arm == arm]
        tables = [tmp_path / "runs" / run.run / "predictions/test.csv" for run in runs]
        lines = [csv.DictReader(path.read_text().splitlines()) for path in tables]
        tested = [line["id"] for table in lines for line in table]
        assert len(tested) == len({*tested}) == 1797
    with open(folder / "tables/folds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["full", "probe"]
    assert "over 2 folds" in (folder / "report.html").read_text(encoding="utf-8")
