"""Predictions files are, byte by byte, what the csv module writes."""

import csv
import json
import math
import timeit

import pytest

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


def test_it_is_faster_than_the_csv_module(tmp_path):
    rows = [
        {"label": "a", "p": {str(c): 1 / (c + row + 1) for c in range(10)}} for row in range(500)
    ]
    ids = [f"item{row}" for row in range(500)]

    def least(write):
        return min(timeit.repeat(lambda: write(tmp_path / "a.csv", ids, rows), number=1, repeat=7))

    assert least(predictions.write) < least(reference)
