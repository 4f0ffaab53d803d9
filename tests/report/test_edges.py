import re
from dataclasses import replace

import pytest

from report import synthetic
from tlx.report import curves, data, terminal
from tlx.report.build import build
from tlx.report.figure import styles
from tlx.results import manifest, record


def changed(folder, **changes):
    manifest.write(folder, replace(manifest.read(folder), **changes))
    return folder


def test_a_study_that_has_not_begun(tmp_path):
    spec = manifest.read(synthetic.leave_one_out(tmp_path / "made", seeds=2))
    folder = tmp_path / "runs" / manifest.STUDIES / spec.study
    manifest.write(folder, spec)
    built = build(folder, runs_dir=tmp_path / "runs")
    text = built.html.read_text(encoding="utf-8")
    assert "12 of 12 runs gave no result (12 missing)" in text
    assert '<figure class="plot"' not in text
    assert "12 runs missing" in terminal.text(folder, runs_dir=tmp_path / "runs")


def test_a_search_that_has_not_begun(tmp_path):
    folder = changed(synthetic.search(tmp_path, trials=3, seeds=1), runs=(), arms=("search",))
    assert build(folder, runs_dir=tmp_path).html.is_file()
    assert terminal.text(folder, runs_dir=tmp_path)


def test_parameters_may_be_lists(tmp_path):
    folder = synthetic.search(tmp_path, trials=6, seeds=1)
    runs = manifest.read(folder).runs
    lists = [["a", "b"], ["c"], []] * 2
    runs = [
        replace(run, factors={**run.factors, "augmentation": item})
        for run, item in zip(runs, lists, strict=True)
    ]
    changed(folder, runs=tuple(runs))
    assert "augmentation" in build(folder, runs_dir=tmp_path).html.read_text(encoding="utf-8")


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=1)
    text = build(folder, runs_dir=tmp_path).html.read_text(encoding="utf-8")
    assert "All arms rest on fewer than 3 seeds" in text
    assert "NaN" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "95%" not in text[: text.index('id="plotly"')]
    assert "n = 1 seed," in text
    for path in (folder / "tables").glob("*.md"):
        words = path.read_text(encoding="utf-8")
        assert "NaN" not in words
        assert "95%" not in words
        assert "1 seeds" not in words


def test_a_regression_has_neither_confusion_nor_calibration(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    for run in manifest.read(folder).runs:
        found = record.read(tmp_path / run.run)
        splits = {
            name: replace(
                split,
                metrics={"rmse": replace(split.metrics["loss"])},
                per_class=({"name": "height", "mse": 1.0, "mae": 0.5, "r2": 0.9},),
                confusion=None,
                calibration={},
            )
            for name, split in found.splits.items()
        }
        record.write(tmp_path / run.run, replace(found, task="regression", splits=splits))
    changed(folder, metric="test/rmse", mode="min", directions={"rmse": "min"}, claims=())
    text = build(folder, runs_dir=tmp_path).html.read_text(encoding="utf-8")
    assert "fig-confusion" not in text
    assert "fig-calibration" not in text
    assert "fig-per-class" in text
    assert "Better is to the left" in text


def test_without_the_page_only_tables_are_written(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    built = build(folder, runs_dir=tmp_path, page=False)
    assert built.html is None
    assert not (folder / "report.html").exists()
    assert all(path.is_file() for path in built.tables)
    assert {path.suffix for path in built.tables} >= {".csv", ".md", ".tex"}


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(manifest.ManifestError, match="no such study"):
        build(tmp_path, runs_dir=tmp_path)


def test_the_same_study_gives_the_same_page(tmp_path):
    folder = synthetic.grid(tmp_path, seeds=2, labels=(1, 10))
    first = build(folder, runs_dir=tmp_path).html.read_bytes()
    assert build(folder, runs_dir=tmp_path).html.read_bytes() == first


def test_stale_tables_go_and_other_files_stay(tmp_path):
    folder = synthetic.leave_one_out(tmp_path, seeds=2)
    path = tmp_path / "loo-base-s0" / "record.json"
    kept = path.read_text()
    path.unlink()
    build(folder, runs_dir=tmp_path)
    assert (folder / "tables" / "problems.csv").is_file()
    (folder / "tables" / "my_notes.md").write_text("mine")
    (folder / "tables" / "runs.tex").write_text("of an older report")
    path.write_text(kept)
    built = build(folder, runs_dir=tmp_path)
    there = set((folder / "tables").iterdir())
    assert there == {*built.tables, folder / "tables" / "my_notes.md"}


def test_two_seeds_are_drawn_as_lines_and_three_as_a_band(tmp_path):
    for seeds, filled in ((2, False), (3, True)):
        folder = synthetic.leave_one_out(tmp_path / str(seeds), seeds=seeds)
        study = data.read(folder, runs_dir=tmp_path / str(seeds))
        drawn = curves.figure(study, styles(study))
        traces = [t for t in drawn.variants[0].traces if t["meta"]["arm"] == "base"]
        assert any("fill" in trace for trace in traces) == filled
        assert len(traces) == (2 if filled else 3)
        assert ("95%" in drawn.caption) == filled
