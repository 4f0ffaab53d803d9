"""Effects of factors: planted ones are found, and seeds are the unit."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests

from results.studies import made_manifest, made_record
from tlx.results.effects import main_effects
from tlx.results.manifest import PlannedRun, read, write

FACTORS = {"freeze": ("full", "lp_ft"), "labels": (1, 10, 100), "reg": ([], ["l2_sp"])}
SEEDS = (0, 1, 2, 3, 4)


def made_grid(value, *, factors=FACTORS, seeds=SEEDS, keep=lambda cell: True):
    """A full grid; value(cell, seed) is the figure, None for a run that is missing."""
    runs, records = [], {}
    for levels in itertools.product(*factors.values()):
        cell = dict(zip(factors, levels, strict=True))
        if not keep(cell):
            continue
        for seed in seeds:
            run = f"{levels}-{seed}"
            runs.append(PlannedRun(run=run, arm=str(levels), seed=seed, factors=cell))
            found = value(cell, seed)
            if found is not None:
                records[run] = made_record(run, {"test/accuracy": found}, seed=seed)
    arms = tuple(dict.fromkeys(run.arm for run in runs))
    return made_manifest(arms=arms, seeds=seeds, factors=factors, runs=tuple(runs)), records


def noisy(cell, seed):
    place = [levels.index(cell[key]) for key, levels in FACTORS.items()]
    noise = np.random.default_rng([*place, seed]).normal(0, 0.01)
    return 0.5 + 0.1 * place[0] + 0.05 * place[1] + 0.02 * place[2] + seed / 100 + noise


def by(effects):
    return {(effect.factor, str(effect.level)): effect for effect in effects}


def test_effects_equal_those_of_plain_arrays():
    found = by(main_effects(*made_grid(noisy), metric="test/accuracy"))
    assert list(found) == [(key, str(level)) for key, levels in FACTORS.items() for level in levels]
    grid = np.array(
        [
            [noisy(dict(zip(FACTORS, levels, strict=True)), seed) for seed in SEEDS]
            for levels in itertools.product(*FACTORS.values())
        ]
    ).reshape(2, 3, 2, 5)
    for axis, (factor, levels) in enumerate(FACTORS.items()):
        of_level = np.moveaxis(grid, axis, 0).reshape(len(levels), -1, 5)
        for place, level in enumerate(levels):
            effect = found[factor, str(level)]
            assert effect.mean == pytest.approx(of_level[place].mean())
            assert (effect.cells, effect.runs, effect.planned) == (12 // len(levels),) + 2 * (
                60 // len(levels),
            )
            assert effect.baseline == levels[0]
            if place == 0:
                assert math.isnan(effect.difference)
                assert effect.n == effect.pairs == 0
                continue
            seeds = (of_level[place] - of_level[0]).mean(axis=0)
            expected = reference.ttest_1samp(seeds, 0)
            interval = expected.confidence_interval(0.95)
            assert effect.difference == pytest.approx(seeds.mean())
            assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
            assert effect.p == pytest.approx(expected.pvalue)
            assert (effect.n, effect.pairs) == (5, 60 // len(levels))


def test_effects_are_corrected_together():
    effects = main_effects(*made_grid(noisy), metric="test/accuracy")
    tested = [effect for effect in effects if not math.isnan(effect.p)]
    assert len(tested) == 4
    expected = multipletests([effect.p for effect in tested], method="holm")[1]
    assert [effect.p_holm for effect in tested] == pytest.approx(expected)


def test_cells_are_no_independent_evidence():
    """Every cell repeats the same five differences: more cells must not narrow the interval."""

    def repeated(cell, seed):
        return [0.0, 0.03, 0.01, 0.05, 0.02][seed] * (cell["a"] == 1)

    widths = []
    for others in (1, 20):
        factors = {"a": (0, 1), "b": tuple(range(others))}
        effect = main_effects(*made_grid(repeated, factors=factors), metric="test/accuracy")[1]
        widths.append(effect.high - effect.low)
        assert effect.n == 5
    assert widths[0] == pytest.approx(widths[1])


def test_a_missing_run_takes_its_pair_along_and_is_counted():
    def holed(cell, seed):
        gone = cell == {"freeze": "lp_ft", "labels": 1, "reg": []} and seed == 2
        return None if gone else noisy(cell, seed)

    whole = by(main_effects(*made_grid(noisy), metric="test/accuracy"))["freeze", "lp_ft"]
    effect = by(main_effects(*made_grid(holed), metric="test/accuracy"))["freeze", "lp_ft"]
    assert (effect.n, effect.pairs, effect.runs, effect.planned) == (5, 29, 29, 30)
    assert effect.difference != whole.difference
    assert effect.difference == pytest.approx(whole.difference, abs=0.01)
    # a mean of cell means: the cell that lacks a seed does not lose weight
    assert effect.mean == pytest.approx(whole.mean, abs=0.002)


def test_a_seed_without_a_pair_lowers_n():
    def holed(cell, seed):
        return None if seed == 4 and cell["freeze"] == "lp_ft" else noisy(cell, seed)

    effect = by(main_effects(*made_grid(holed), metric="test/accuracy"))["freeze", "lp_ft"]
    assert (effect.n, effect.pairs) == (4, 24)


def test_a_cell_without_a_figure_leaves_no_mean():
    def holed(cell, seed):
        return None if cell == {"freeze": "lp_ft", "labels": 1, "reg": []} else noisy(cell, seed)

    effect = by(main_effects(*made_grid(holed), metric="test/accuracy"))["freeze", "lp_ft"]
    assert math.isnan(effect.mean)
    assert (effect.n, effect.pairs, effect.runs, effect.planned) == (5, 25, 25, 30)


def test_one_at_a_time_compares_at_the_base():
    base = {key: levels[0] for key, levels in FACTORS.items()}

    def keep(cell):
        return sum(cell[key] != base[key] for key in cell) <= 1

    effects = by(main_effects(*made_grid(noisy, keep=keep), metric="test/accuracy"))
    for (factor, _), effect in effects.items():
        assert effect.cells == 1
        changed = {**base, factor: effect.level}
        expected = [noisy(changed, seed) - noisy(base, seed) for seed in SEEDS]
        if effect.level != base[factor]:
            assert effect.difference == pytest.approx(np.mean(expected))
        assert effect.mean == pytest.approx(np.mean([noisy(changed, seed) for seed in SEEDS]))


def test_zipped_values_have_no_effects_of_their_own():
    factors = {"a": (0, 1), "b": (0, 1)}
    study = made_grid(lambda *_: 0.5, factors=factors, keep=lambda cell: cell["a"] == cell["b"])
    assert main_effects(*study, metric="test/accuracy") == []
    assert main_effects(made_manifest(), {}, metric="test/accuracy") == []


def test_a_manifest_read_from_disk_has_the_same_effects(tmp_path):
    manifest, records = made_grid(noisy)
    write(tmp_path, manifest)
    again = main_effects(read(tmp_path), records, metric="test/accuracy")
    first = main_effects(manifest, records, metric="test/accuracy")
    assert str(again) == str(first)


def test_only_the_chosen_candidate_counts():
    runs, records = [], {}
    for level, seed, lr in itertools.product((0, 1), SEEDS, (1, 2)):
        run = f"{level}-{seed}-{lr}"
        runs.append(
            PlannedRun(run=run, arm=f"a{level}", seed=seed, candidate=f"{lr}", factors={"f": level})
        )
        records[run] = made_record(
            run, {"test/accuracy": level + 10 * lr + seed}, selected=float(lr)
        )
    manifest = made_manifest(
        arms=("a0", "a1"), seeds=SEEDS, factors={"f": (0, 1)}, runs=tuple(runs)
    )
    first, second = main_effects(manifest, records, metric="test/accuracy")
    assert (first.mean, second.mean, second.difference) == (22, 23, 1)
