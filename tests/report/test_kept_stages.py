"""The report says of which step and stage the kept weights are, and how often not the last."""

from dataclasses import replace

import pytest

from report import synthetic
from tlx.report import data, kept_stages, sections, tables_runs, terminal
from tlx.report.build import all_tables


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Arms of one stage, and lp_ft of two."""
    runs_dir = tmp_path_factory.mktemp("shared")
    return data.read(synthetic.STUDIES_MADE["shared"](runs_dir), runs_dir=runs_dir)


@pytest.fixture(scope="module")
def earlier(shared):
    """The same, but that two runs of lp_ft kept weights of their first stage."""
    names = [run.run for run in shared.manifest.runs if run.arm == "lp_ft"][:2]
    records = dict(shared.records)
    for name in names:
        found = records[name]
        records[name] = replace(found, selected=replace(found.selected, step=found.stages[0].end))
    return replace(shared, records=records), names


def column(table, key):
    place = [column.key for column in table.columns].index(key)
    return [row[place] for row in table.rows]


def test_all_of_the_last_stage_is_told_without_a_warning(shared):
    n = sum(run.arm == "lp_ft" for run in shared.manifest.runs)
    assert kept_stages.line(shared) == (
        f"Weights are of the last stage in all of {n} runs of several stages."
    )
    assert kept_stages.warning(shared) == ""


def test_weights_of_an_earlier_stage_are_counted_by_arm_and_in_all(earlier):
    study, _ = earlier
    n = sum(run.arm == "lp_ft" for run in study.manifest.runs)
    said = f"Weights are not of the last stage in 2 of {n} runs of several stages"
    assert f"{said}." in terminal.of_study(study, 100)
    (warning,) = [text for text in sections.head(study).warnings if text.startswith(said)]
    assert f"(lp_ft 2 of {n})" in warning
    assert f"{said}." in next(p for p in sections.sections(study, all_tables(study))
                              if p.name == "cost").text  # fmt: skip
    arms = dict(zip(study.arms, column(tables_runs.cost(study), "kept_earlier"), strict=True))
    assert arms.pop("lp_ft") == (2, n)
    assert set(arms.values()) == {None}


def test_the_tables_of_runs_name_step_and_stage(earlier):
    study, names = earlier
    table = tables_runs.runs(study)
    keys = ("run", "kept_step", "kept_stage", "kept_last_stage")
    lines = list(zip(*(column(table, key) for key in keys), strict=True))
    assert [line[0] for line in lines if line[3] is False] == names
    assert {line[1:3] for line in lines if line[0] in names} == {
        (study.records[names[0]].stages[0].end, "head")
    }
    texts = column(tables_runs.provenance(study), "kept")
    assert sum(text.endswith("(stage head), not of the last stage") for text in texts) == 2


def test_nothing_is_said_where_every_run_has_one_stage(shared):
    records = {n: replace(r, stages=r.stages[-1:]) for n, r in shared.records.items()}
    assert kept_stages.line(replace(shared, records=records)) == ""
