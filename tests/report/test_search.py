import math
from itertools import pairwise

import pytest

from report import synthetic
from tlx.report import data, plot_search


def axis(values):
    return plot_search._axis("name", values)


@pytest.mark.parametrize("values", [[0.9, 0.5], [1, 2, 4], [3.0], [0.0, 0.01, 0.1], [-1, None, 5]])
def test_few_numbers_are_an_axis_of_numbers(values):
    there = [value for value in values if value is not None]
    low, high = min(there), max(there)
    for value, place in zip(values, axis(values).places, strict=True):
        if value is None:
            assert place is None
        elif low == high:
            assert place == 0.5
        else:
            assert place == pytest.approx((value - low) / (high - low))


def test_decades_are_logarithmic():
    found = axis([1e-4, 1e-3, 1e-2])
    assert found.places == pytest.approx([0, 0.5, 1])
    assert [text for _, text in sorted(found.ticks)] == ["0.0001", "0.001", "0.01"]


def test_ticks_have_four_digits_and_room():
    values = [0.91234567, 0.91234999, 0.95123456, 0.99999999]
    ticks = axis(values).ticks
    assert all(len(text.replace(".", "").lstrip("0")) <= 4 for _, text in ticks)
    heights = sorted(height for height, _ in ticks)
    assert (heights[0], heights[-1]) == (0, 1)
    assert min(b - a for a, b in pairwise(heights)) >= plot_search.CLOSEST


@pytest.mark.parametrize("values", [["a", "b"], [True, False], ["a", 1], [1.0, math.nan]])
def test_other_values_are_levels(values):
    assert sorted(axis(values).places) == [0.25, 0.75]


def test_a_small_search_draws_its_numbers_as_numbers(tmp_path):
    folder = synthetic.search(tmp_path, trials=4, seeds=1)
    figures, _ = plot_search.figures(data.read(folder, runs_dir=tmp_path))
    parallel = next(figure for figure in figures if figure.name == "parallel")
    ticks = [note for note in parallel.variants[0].layout["annotations"] if note["x"] == 0]
    assert {0, 1} <= {note["y"] for note in ticks}
    assert "n = 4 finished trials" in parallel.caption
