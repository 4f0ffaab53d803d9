"""Predictions files are, byte by byte, what the csv module writes."""

import csv
import json
import math
import random

import pytest

from tlx.data.text import columns
from tlx.results import predictions

TRICKY = [
    "plain",
    "",
    "a,b",
    'say "x"',
    "two\nlines",
    "\rreturn",
    " space ",
    "Ωé",
    "'",
    ";\t",
    "0\0",
]
ROWS = {
    "classes": [
        {
            "label": name,
            "prediction": other,
            "probabilities": {other or "none": 1 / 3, name: 1e-17, "third": 0.0, "d": 1e22},
        }
        for name, other in zip(TRICKY, [*TRICKY[1:], None], strict=True)
    ],
    "numbers": [{"target": 0.1, "n": 3, "sure": True}, {"target": -1e-9, "n": 0, "sure": False}],
    "not_finite": [{"p": {"a": math.nan, "b": 0.5}}, {"p": {"a": math.inf}}, {"p": {}}],
    "nested": [{"tags": ["B-a", 'I-"b"'], "each": {"x": [1, 2.5]}, "i": {"x": 1}}, {"tags": []}],
    "one_column": [{"only": None}, {"only": "x"}],
}


def reference(path, ids, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["id", *rows[0]])
        writer.writeheader()
        for identity, row in zip(ids, rows, strict=True):
            plain = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
            writer.writerow({"id": identity, **plain})


@pytest.mark.parametrize("name", [name for name in ROWS if name != "nested"])
def test_bytes_are_those_of_the_csv_module(name, tmp_path):
    rows = ROWS[name]
    ids = (TRICKY * 2)[: len(rows)] if name != "numbers" else range(len(rows))
    reference(tmp_path / "theirs.csv", ids, rows)
    predictions.write(tmp_path / "new" / "ours.csv", ids, rows)
    assert (tmp_path / "new" / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_lists_are_json(tmp_path):
    rows = [ROWS["nested"][0]] * 2
    reference(tmp_path / "theirs.csv", "ab", rows)
    predictions.write(tmp_path / "ours.csv", "ab", rows)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_a_missing_row_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        predictions.write(tmp_path / "a.csv", ["a", "b"], [{"x": 1}])


def ranked(shown, items=200, *, broken=False):
    generator = random.Random(shown)
    names = [name for name in TRICKY if name]
    values = [[generator.random() ** 9 for _ in range(items)] for _ in range(shown)]
    if broken:
        values[0][3], values[-1][5], values[0][7] = math.nan, math.inf, -math.inf
    classes = [[generator.randrange(len(names)) for _ in range(items)]]
    for step in range(1, shown):
        classes.append([(c + step) % len(names) for c in classes[0]])
    return predictions.Ranked(
        names=names,
        labels=[generator.randrange(len(names)) for _ in range(items)],
        predicted=[generator.randrange(-1, len(names)) for _ in range(items)],
        classes=classes,
        values=values,
    )


def as_rows(found):
    for item, (label, predicted) in enumerate(zip(found.labels, found.predicted, strict=True)):
        columns = zip(found.classes, found.values, strict=True)
        yield {
            "label": found.names[label],
            "prediction": found.names[predicted] if predicted >= 0 else None,
            "probabilities": {found.names[c[item]]: v[item] for c, v in columns},
        }


@pytest.mark.parametrize(("shown", "broken"), [(1, False), (5, False), (10, True)])
def test_ranked_classes_are_written_as_rows_would_be(shown, broken, tmp_path):
    found = ranked(shown, broken=broken)
    ids = [f"{TRICKY[i % len(TRICKY)]}{i}" for i in range(200)]
    reference(tmp_path / "theirs.csv", ids, list(as_rows(found)))
    predictions.write_ranked(tmp_path / "ours.csv", ids, found)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    with pytest.raises(ValueError, match="longer"):
        predictions.write_ranked(tmp_path / "ours.csv", ids[1:], found)


def test_texts_are_the_last_column_and_are_read_again(tmp_path):
    found = ranked(5)
    ids = list(map(str, range(200)))
    texts = [TRICKY[i % len(TRICKY)] for i in range(200)]
    rows = [{**row, "text": text} for row, text in zip(as_rows(found), texts, strict=True)]
    reference(tmp_path / "theirs.csv", ids, rows)
    predictions.write_ranked(tmp_path / "ours.csv", ids, found, texts=texts)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    read = predictions.read(tmp_path / "ours.csv")
    assert [row["text"] for row in read] == texts
    assert [json.loads(row["probabilities"]) for row in read] == [r["probabilities"] for r in rows]
    assert predictions.read(tmp_path / "none.csv") == []
    with pytest.raises(ValueError, match="slice"):
        predictions.write_ranked(tmp_path / "ours.csv", ids, found, texts=texts[1:])


def test_long_texts_are_cut_and_a_second_one_stays_in_sight():
    cut = predictions.excerpt("word " * 1_000_000)
    assert len(cut) == predictions.LONGEST_TEXT
    assert cut.endswith("…")
    first, second = predictions.excerpt(("x" * 999, "the second")).split(" ‖ ")
    assert len(first) == predictions.LONGEST_TEXT // 2
    assert second == "the second"


def test_tags_are_read_as_they_were_written(tmp_path):
    sentences = [
        (["a b", "#", "-DOCSTART-"], ["O", "B-x", "I-x"], ["B-x", "O", "O"]),
        (["\u00a0"], ["B-in"], ["O"]),
    ]
    columns.write(tmp_path / "test.conll", sentences)
    truth, mine = predictions.read_tags(tmp_path / "test.conll")
    assert truth == [target for _, target, _ in sentences]
    assert mine == [predicted for _, _, predicted in sentences]
    assert predictions.read_tags(tmp_path / "none.conll") == ([], [])
