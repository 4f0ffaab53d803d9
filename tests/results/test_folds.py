"""Figures over folds: what is averaged, and an interval that does not take folds for seeds."""

import math

import numpy as np
import pytest
from scipy import stats as theirs

from results.studies import made_manifest, made_record
from tlx.results import folds
from tlx.results.claims import judge
from tlx.results.manifest import PlannedRun
from tlx.results.table import values

FIGURES = {  # arm -> seed -> one a fold
    "full": [[0.9, 0.7, 0.8], [0.8, 0.6, 0.9]],
    "probe": [[0.7, 0.6, 0.7], [0.6, 0.5, 0.6]],
}


def study(figures=FIGURES, names=(0, 1, 2), **changes):
    runs, records = [], {}
    for arm, seeds in figures.items():
        for seed, row in enumerate(seeds):
            for fold, value in zip(names, row, strict=True):
                run = f"{arm}-{seed}-{fold}"
                runs.append(PlannedRun(run=run, arm=arm, seed=seed, fold=fold))
                if value is not None:
                    records[run] = made_record(run, {"test/accuracy": value}, seed=seed)
    seeds = tuple(range(len(next(iter(figures.values())))))
    given = {"baseline": "probe", "folds": tuple(names), "arms": tuple(figures), **changes}
    return made_manifest(seeds=seeds, runs=tuple(runs), **given), records


def test_a_seeds_figure_is_its_mean_over_folds():
    found = values(*study(), metric="test/accuracy")
    assert found["full"] == pytest.approx([0.8, 2.3 / 3])
    assert found["probe"] == pytest.approx([2 / 3, 1.7 / 3])
    lacking = {**FIGURES, "full": [[0.9, None, 0.8], [0.8, 0.6, 0.9]]}
    first, second = values(*study(lacking), metric="test/accuracy")["full"]
    assert math.isnan(first)
    assert second == pytest.approx(2.3 / 3)


def test_a_claim_has_as_many_pairs_as_seeds_and_waits_for_every_fold():
    manifest, records = study(claims=("full > probe",))
    (verdict,) = judge(manifest, records)
    assert verdict.n == 2
    assert verdict.difference == pytest.approx((0.8 - 2 / 3 + 0.2) / 2)
    del records["full-1-2"]
    (verdict,) = judge(manifest, records)
    assert verdict.status == "undecided"
    assert verdict.waiting == 1


def test_two_runs_of_one_seed_and_fold_are_refused():
    manifest, records = study(names=(0, 1, 1))
    with pytest.raises(ValueError, match="one run of each"):
        values(manifest, records, metric="test/accuracy")


def test_figures_by_fold_and_the_difference_to_the_baseline():
    full, probe = folds.figures(*study(names=("ann", "bob", "eve")), metric="test/accuracy")
    assert full.by_fold == pytest.approx({"ann": 0.85, "bob": 0.65, "eve": 0.85})
    assert full.interval.value == pytest.approx(2.35 / 3)
    assert full.difference.value == pytest.approx(0.5 / 3)
    assert probe.difference is None
    lacking = {**FIGURES, "full": [[0.9, None, 0.8], [0.8, 0.6, 0.9]]}
    full, _ = folds.figures(*study(lacking), metric="test/accuracy")
    assert math.isnan(full.interval.value)  # some items were not tested
    assert math.isnan(full.p)
    assert folds.figures(*study(folds=()), metric="test/accuracy") == []


@pytest.mark.parametrize("count", [2, 5, 10])
def test_the_interval_is_that_of_nadeau_and_bengio(count):
    figures = np.random.default_rng(count).normal(0.1, 0.1, count)
    found, p = folds.corrected(list(figures))
    test, train = 1 / count, 1 - 1 / count
    error = math.sqrt((1 / count + test / train) * figures.var(ddof=1))
    low, high = theirs.t.interval(0.95, count - 1, figures.mean(), error)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert p == pytest.approx(2 * theirs.t.sf(abs(figures.mean()) / error, count - 1))
    assert (p < 0.05) == (not found.low <= 0 <= found.high)


def test_equal_figures_and_single_folds_have_no_interval():
    for few in ([0.5], [0.5, 0.5, 0.5]):
        found, p = folds.corrected(few)
        assert found.value == 0.5
        assert math.isnan(found.low)
        assert math.isnan(p)


def differences(rng, *, count=10, items=60):
    """Errors of two learners that are equally good, fold by fold: nearest neighbours by halves."""
    inputs = rng.normal(size=(items, 8))
    target = inputs.sum(axis=1) + rng.normal(size=items) * 2 > 0
    part = rng.permutation(items) % count
    losses = np.zeros((2, count))
    for fold in range(count):
        train = part != fold
        for which, columns in enumerate((slice(0, 4), slice(4, 8))):
            gaps = inputs[~train, None, columns] - inputs[None, train, columns]
            nearest = np.square(gaps).sum(axis=-1).argmin(axis=1)
            losses[which, fold] = (target[train][nearest] != target[~train]).mean()
    return losses[0] - losses[1]


def test_equal_learners_are_told_apart_too_often_only_by_plain_t():
    rng = np.random.default_rng(0)
    drawn = [differences(rng) for _ in range(400)]
    plain = np.mean([theirs.ttest_1samp(each, 0).pvalue < 0.05 for each in drawn])
    ours = np.mean([folds.corrected(list(each))[1] < 0.05 for each in drawn])
    assert plain > 0.08
    assert ours <= 0.05
