"""What was computed, reused and fused is counted once, and not mentioned where there is none."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from report import synthetic
from tlx.report import data, reuse, tables_runs, terminal
from tlx.report.build import build
from tlx.results import record
from tlx.training.reuse.stored import Decoded

SHARED_OF_ARMS = {"computed", "reused", "saved_s", "fused", "fused_jobs"}
SHARED_OF_RUNS = {"boundary", "computed", "reused", "saved_s", "fused_with"}
LATER = ("boundary", "computed", "reused", "saved_s")


@pytest.fixture(scope="module")
def shared(studies):
    runs_dir, folder, _ = studies["shared"]
    return data.read(folder, runs_dir=runs_dir)


def with_records(study, change):
    return replace(study, records={name: change(r) for name, r in study.records.items()})


def alone(found):
    return replace(found, fused_with=())


def uncached(found):
    plain = dict.fromkeys(LATER[1:], 0) | {"boundary": None}
    return replace(found, cached=False, stages=tuple(replace(s, **plain) for s in found.stages))


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_totals_are_those_of_all_records(shared):
    found = reuse.of(shared.records.values())
    stages = [stage for r in shared.records.values() for stage in r.stages]
    frozen = found.frozen
    assert frozen.computed == sum(stage.computed for stage in stages) == 2 * synthetic.ITEMS
    assert frozen.reused == sum(stage.reused for stage in stages) == 18 * synthetic.ITEMS
    assert frozen.saved_s == pytest.approx(sum(stage.saved_s for stage in stages))
    assert (frozen.runs, found.decoded.runs) == (20, 0)


def test_decoded_inputs_are_not_called_activations_of_frozen_parts(shared):
    def decoded(found):
        stages = tuple(
            replace(s, boundary=s.boundary and record.DECODED, saved_s=0.0) for s in found.stages
        )
        return replace(found, fused_with=(), stages=stages)

    inputs = with_records(shared, decoded)
    said = "20 of 25 runs trained from stored inputs, decoded and resized once: 800 were computed"
    assert reuse.sentences(inputs).startswith(said)
    assert reuse.line(inputs) == (
        "decoded once: 800 inputs computed, 7,200 reused, no computing spared"
    )
    assert reuse.hint(inputs.records["shared-lp_ft-s0"]) == "decoded once"
    one = {**shared.records, "shared-full-s0": inputs.records["shared-lp_ft-s0"]}
    both = reuse.sentences(replace(shared, records=one))
    assert "20 of 25 runs trained from stored activations of frozen parts: 800 were" in both
    assert "1 of 25 runs trained from stored inputs" in both
    assert Decoded((), torch.float32).boundary == record.DECODED


@pytest.mark.parametrize("left", [1, 3, 10])
def test_a_job_counts_once_however_many_of_its_runs_are_there(shared, left):
    fused = [r for r in shared.records.values() if r.fused_with]
    found = reuse.of(fused[:left])
    assert (found.fused, found.jobs) == (left, 2 if left > 5 else 1)


def test_the_terminal_says_it_in_a_line(shared):
    assert reuse.line(shared) == (
        "frozen parts: 800 activations computed, 7,200 reused, 3 min 18 s of computing spared; "
        "10 of 25 runs trained as 2 fused jobs"
    )
    text = terminal.of_study(shared, 200)
    assert reuse.line(shared) in text.splitlines()


def test_only_what_happened_is_said(shared):
    cached = with_records(shared, alone)
    assert "fused" not in reuse.line(cached) + reuse.sentences(cached)
    fused = with_records(shared, uncached)
    assert reuse.line(fused) == "10 of 25 runs trained as 2 fused jobs"
    assert reuse.sentences(fused).startswith("10 of 25 runs trained as 2 fused jobs;")
    neither = with_records(cached, uncached)
    assert reuse.line(neither) == reuse.sentences(neither) == ""


@pytest.mark.parametrize(
    ("saved_s", "said"),
    [
        (0.4, "0.4 s of computing spared"),
        (-0.4, "0.4 s more computing than without"),
        (-0.04, "no computing spared"),
        (7_260.0, "2 h 01 min of computing spared"),
    ],
)
def test_what_the_store_cost_is_not_called_spared(shared, saved_s, said):
    name = "shared-last_block-s0"
    found = shared.records[name]
    stages = (replace(found.stages[0], saved_s=saved_s),)
    one = replace(shared, records={name: replace(found, stages=stages)})
    assert reuse.line(one).endswith(said)
    assert said in reuse.sentences(one)


def test_arms_show_means_and_count_jobs(shared):
    table = tables_runs.cost(shared)
    keys = [column.key for column in table.columns]
    rows = {row[0]: dict(zip(keys, row, strict=True)) for row in table.rows}
    for arm, row in rows.items():
        stages = [stage for r in shared.finished(arm) for stage in r.stages]
        if arm == "full":
            assert all(row[key] is None for key in SHARED_OF_ARMS)
            continue
        assert row["computed"] == sum(stage.computed for stage in stages) / 5
        assert row["computed"] + row["reused"] == synthetic.ITEMS
        assert row["saved_s"] == pytest.approx(sum(stage.saved_s for stage in stages) / 5)
        assert (row["fused"], row["fused_jobs"]) == (
            (5, 1) if arm == "linear_probe" else (None, None)
        )


def test_files_hold_the_same(studies, shared):
    folder = studies["shared"][1] / "tables"
    for row in rows_of(folder / "runs.csv"):
        found = shared.records[row["run"]]
        assert row["fused_with"] == str(len(found.fused_with))
        assert row["boundary"] == (found.stages[0].boundary or "")
        computed = str(found.stages[0].computed) if found.cached else ""
        assert row["computed"] == computed
    assert rows_of(folder / "cost.csv")[0].keys() >= SHARED_OF_ARMS
    assert "| Computed | Reused |" in (folder / "cost.md").read_text(encoding="utf-8")
    hints = {row["run"]: row["training"] for row in rows_of(folder / "provenance.csv")}
    assert hints["shared-probe-0.1-s0"] == "cached, fused with 4"
    assert hints["shared-lp_ft-s0"] == "cached"
    assert hints["shared-full-s0"] == ""


def test_a_missing_run_has_nothing(tmp_path):
    folder = synthetic.shared(tmp_path, seeds=2)
    (tmp_path / "shared-probe-0.01-s0" / "record.json").unlink()
    build(folder, runs_dir=tmp_path)
    first = rows_of(folder / "tables" / "runs.csv")[0]
    assert {first[key] for key in SHARED_OF_RUNS} == {""}


def test_records_of_older_versions_look_as_before(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    page = build(folder, runs_dir=tmp_path).html.read_bytes()
    for path in tmp_path.glob(f"*/{record.FILE}"):
        found = json.loads(path.read_text())
        for stage in found["stages"]:
            for key in LATER:
                del stage[key]
        path.write_text(json.dumps(found))
    assert build(folder, runs_dir=tmp_path).html.read_bytes() == page
    study = data.read(folder, runs_dir=tmp_path)
    assert not study.shared
    assert reuse.line(study) == reuse.sentences(study) == ""
    for table, keys in (
        (tables_runs.cost(study), SHARED_OF_ARMS),
        (tables_runs.runs(study), SHARED_OF_RUNS),
        (tables_runs.provenance(study), {"training"}),
    ):
        assert not keys & {column.key for column in table.columns}
    assert b"Spared" not in page
    assert "fused" not in terminal.of_study(study, 120)
