"""Ranks over datasets equal scipy's and Demšar's published figures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from results.studies import made_manifest, made_record
from tlx.results.manifest import PlannedRun
from tlx.results.ranks import average_ranks, cliques, critical_difference, friedman, scores_by

# Demšar 2006, table 6: AUC of C4.5, and with m, cf and both tuned, on 14 datasets
DEMSAR = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970
"""
ARMS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
SCORES = {
    f"dataset {place}": dict(zip(ARMS, map(float, line.split()), strict=True))
    for place, line in enumerate(DEMSAR.strip().splitlines())
}


def test_demsar_s_example():
    ranks = average_ranks(SCORES)
    assert {arm: round(rank, 3) for arm, rank in ranks.items()} == {
        "C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143,
    }  # fmt: skip
    assert list(ranks) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    # the paper's χ² = 9.28 and F = 3.69 leave ties uncorrected
    n, k = 14, 4
    plain = 12 * n / (k * (k + 1)) * (sum(r**2 for r in ranks.values()) - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    found = friedman(SCORES)
    assert found.statistic >= plain
    assert found.f > 3.69
    assert found.p_f < 0.05
    assert (found.n, found.arms, found.left_out) == (14, 4, ())
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=0.005)
    assert cliques(ranks, 1.25) == [tuple(ranks)]
    # "C4.5 is significantly worse than C4.5+m and C4.5+m+cf" at 0.10
    assert cliques(ranks, 1.12) == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_are_those_published(alpha, published):
    """Demšar 2006, table 5(a), for 2 to 10 arms."""
    for k, q in enumerate(published, start=2):
        n = 7
        found = critical_difference(k, n, alpha=alpha)
        assert found / math.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(q, abs=0.0015)
        range_ = reference.studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
        assert found == pytest.approx(range_ * math.sqrt(k * (k + 1) / (6 * n)))


@settings(deadline=None, max_examples=50)
@given(st.integers(3, 6), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from((1, 12)))
def test_friedman_equals_scipy(k, n, seed, digits):
    table = np.random.default_rng(seed).random((n, k)).round(digits)
    scores = {f"d{row}": {f"a{arm}": table[row, arm] for arm in range(k)} for row in range(n)}
    expected = reference.friedmanchisquare(*table.T)
    for mode in ("max", "min"):
        found = friedman(scores, mode=mode)
        assert (found.statistic, found.p) == pytest.approx(tuple(expected))
    total = sum(average_ranks(scores).values())
    assert total == pytest.approx(k * (k + 1) / 2)


def test_perfect_agreement_and_none():
    agree = {f"d{place}": {"a": 3.0, "b": 2.0, "c": 1.0} for place in range(4)}
    found = friedman(agree)
    assert (found.statistic, found.f, found.p_f) == (8, math.inf, 0)
    equal = friedman({name: dict.fromkeys(row, 1.0) for name, row in agree.items()})
    assert (equal.statistic, equal.p) == (0, 1)


def test_the_best_ranks_first():
    scores = {"x": {"a": 1.0, "b": 2.0}, "y": {"a": 1.0, "b": 2.0}}
    assert average_ranks(scores) == {"b": 1.0, "a": 2.0}
    assert average_ranks(scores, mode="min") == {"a": 1.0, "b": 2.0}


def test_datasets_that_lack_an_arm_are_left_out():
    scores = {
        **SCORES,
        "lacks": {"C4.5": 1.0},
        "failed": {**SCORES["dataset 0"], "C4.5": math.nan},
    }
    found = friedman(scores)
    assert found.left_out == ("lacks", "failed")
    assert found.statistic == friedman(SCORES).statistic
    assert average_ranks(scores) == average_ranks(SCORES)


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="2 arms on 2 whole datasets"):
        friedman({"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 2}})
    with pytest.raises(ValueError, match="none of 1 datasets"):
        average_ranks({"x": {"a": math.nan}})
    with pytest.raises(ValueError, match="mode='best'"):
        average_ranks(SCORES, mode="best")
    for arguments in ((1, 5), (3, 0)):
        with pytest.raises(ValueError, match="n_arms"):
            critical_difference(*arguments)
    with pytest.raises(ValueError, match="alpha=5"):
        critical_difference(3, 5, alpha=5)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.floats(1, 8), max_size=8),
    st.floats(0, 4),
)
def test_cliques_are_the_largest_groups_without_a_significant_pair(ranks, difference):
    found = cliques(ranks, difference)
    sets = [set(group) for group in found]
    for group in found:
        assert len(group) > 1
        assert max(ranks[a] for a in group) - min(ranks[a] for a in group) <= difference
        assert not any(set(group) < other for other in sets)
    for a in ranks:
        for b in ranks:
            together = any({a, b} <= group for group in sets)
            if a != b:
                assert together == (abs(ranks[a] - ranks[b]) <= difference)


def test_scores_come_out_of_a_study():
    runs, records = [], {}
    for dataset, offset in (("digits", 0.0), ("glyphs", 0.5)):
        for labels in (1, 10):
            for seed in range(2):
                run = f"{dataset}-{labels}-{seed}"
                factors = {"dataset": dataset, "freeze": "full", "labels": labels}
                runs.append(PlannedRun(run=run, arm=run[:-2], seed=seed, factors=factors))
                records[run] = made_record(run, {"test/accuracy": offset + labels / 100 + seed / 4})
    del records["glyphs-10-1"]
    manifest = made_manifest(arms=tuple(r.arm for r in runs), seeds=(0, 1), runs=tuple(runs))
    found = scores_by(manifest, records, metric="test/accuracy")
    assert found["digits"] == pytest.approx(
        {"freeze=full, labels=1": 0.135, "freeze=full, labels=10": 0.225}
    )
    assert math.isnan(found["glyphs"]["freeze=full, labels=10"])
