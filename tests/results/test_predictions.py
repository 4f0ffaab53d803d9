"""Predictions files are, byte by byte, what the csv module writes."""

import csv
import json
import math
import random

import pytest

from tlx.base.cells import Named, Ranked, rows
from tlx.data.text.inputs import LONGEST_EXCERPT, excerpt
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
    "nested": [{"tags": ["B-a", 'I-"b"'], "each": {"x": [1, 2.5]}, "i": {"x": 1}}] * 2,
    "one_column": [{"only": None}, {"only": "x"}],
}


def reference(path, ids, items):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["id", *items[0]])
        writer.writeheader()
        for identity, row in zip(ids, items, strict=True):
            plain = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
            writer.writerow({"id": identity, **plain})


def columns_of(items):
    return {key: [item[key] for item in items] for key in items[0]}


@pytest.mark.parametrize("name", ROWS)
def test_bytes_are_those_of_the_csv_module(name, tmp_path):
    items = ROWS[name]
    ids = (TRICKY * 2)[: len(items)] if name != "numbers" else range(len(items))
    reference(tmp_path / "theirs.csv", ids, items)
    predictions.write(tmp_path / "new" / "ours.csv", ids, columns_of(items))
    assert (tmp_path / "new" / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_a_missing_value_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        predictions.write(tmp_path / "a.csv", ["a", "b"], {"x": [1]})


def test_no_items_leave_an_empty_file(tmp_path):
    predictions.write(tmp_path / "a.csv", [], {"x": []})
    assert (tmp_path / "a.csv").read_bytes() == b""
    assert predictions.read(tmp_path / "a.csv") == []


def ranked(shown, items=200, *, broken=False):
    generator = random.Random(shown)
    names = [name for name in TRICKY if name]
    values = [[generator.random() ** 9 for _ in range(items)] for _ in range(shown)]
    if broken:
        values[0][3], values[-1][5], values[0][7] = math.nan, math.inf, -math.inf
    classes = [[generator.randrange(len(names)) for _ in range(items)]]
    for step in range(1, shown):
        classes.append([(c + step) % len(names) for c in classes[0]])
    return {
        "label": Named(names, [generator.randrange(len(names)) for _ in range(items)]),
        "prediction": Named(names, [generator.randrange(-1, len(names)) for _ in range(items)]),
        "probabilities": Ranked(names, classes, values),
    }


@pytest.mark.parametrize(("shown", "broken"), [(1, False), (5, False), (10, True)])
def test_names_and_ranks_are_written_as_their_values_would_be(shown, broken, tmp_path):
    columns = ranked(shown, broken=broken)
    ids = [f"{TRICKY[i % len(TRICKY)]}{i}" for i in range(200)]
    assert None in list(columns["prediction"])
    reference(tmp_path / "theirs.csv", ids, rows(columns))
    predictions.write(tmp_path / "ours.csv", ids, columns)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    with pytest.raises(ValueError, match="longer"):
        predictions.write(tmp_path / "ours.csv", ids[1:], columns)


def test_texts_are_read_again(tmp_path):
    texts = [TRICKY[i % len(TRICKY)] for i in range(200)]
    columns = {**ranked(5), "text": texts}
    predictions.write(tmp_path / "ours.csv", map(str, range(200)), columns)
    read = predictions.read(tmp_path / "ours.csv")
    assert [row["text"] for row in read] == texts
    assert [json.loads(row["probabilities"]) for row in read] == list(columns["probabilities"])
    assert predictions.read(tmp_path / "none.csv") == []


def test_long_texts_are_cut_and_a_second_one_stays_in_sight():
    cut = excerpt("word " * 1_000_000)
    assert len(cut) == LONGEST_EXCERPT
    assert cut.endswith("…")
    first, second = excerpt(("x" * 999, "the second")).split(" ‖ ")
    assert len(first) == LONGEST_EXCERPT // 2
    assert second == "the second"
