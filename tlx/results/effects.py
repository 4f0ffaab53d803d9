"""The effect of each factor's levels, averaged over the other factors."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tlx.results.manifest import Manifest
from tlx.results.record import Record
from tlx.results.stats import compare, holm
from tlx.results.table import figure, picked

Cell = str
"""Levels of the other factors, as JSON."""
Figures = Mapping[tuple[str, Cell, int], list[float]]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A level of a factor against the factor's first level.

    Attributes:
        factor: its key.
        level: as the manifest has it.
        baseline: the factor's first level; equal to `level` in the row of that level itself.
        mean: of the cells' means over seeds; NaN where a cell has no figure at all.
        runs: figures that the mean rests on.
        planned: runs that it would rest on if all had a figure.
        cells: combinations of the other factors in which every level was planned.
        difference: mean over seeds of level minus baseline; NaN for the baseline itself.
        low: lower end of its 95% interval, seeds being the unit.
        high: upper end.
        n: seeds with at least one whole pair.
        pairs: (cell, seed) pairs of which both runs have a figure.
        p: two-sided, against no difference.
        p_holm: Holm-adjusted over all levels of all factors.
        test: which test gave p.
    """

    factor: str
    level: object
    baseline: object
    mean: float
    runs: int
    planned: int
    cells: int
    difference: float
    low: float
    high: float
    n: int
    pairs: int
    p: float
    p_holm: float
    test: str


def main_effects(manifest: Manifest, records: Mapping[str, Record], *, metric: str) -> list[Effect]:
    """Each level of each factor: its mean over the other factors, its difference to the first.

    Levels are compared in the same company only: in the cells (combinations of the other factors)
    in which all of the factor's levels were planned. That is every cell of a grid, and the base
    of a one-at-a-time design; a factor without such a cell (zipped values) is left out. Runs are
    paired by cell and seed. Pairs that lack a figure are left out, and `pairs` says how many
    stay; the rest is averaged within each seed first. The runs of one seed share their data and
    weights, so that seeds are the independent units of the interval and the test, not runs.

    Args:
        manifest: of the study.
        records: run's id -> record.
        metric: split and metric, `test/accuracy`.

    Returns:
        Factor by factor, level by level; the first level of each has no difference.

    Raises:
        ValueError: `metric` has no slash.
    """
    effects = []
    for factor, levels in manifest.factors.items():
        figures = _figures(manifest, records, factor=factor, metric=metric)
        keys = [_key(level) for level in levels]
        cells = _shared(figures, keys)
        if cells:
            effects += [
                _effect(factor, level, levels[0], figures, cells, manifest.seeds)
                for level in levels
            ]
    adjusted = holm([effect.p for effect in effects])
    return [replace(effect, p_holm=p) for effect, p in zip(effects, adjusted, strict=True)]


def _figures(
    manifest: Manifest, records: Mapping[str, Record], *, factor: str, metric: str
) -> Figures:
    found: dict[tuple[str, Cell, int], list[float]] = {}
    for runs in picked(manifest, records).values():
        for run in runs:
            if factor in run.factors:
                rest = {key: level for key, level in run.factors.items() if key != factor}
                place = (_key(run.factors[factor]), _key(rest), run.seed)
                found.setdefault(place, []).append(figure(records.get(run.run), metric=metric))
    return found


def _key(value: object) -> str:
    """Equal for what is equal once a manifest went through JSON (a tuple and a list, say)."""
    return json.dumps(value, sort_keys=True, default=str)


def _shared(figures: Figures, keys: Iterable[str]) -> list[Cell]:
    """The cells that every level has, in their order."""
    of_level: dict[str, dict[Cell, None]] = {key: {} for key in keys}
    for key, cell, _ in figures:
        if key in of_level:
            of_level[key][cell] = None
    cells = list(of_level.values())
    return [cell for cell in cells[0] if all(cell in other for other in cells)] if cells else []


def _effect(
    factor: str,
    level: object,
    baseline: object,
    figures: Figures,
    cells: list[Cell],
    seeds: tuple[int, ...],
) -> Effect:
    here, base = _key(level), _key(baseline)
    of_cells = [
        [value for seed in seeds for value in figures.get((here, cell, seed), ())] for cell in cells
    ]
    known = [[value for value in of_cell if math.isfinite(value)] for of_cell in of_cells]
    differences, pairs = [], 0
    for seed in seeds:
        gaps = [
            _mean(figures.get((here, cell, seed), [])) - _mean(figures.get((base, cell, seed), []))
            for cell in cells
        ]
        whole = [gap for gap in gaps if here != base and math.isfinite(gap)]
        pairs += len(whole)
        differences.append(_mean(whole))
    found = compare(differences, [0.0] * len(seeds))
    return Effect(
        factor=factor,
        level=level,
        baseline=baseline,
        mean=_mean([_mean(of_cell) for of_cell in known]),
        runs=sum(map(len, known)),
        planned=sum(map(len, of_cells)),
        cells=len(cells),
        difference=found.difference,
        low=found.low,
        high=found.high,
        n=found.n,
        pairs=pairs,
        p=found.p,
        p_holm=math.nan,
        test=found.test,
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
