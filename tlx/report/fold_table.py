"""The table of folds: each arm over all items, with intervals that do not take folds for seeds."""

import math

from tlx.report.data import StudyView
from tlx.report.formats import Column, Table
from tlx.report.numbers import decimals, known, plain
from tlx.results import folds

NOTE = (
    "Each item is tested in one of {count} folds, and a fold's figure is its mean over {seeds}. "
    "Folds train on mostly the same items and are no independent repetitions: the interval is "
    "Student's t with their variance corrected for that (Nadeau and Bengio 2003), an "
    "approximation. p is two-sided, of the difference fold by fold, and not corrected over arms."
)


def table(study: StudyView) -> Table | None:
    """Every arm on the primary split, fold by fold; None for a study without folds."""
    spec = study.manifest
    found = folds.figures(spec, study.records, metric=spec.metric)
    if not found:
        return None
    digits = decimals(
        [each.interval.high - each.interval.value for each in found],
        [each.interval.value for each in found],
    )
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="mean", label=f"{spec.metric} over folds", kind="interval", digits=digits),
        Column(key="lowest", label="Lowest fold"),
        Column(key="highest", label="Highest fold"),
    ]
    compared = any(each.difference is not None for each in found)
    if compared:
        label = f"Δ to {spec.baseline}"
        columns += [
            Column(key="difference", label=label, kind="delta", digits=digits),
            Column(key="p", label="p", kind="p"),
        ]
    rows: list[list[object]] = []
    for each in found:
        there = {fold: value for fold, value in each.by_fold.items() if not math.isnan(value)}
        row: list[object] = [each.arm, each.interval]
        for end in (min, max):
            fold = end(there, key=there.__getitem__) if there else None
            row.append(None if fold is None else f"{fold}: {plain(there[fold], digits)}")
        rows.append([*row, *([each.difference, known(each.p)] if compared else [])])
    title = f"{spec.study}: {spec.metric} over {len(spec.folds)} folds"
    seeds = f"{len(spec.seeds)} seed{'s' * (len(spec.seeds) > 1)}"
    note = NOTE.format(count=len(spec.folds), seeds=seeds)
    return Table(name="folds", title=title, columns=columns, rows=rows, note=note)
