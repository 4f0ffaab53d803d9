import numpy as np
import pytest
from scipy import stats as reference

from tlx.report import curves


def curve(steps, values):
    return np.asarray(steps, dtype=float), np.asarray(values, dtype=float)


def test_same_steps_are_kept_and_intervals_equal_scipy():
    rng = np.random.default_rng(0)
    steps, values = np.arange(1, 21), rng.normal(size=(5, 20))
    found = curves.over_seeds([curve(steps, row) for row in values])
    x, mean, low, high, n = found
    assert np.array_equal(x, steps)
    assert n == 5
    ends = reference.t.interval(0.95, 4, loc=values.mean(0), scale=reference.sem(values))
    assert mean == pytest.approx(values.mean(0))
    assert low == pytest.approx(ends[0])
    assert high == pytest.approx(ends[1])


def test_long_curves_are_thinned_without_a_shift():
    steps = np.arange(1, 5001)
    found = curves.over_seeds([curve(steps, 2 * steps), curve(steps[::2], 2 * steps[::2])])
    x, mean, _, _, n = found
    assert len(x) == curves.MOST_POINTS
    assert n == 2
    assert mean == pytest.approx(2 * x, rel=0.03, abs=3)


def test_curves_end_where_the_shortest_does():
    x, *_ = curves.over_seeds([curve(range(100), range(100)), curve(range(50), range(50))])
    assert x[-1] <= 49


def test_no_curve_gives_none(tmp_path):
    assert curves.over_seeds([]) is None
    assert curves.over_seeds([curve([], [])]) is None
    read = curves.read(tmp_path / "nothing.csv", ["val/loss"])
    assert not len(read["val/loss"][0])


def test_sparse_rows_and_nan_are_skipped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/loss\n1,0.5,\n2,,0.25\n3,,nan\n4,,0.125\nrubbish,,1\n")
    steps, values = curves.read(path, ["val/loss"])["val/loss"]
    assert steps.tolist() == [2, 4]
    assert values.tolist() == [0.25, 0.125]
