"""Records become a table; nothing that is missing, broken or half done goes unseen."""

import json
import math
import re

import numpy as np
import pytest

from results.studies import made_manifest, made_record, study_of
from tlx.results import reading, record, table
from tlx.results.manifest import PlannedRun
from tlx.results.record import Record, RecordError


def written(runs_dir, *records):
    for item in records:  # not by record.write, which waits for the disk
        (runs_dir / item.run).mkdir()
        (runs_dir / item.run / record.FILE).write_text(record.to_json(item), encoding="utf-8")


def test_table_has_a_row_for_each_figure(tmp_path):
    one = made_record("one", {"test/accuracy": 0.5, "test/loss": 1.0, "ood/accuracy": 0.25}, seed=3)
    written(tmp_path, one)
    found = table.runs_table(tmp_path)
    assert list(zip(found["split"], found["metric"], found["value"], strict=True)) == [
        ("test", "accuracy", 0.5),
        ("test", "loss", 1.0),
        ("ood", "accuracy", 0.25),
    ]
    row = found.iloc[0]
    assert (row["run"], row["seed"], row["status"], row["n_items"]) == ("one", 3, "finished", 7)
    assert (row["trainable"], row["total_parameters"], row["used_steps"]) == (10, 100, 9)
    assert math.isnan(row["low"])
    assert row["high"] == pytest.approx(0.6)


def test_table_of_a_study_shows_what_is_missing_and_broken(tmp_path):
    names = ("good", "gone", "broken", "pruned")
    runs = tuple(
        PlannedRun(
            run=name, arm=f"a{place}", seed=place, trial=place, factors={"f": place, "g": [name]}
        )
        for place, name in enumerate(names)
    )
    written(
        tmp_path,
        made_record("good", {"test/accuracy": 1.0}),
        made_record("pruned", status="pruned"),
        made_record("stranger", {"test/accuracy": 0.0}),
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{")
    found = table.runs_table(tmp_path, manifest=made_manifest(runs=runs))
    assert list(found["run"]) == list(names)
    assert list(found["status"]) == ["finished", "missing", "unreadable", "pruned"]
    assert list(found["trial"]) == [0, 1, 2, 3]
    assert list(found["split"].isna()) == [False, True, True, True]
    assert list(found["factor:f"]) == [0, 1, 2, 3]
    assert list(found["factor:g"]) == [json.dumps([name]) for name in names]
    assert len(found.attrs["problems"]) == 1
    assert "broken/record.json: not JSON" in found.attrs["problems"][0]


@pytest.mark.parametrize("made", [[], ["one"]])
def test_table_columns_do_not_depend_on_the_rows(tmp_path, made):
    written(tmp_path, *(made_record(name, {"test/accuracy": 1.0}) for name in made))
    columns = table.runs_table(tmp_path).dtypes
    assert list(columns.index) == [
        "run", "arm", "seed", "candidate", "status", "split", "metric", "value", "low", "high",
        "n_items", "task", "wall_s", "trainable", "total_parameters", "peak_memory_bytes",
        "used_steps", "budget_steps", "selected", "kept_step", "kept_stage", "kept_last_stage",
        "trial",
    ]  # fmt: skip
    assert columns["value"] == "float64"
    assert columns["seed"] == columns["n_items"] == "Int64"
    assert columns["run"] == columns["split"] == "str"


def test_table_goes_through_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    levels = (1, "one", None, [1, 2], True)
    runs = tuple(
        PlannedRun(run=f"r{place}", arm="a", seed=place, factors={"f": level})
        for place, level in enumerate(levels)
    )
    written(tmp_path, *(made_record(f"r{p}", {"test/accuracy": 0.5}) for p in range(3)))
    found = table.runs_table(tmp_path, manifest=made_manifest(runs=runs))
    found.attrs.clear()
    found.to_parquet(tmp_path / "table.parquet")
    again = pandas.read_parquet(tmp_path / "table.parquet")
    pandas.testing.assert_frame_equal(found, again)
    assert list(again["factor:f"]) == ["1", "one", "null", "[1, 2]", "true"]


def test_a_run_of_two_arms_has_rows_for_both(tmp_path):
    runs = tuple(PlannedRun(run="shared", arm=arm, seed=0) for arm in ("full", "lp_ft"))
    written(tmp_path, made_record("shared", {"test/accuracy": 0.5}))
    found = table.runs_table(tmp_path, manifest=made_manifest(runs=runs))
    assert list(found["arm"]) == ["full", "lp_ft"]
    assert list(found["value"]) == [0.5, 0.5]


def test_hundreds_of_records_are_what_the_strict_reader_reads(tmp_path):
    rng = np.random.default_rng(0)
    made = [
        made_record(
            f"r{place:03}",
            {"test/accuracy": float(rng.random()), "test/loss": math.inf if place % 7 else 1.0},
            seed=place,
            status=record.STATUSES[place % len(record.STATUSES)],
            lineage=("a", "b"),
            notes={"nested": [{"x": 1.0}]},
            parameters=None if place % 5 == 0 else made_record("x").parameters,
        )
        for place in range(300)
    ]
    written(tmp_path, *made)
    runs = tuple(PlannedRun(run=item.run, arm="full", seed=item.seed) for item in made)
    loaded = table.load(tmp_path, manifest=made_manifest(runs=runs))
    assert list(loaded.records) == [item.run for item in made]
    # through JSON, since a NaN equals no NaN
    for name, found in loaded.records.items():
        assert record.to_json(found) == record.to_json(record.read(tmp_path / name))
    assert loaded.problems == []
    assert loaded.missing == ()
    finished = table.runs_table(tmp_path).query("metric == 'accuracy'")
    assert list(finished["value"]) == [
        item.splits["test"].metrics["accuracy"].value for item in made
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(version=9),
        lambda data: data.update(status="sleeping"),
        lambda data: data.update(unknown=1),
        lambda data: data.pop("lineage"),
        lambda data: data["splits"]["test"].pop("invalid"),
        lambda data: data["splits"]["test"]["metrics"]["accuracy"].update(value="high"),
        lambda data: data["splits"]["test"]["metrics"]["accuracy"].update(n=1.5),
        lambda data: data["splits"]["test"]["metrics"]["accuracy"].update(value=True),
        lambda data: data["parameters"].pop("total"),
        lambda data: data.update(splits=[]),
        lambda data: data.update(stages=[{"name": "x"}]),
    ],
)
def test_a_wrong_record_is_refused_as_the_strict_reader_does(tmp_path, change):
    written(tmp_path, made_record("one", {"test/accuracy": 0.5}))
    path = tmp_path / "one" / "record.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError) as strict:
        record.read(tmp_path / "one")
    ((name, found),) = reading.read_many([tmp_path / "one"])
    assert name == "one"
    assert str(found) == str(strict.value)


def test_load_sorts_good_broken_and_missing(tmp_path):
    written(tmp_path, made_record("good", {"test/accuracy": 0.5}))
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "record.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder" / "record.json").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    runs = tuple(
        PlannedRun(run=name, arm="full", seed=0)
        for name in ("good", "bytes", "folder", "empty", "gone")
    )
    loaded = table.load(tmp_path, manifest=made_manifest(runs=runs))
    assert isinstance(loaded.records["good"], Record)
    assert len(loaded.records) == 1
    assert [problem.split(":")[0] for problem in loaded.problems] == [
        str(tmp_path / "bytes" / "record.json"),
        str(tmp_path / "folder" / "record.json"),
    ]
    assert loaded.missing == ("empty", "gone")


def test_runs_of_an_arm_that_meant_something_else_are_kept_apart(tmp_path):
    """A record of before knows no change; one since says whether it concerns the run."""
    marks = {"old": None, "new": {"mark": True}, "one_stage": {"mark": False}, "before": None}
    runs = []
    for name, known in marks.items():
        notes = {} if known is None else {"changes": known}
        written(tmp_path, made_record(name, {"test/accuracy": 0.5}, notes=notes))
        arm = "lp_ft" if name in ("old", "new") else "full"
        runs.append(PlannedRun(run=name, arm=arm, seed=len(runs)))
    loaded = table.load(tmp_path, manifest=made_manifest(runs=tuple(runs)))
    assert sorted(loaded.records) == ["before", "new", "one_stage"]
    (problem,) = loaded.problems
    assert re.search(r"old was trained when .* meant something else .* lp_ft \(mark\)", problem)
    alone = table.load(tmp_path, manifest=made_manifest(runs=(runs[0], runs[3])))
    assert sorted(alone.records) == ["before", "old"]
    assert not alone.problems


def tuned(scores, *, mode="max"):
    """scores: {candidate: [validation of each seed, None where the run failed]}."""
    runs, records = [], {}
    for candidate, of_seeds in scores.items():
        for seed, value in enumerate(of_seeds):
            run = f"{candidate}-{seed}"
            runs.append(PlannedRun(run=run, arm="full", seed=seed, candidate=candidate))
            records[run] = made_record(
                run,
                # the better on validation, the worse on test: it must not be looked at
                {"test/accuracy": -(value or 0.0)},
                selected=value,
                mode=mode,
                status="failed" if value is None else "finished",
            )
    seeds = tuple(range(len(next(iter(scores.values())))))
    return made_manifest(arms=("full", "unplanned"), seeds=seeds, runs=tuple(runs)), records


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ({"lr=1": [0.5, 0.7], "lr=2": [0.9, 0.4]}, "max", "lr=2"),
        ({"lr=1": [0.5, 0.7], "lr=2": [0.9, 0.4]}, "min", "lr=1"),
        ({"lr=1": [0.5, 0.7], "lr=2": [0.7, 0.5]}, "max", "lr=1"),
        ({"lr=1": [0.9, None], "lr=2": [0.1, 0.1]}, "max", "lr=2"),
        ({"lr=1": [0.9, math.nan], "lr=2": [0.1, 0.1]}, "max", "lr=2"),
        ({"lr=1": [0.9, math.nan], "lr=2": [0.9, 0.8]}, "min", "lr=2"),
        ({"lr=1": [None, None], "lr=2": [0.1, None]}, "max", "lr=2"),
        ({"lr=1": [None, None], "lr=2": [None, None]}, "max", "lr=1"),
    ],
)
def test_the_best_candidate_on_validation_is_chosen(scores, mode, best):
    manifest, records = tuned(scores, mode=mode)
    assert table.chosen(manifest, records) == {"full": best}
    runs = table.picked(manifest, records)["full"]
    assert [run.run for run in runs] == [f"{best}-0", f"{best}-1"]


def test_values_follow_the_seeds_of_the_manifest():
    manifest, records = study_of({"full": [0.1, math.nan, 0.3, None, 0.5]})
    manifest = made_manifest(arms=("full",), seeds=(4, 3, 2, 1, 0), runs=manifest.runs[::2])
    runs = table.picked(manifest, records)["full"]
    assert [run.seed for run in runs] == [4, 2, 0]
    found = table.values(manifest, records, metric="test/accuracy")
    np.testing.assert_array_equal(found["full"], [0.5, math.nan, 0.3, math.nan, 0.1])
    np.testing.assert_array_equal(
        table.values(manifest, records, metric="ood/accuracy")["full"], [math.nan] * 5
    )


@pytest.mark.parametrize("status", [s for s in record.STATUSES if s != "finished"])
def test_only_finished_runs_have_values(status):
    item = made_record("one", {"test/accuracy": 0.5}, status=status)
    assert math.isnan(table.figure(item, metric="test/accuracy"))


def test_values_refuse_what_is_ambiguous():
    manifest, records = study_of({"full": [0.1]})
    with pytest.raises(ValueError, match="name the split too, 'test/accuracy'"):
        table.values(manifest, records, metric="accuracy")
    twice = made_manifest(
        seeds=(0,), runs=tuple(PlannedRun(run=name, arm="full", seed=0) for name in "ab")
    )
    with pytest.raises(ValueError, match="'full' has 2 runs and 1 seeds"):
        table.values(twice, {}, metric="test/accuracy")


def test_splits_in_order_of_appearance():
    records = {
        "a": made_record("a", {"val/accuracy": 1.0, "test/accuracy": 1.0}),
        "b": made_record("b", {"test/accuracy": 1.0, "ood/accuracy": 1.0}),
    }
    assert table.splits(records) == ["val", "test", "ood"]
