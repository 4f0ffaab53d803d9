"""Views of predictions: against the files, the tasks' own counts, and seqeval; hostile texts."""

import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as reference

from report import synthetic
from tlx.base.cells import Named, Ranked
from tlx.data.splits import Labels
from tlx.data.text import columns
from tlx.report import data
from tlx.report.build import build
from tlx.report.views import entities, errors, samples
from tlx.results import predictions
from tlx.results.manifest import PlannedRun
from tlx.tasks.token_classification import token_classification

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import f1_score

CLASSES = ("sports", "a,b", 'the "third"')
TAGS = ("O", "B-loc", "I-loc", "B-per", "I-per")
ACCURACIES = {"worse": 0.3, "better": 0.9}
SEEDS, ITEMS = 3, 40
TEXTS = [f"text {i}, in\ntwo lines {synthetic.EVIL}" for i in range(ITEMS)]


def classes(folder, rng, accuracy):
    """Predictions as a task of one class an item writes them; one item has none."""
    labels = [i % 3 for i in range(ITEMS)]
    predicted = [
        label if rng.random() < accuracy else (label + 1 + rng.integers(2)) % 3 for label in labels
    ]
    order = [[p, (p + 1) % 3, (p + 2) % 3] for p in predicted]
    first = 0.4 + 0.6 * rng.random(ITEMS)
    values = [first.tolist(), (0.7 * (1 - first)).tolist(), (0.3 * (1 - first)).tolist()]
    predicted[5] = -1
    columns = {
        "label": Named(CLASSES, labels),
        "prediction": Named(CLASSES, predicted),
        "probabilities": Ranked(CLASSES, list(zip(*order, strict=True)), values),
        "text": TEXTS,
    }
    predictions.write(folder / "test.csv", [f"item{i}" for i in range(ITEMS)], columns)


def tagged(rng):
    """True and predicted tags of some sentences, as places among TAGS; ill-formed ones too."""
    target = [rng.integers(0, 5, 6).tolist() for _ in range(20)]
    predicted = [
        [tag if rng.random() < 0.7 else int(rng.integers(5)) for tag in row] for row in target
    ]
    return target, predicted


def named(rows):
    return [[TAGS[tag] for tag in row] for row in rows]


def write(folder, rng, accuracy):
    classes(folder, rng, accuracy)
    target, predicted = (named(rows) for rows in tagged(rng))
    words = [[f"w{i}" for i in range(len(row))] for row in target]
    text = columns.text(zip(words, target, predicted, strict=True))
    predictions.write_text(folder / "test.conll", text)
    written = {"greedy": synthetic.EVIL, "temperature 0.8": f"drawn by {folder.parent.name}"}
    sample = {"id": "a", "prompt": "if", "continuations": written}
    found = [sample, {**sample, "prompt": "else\n  that"}]
    predictions.write_text(folder / "samples.json", json.dumps(found))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of runs, the study as read, and its page."""
    runs_dir = tmp_path_factory.mktemp("texts")
    runs = [
        PlannedRun(run=f"{arm}-s{seed}", arm=arm, seed=seed, overrides=())
        for arm in ACCURACIES
        for seed in range(SEEDS)
    ]
    spec = synthetic.manifest("texts", runs, tuple(ACCURACIES))
    folder = synthetic.write_study(
        runs_dir, spec, lambda run: synthetic.Made(accuracy=ACCURACIES[run.arm])
    )
    for run in runs:
        write(
            runs_dir / run.run / "predictions",
            synthetic.generator(run.run, "predictions"),
            ACCURACIES[run.arm],
        )
    return runs_dir, data.read(folder, runs_dir=runs_dir), build(folder, runs_dir=runs_dir)


def column(table, key):
    place = [item.key for item in table.columns].index(key)
    return [row[place] for row in table.rows]


def test_errors_are_the_surest_of_the_best_arms_files(made):
    runs_dir, study, _ = made
    wrong = {}
    for seed in range(SEEDS):
        path = runs_dir / f"better-s{seed}" / "predictions" / "test.csv"
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["prediction"] not in ("", row["label"]):
                    sure = max(json.loads(row["probabilities"]).values())
                    wrong.setdefault(row["id"], []).append((sure, row["prediction"]))
    expected = sorted(wrong, key=lambda item: -max(wrong[item])[0])
    assert len(expected) > 5
    (table,) = errors.tables(study)
    shown = expected[: errors.MOST_ERRORS]
    assert column(table, "item") == shown
    assert column(table, "confidence") == [max(wrong[item])[0] for item in shown]
    assert column(table, "prediction") == [max(wrong[item])[1] for item in shown]
    assert column(table, "wrong") == [(len(wrong[item]), SEEDS) for item in shown]
    assert column(table, "text") == [TEXTS[int(item[4:])] for item in shown]
    assert column(table, "label") == [CLASSES[int(item[4:]) % 3] for item in shown]
    assert "item5" not in expected
    assert f"of {len(expected)} items that a run of better got wrong" in table.note
    assert "n = 3 runs" in table.note


def test_entities_are_counted_as_the_task_and_seqeval_count_them(made):
    runs_dir, study, _ = made
    task = token_classification(Labels("tags", TAGS))
    (table,) = entities.tables(study)
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert list(rows) == [
        (arm, kind) for arm in ACCURACIES for kind in ("loc", "per", "micro avg", "macro avg")
    ]
    for arm in ACCURACIES:
        reports, micro = [], []
        for seed in range(SEEDS):
            path = runs_dir / f"{arm}-s{seed}" / "predictions" / "test.conll"
            truth, mine = entities.read_tags(path)
            places = [[[TAGS.index(tag) for tag in row] for row in tags] for tags in (truth, mine)]
            collected = {
                **dict(zip(("target", "predicted"), map(torch.tensor, places), strict=True)),
                "loss": torch.zeros(len(truth)),
                "weight": torch.ones(len(truth)),
            }
            reports.append(task.report(collected)["per_class"])
            micro.append(f1_score(truth, mine))
        for place, kind in enumerate(("loc", "per")):
            for figure, shown in zip(("precision", "recall", "f1"), rows[arm, kind], strict=False):
                values = [report[place][figure] for report in reports]
                low, high = reference.t.interval(
                    0.95, SEEDS - 1, loc=np.mean(values), scale=reference.sem(values)
                )
                expected = pytest.approx((np.mean(values), low, high))
                assert (shown.value, shown.low, shown.high) == expected
            support = [report[place]["support"] for report in reports]
            assert rows[arm, kind][3] == pytest.approx(sum(support) / SEEDS)
        assert rows[arm, "micro avg"][2].value == pytest.approx(sum(micro) / SEEDS)


def test_samples_are_those_of_each_arms_first_run(made):
    _, study, _ = made
    (table,) = samples.tables(study)
    assert column(table, "arm") == ["worse", "worse", "better", "better"]
    assert column(table, "prompt") == ["if", "else\n  that"] * 2
    assert column(table, "greedy") == [synthetic.EVIL] * 4
    drawn = column(table, "temperature 0.8")
    assert drawn == ["drawn by worse-s0"] * 2 + ["drawn by better-s0"] * 2


def test_texts_are_escaped_on_the_page_and_whole_in_the_tables(made):
    _, study, built = made
    page = built.html.read_text(encoding="utf-8")
    assert synthetic.EVIL not in page
    part = page[page.index('<section id="predictions"') : page.index('<section id="cost"')]
    rows = len(errors.tables(study)[0].rows)
    shown = [line for line in part.split("<td") if "&lt;script&gt;alert(1)&lt;/script&gt;" in line]
    assert len(shown) == rows + 4
    names = {path.name for path in built.tables}
    assert {"errors.csv", "samples.csv", "entities.csv", "entities.md", "entities.tex"} <= names
    assert "errors.tex" not in names
    with open(study.folder / "tables" / "errors.csv", encoding="utf-8", newline="") as file:
        assert {row["text"] for row in csv.DictReader(file)} <= set(TEXTS)


def test_files_without_texts_show_what_they_have(made, tmp_path):
    _, study, _ = made
    for run in study.manifest.runs:
        folder = tmp_path / run.run / "predictions"
        folder.mkdir(parents=True)
        rows = predictions.read(study.runs_dir / run.run / "predictions" / "test.csv")
        kept = ("label", "prediction", "probabilities")
        columns = {key: [row[key] or None for row in rows] for key in kept}
        predictions.write(folder / "test.csv", [row["id"] for row in rows], columns)
    moved = replace(study, runs_dir=tmp_path, cache={})
    (table,) = errors.tables(moved)
    keys = ["item", "label", "prediction", "confidence", "wrong"]
    assert [item.key for item in table.columns] == keys
    assert column(table, "item") == column(errors.tables(study)[0], "item")


def test_tags_are_read_as_they_were_written(tmp_path):
    sentences = [
        (["a b", "#", "-DOCSTART-"], ["O", "B-x", "I-x"], ["B-x", "O", "O"]),
        (["\u00a0"], ["B-in"], ["O"]),
    ]
    predictions.write_text(tmp_path / "test.conll", columns.text(sentences))
    truth, mine = entities.read_tags(tmp_path / "test.conll")
    assert truth == [target for _, target, _ in sentences]
    assert mine == [predicted for _, _, predicted in sentences]
    assert entities.read_tags(tmp_path / "none.conll") == ([], [])


def test_a_study_without_predictions_has_no_such_part(studies):
    runs_dir, folder, built = studies["leave_one_out"]
    study = data.read(folder, runs_dir=runs_dir)
    assert errors.tables(study) == []
    assert entities.tables(study) == []
    assert samples.tables(study) == []
    assert 'id="predictions"' not in built.html.read_text(encoding="utf-8")
