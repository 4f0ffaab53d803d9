import shlex

import numpy as np
import pytest
from scipy import stats as reference

from report import synthetic
from tlx.report import data, factors, sections, tables, tables_runs, trials
from tlx.results import manifest
from tlx.results import table as results


@pytest.fixture(scope="module")
def explicit(studies):
    runs_dir, folder, _ = studies["explicit"]
    return data.read(folder, runs_dir=runs_dir)


def column(table, key):
    place = [item.key for item in table.columns].index(key)
    return {row[0]: row[place] for row in table.rows}


def test_means_and_intervals_equal_scipy(explicit):
    table = tables.main(explicit)
    for arm, shown in column(table, "test").items():
        runs = explicit.picked[arm]
        records = [explicit.records.get(run.run) for run in runs]
        values = [r.splits["test"].metrics["accuracy"].value for r in records
                  if r and r.status == "finished"]  # fmt: skip
        low, high = reference.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=reference.sem(values)
        )
        assert (shown.value, shown.low, shown.high) == pytest.approx((np.mean(values), low, high))
        assert shown.n == len(values)


def test_differences_equal_scipys_paired_test(explicit):
    values = results.values(explicit.manifest, explicit.records, metric="test/accuracy")
    first, base = np.array(values["gradual"]), np.array(values["full"])
    whole = ~np.isnan(first) & ~np.isnan(base)
    assert 2 <= whole.sum() < 5
    expected = reference.ttest_rel(first[whole], base[whole])
    found = next(d for d in explicit.differences("test/accuracy") if d.arm == "gradual")
    assert found.comparison.p == pytest.approx(expected.pvalue)
    assert found.comparison.n == whole.sum()
    assert column(tables.main(explicit), "difference")["full"] is None


def test_values_equal_those_of_results(explicit):
    for metric in ("test/accuracy", "test/loss", "rotation/ece"):
        theirs = results.values(explicit.manifest, explicit.records, metric=metric)
        for arm, values in explicit.values(metric).items():
            assert np.array_equal(values, theirs[arm], equal_nan=True)


def test_missing_and_diverged_runs_are_counted(explicit):
    assert column(tables.main(explicit), "n")["gradual"] == (3, 5)
    scratch = next(s for s in explicit.summaries("test/loss") if s.arm == "scratch")
    assert (scratch.interval.n, scratch.nan, scratch.planned) == (4, 1, 5)
    found = tables_runs.problems(explicit)
    statuses = [row[3] for row in found.rows]
    assert sorted(set(statuses)) == ["failed", "interrupted", "missing"]
    assert len(found.rows) == 6


def test_every_evaluation_split_is_there(explicit):
    assert explicit.splits == ("test", "noise", "rotation")
    assert [c.key for c in tables.by_split(explicit).columns] == ["arm", *explicit.splits]
    assert {row[1] for row in tables.figures(explicit).rows} == {"val", *explicit.splits}


def test_commands_are_quoted_for_a_shell(explicit):
    commands = column(tables_runs.provenance(explicit), "command")
    for planned in explicit.manifest.runs:
        assert shlex.split(commands[planned.run]) == ["tlx", "train", *planned.overrides]


def test_provenance_names_commit_and_machine(explicit):
    table = tables_runs.provenance(explicit)
    run = explicit.picked["full"][0].run
    assert column(table, "commit")[run] == synthetic.PROVENANCE["code"]["sha"][:10]
    assert "NVIDIA H100" in column(table, "machine")[run]


def test_a_broken_record_is_listed_and_not_fatal(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    (tmp_path / "loo-base-s0" / "record.json").write_text("{")
    study = data.read(folder, runs_dir=tmp_path)
    row = next(row for row in tables_runs.problems(study).rows if row[0] == "loo-base-s0")
    assert row[3] == "unreadable"
    assert "not JSON" in row[4]


def test_a_claim_on_an_unknown_arm_is_told(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    spec = tables_manifest(folder, claims=("nobody > base",))
    study = data.read(spec, runs_dir=tmp_path)
    assert "nobody" in study.trouble
    assert study.verdicts == []


def tables_manifest(folder, **changes):
    from dataclasses import replace

    manifest.write(folder, replace(manifest.read(folder), **changes))
    return folder


def test_effects_of_a_grid(studies):
    runs_dir, folder, _ = studies["grid"]
    study = data.read(folder, runs_dir=runs_dir)
    table = factors.table(study)
    assert len(table.rows) == 3 + 5
    by_level = {(row[0], row[1]): row for row in table.rows}
    values = study.values("test/accuracy")
    cells = [np.mean(values[f"lp_ft,{count}"]) for count in (1, 5, 10, 50, 100)]
    assert by_level["freeze_strategy", "lp_ft"][2] == pytest.approx(np.mean(cells))
    assert factors.rank_table(study) is None


def test_pareto_front_equals_optunas(studies):
    optuna = pytest.importorskip("optuna")
    runs_dir, folder, _ = studies["search"]
    study = data.read(folder, runs_dir=runs_dir)
    items = trials.trials(study)
    assert len(items) == 60
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = optuna.create_study(directions=["maximize", "minimize"])
    for item in items:
        if item.whole:
            theirs.add_trial(
                optuna.create_trial(values=list(item.values), user_attrs={"number": item.number})
            )
    expected = {trial.user_attrs["number"] for trial in theirs.best_trials}
    assert {item.number for item in trials.best(study, items)} == expected
    assert len(expected) > 1


def test_a_failed_trial_is_no_candidate(studies):
    runs_dir, folder, _ = studies["search"]
    items = trials.trials(data.read(folder, runs_dir=runs_dir))
    failed = next(item for item in items if item.number == 7)
    assert (failed.status, failed.n, failed.planned, failed.whole) == ("failed", 1, 2, False)


def test_importances_come_from_the_searchs_storage(tmp_path):
    optuna = pytest.importorskip("optuna")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = synthetic.search(tmp_path / "runs", trials=12, seeds=1)
    path = tmp_path / "optuna.journal"
    theirs = optuna.create_study(
        study_name="search_finetune",
        storage=JournalStorage(JournalFileBackend(str(path))),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    theirs.optimize(lambda t: t.suggest_float("big", 0, 1) + 0 * t.suggest_float("no", 0, 1), 60)
    tables_manifest(folder, search={"storage": str(path), "objectives": {"val/accuracy": "max"}})
    study = data.read(folder, runs_dir=tmp_path / "runs")
    name, shares, why = trials.importances(study)
    assert (name, why) == ("PED-ANOVA", "")
    assert shares["val/accuracy"]["big"] > shares["val/accuracy"]["no"]
    path.unlink()
    name, shares, why = trials.importances(study)
    assert not shares
    assert "left out" in why
    assert not path.exists()  # reading makes no storage


def test_objectives_may_be_figures_of_the_run(studies):
    runs_dir, folder, _ = studies["search"]
    study = data.read(folder, runs_dir=runs_dir)
    record = next(r for r in study.records.values() if r.status == "finished")
    assert results.objective(record, "parameters/trainable") == record.parameters.trainable
    assert results.objective(record, "wall_s") == record.wall_s
    assert results.objective(record, "val/nothing") is None


@pytest.mark.parametrize("option", [("--config-dir", "my configs"), ("--config-dir=my configs",)])
def test_commands_repeat_the_folder_of_configs(tmp_path, option):
    folder = synthetic.leave_one_out(tmp_path, seeds=1)
    line = ("tlx", "train", *option, "experiment=grid")
    study = data.read(tables_manifest(folder, command=line), runs_dir=tmp_path)
    for made in (tables_runs.runs(study), tables_runs.provenance(study)):
        commands = column(made, "command")
        for planned in study.manifest.runs:
            expected = ["tlx", "train", "--config-dir", "my configs", *planned.overrides]
            assert shlex.split(commands[planned.run]) == expected


def test_commands_name_another_folder_of_runs(tmp_path):
    lines = {}
    for name in ("runs", "my runs"):
        folder = synthetic.leave_one_out(tmp_path / name, seeds=1)
        study = data.read(folder, runs_dir=tmp_path / name)
        rerun = column(tables_runs.provenance(study), "rerun")["loo-base-s0"]
        report = next(line for line, _ in sections.again(study) if line.startswith("tlx report"))
        lines[name] = [shlex.split(line) for line in (rerun, report)]
    place = ["--runs-dir", str(tmp_path / "my runs")]
    assert lines["runs"] == [
        ["tlx", "rerun", "loo-base-s0"],
        ["tlx", "report", "regularization_ablation"],
    ]
    assert lines["my runs"] == [
        ["tlx", "rerun", *place, "loo-base-s0"],
        ["tlx", "report", *place, "regularization_ablation"],
    ]


def test_notes_count_seeds_and_comparisons(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    spec = manifest.read(folder)
    kept = [run for run in spec.runs if run.arm in ("base", "without mixup")]
    tables_manifest(folder, runs=tuple(kept), arms=("base", "without mixup"), claims=())
    note = tables.main(data.read(folder, runs_dir=tmp_path)).note
    assert "Mean over n = 2 seeds with its 95% interval" in note
    assert note.endswith("Holm-corrected over 1 comparison.")
    for run in kept:
        if run.arm != "base":
            (tmp_path / run.run / "record.json").unlink()
    note = tables.main(data.read(folder, runs_dir=tmp_path)).note
    assert "Mean over n = 2 seeds with its" in note
    assert "1 arm has no figure yet" in note
    assert "Δ" not in note
