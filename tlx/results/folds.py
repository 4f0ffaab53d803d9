"""Figures over folds, each of which tests a part of all items once.

The mean over folds is a figure of all items. Its spread is not that of independent repetitions:
any two folds train on mostly the same items. So folds are never counted as seeds. Where a study has
folds, a seed's figure is its mean over them, and the intervals over seeds say how much training by
itself moves that; the intervals here say how far it may move with other items.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlx.results.intervals import LEVEL, Interval, check_level, numbers_of, sd_of
from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.record import Record
from tlx.results.table import figure, mean_of, picked

Fold = int | str


@dataclass(frozen=True, kw_only=True)
class FoldFigures:
    """An arm's figure fold by fold.

    Attributes:
        arm: its name.
        by_fold: fold -> mean over seeds; NaN where a run has no figure.
        interval: of the mean over folds; NaN ends where a fold lacks its figure.
        difference: the same of arm less baseline, fold by fold; None for the baseline, or without.
        p: two-sided, of that difference against 0; NaN where there is none.
    """

    arm: str
    by_fold: Mapping[Fold, float]
    interval: Interval
    difference: Interval | None
    p: float


def corrected(values: Sequence[float], *, level: float = LEVEL) -> tuple[Interval, float]:
    """The mean over folds with its interval, and the two-sided p of 0.

    Student's t with k - 1 degrees, on the variance s² (1/k + 1/(k - 1)): what the test holds by
    what trains is 1/(k - 1) for k folds. The plain s²/k takes folds for independent: where learners
    are equally good it calls 5 to 14% of pairs different at 5%, this one 1 to 5% (simulated: least
    squares and nearest neighbours, 2 to 10 folds, 20 to 300 items).

    Args:
        values: one a fold; a NaN makes the result NaN, it is not dropped: without a fold, some
            items are not tested.
        level: coverage, in (0, 1).

    Source: C. Nadeau and Y. Bengio, Inference for the generalization error, Machine Learning 52,
        2003, section 4 (corrected resampled t); it is an approximation, for no unbiased estimate of
        the variance over folds exists (Y. Bengio and Y. Grandvalet 2004). Folds of whole groups
        make its assumption of like folds rougher: read such an interval as a guide.

    >>> found, p = corrected([0.8, 0.9, 0.7, 0.8])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3), found.n
    (0.8, 0.602, 0.998, 4)
    """
    from scipy.stats import t as student  # slow to import

    check_level(level)
    numbers = numbers_of("values", values)
    count = len(numbers)
    mean = float(numbers.mean()) if count else math.nan
    if count < 2 or math.isnan(mean):
        return Interval(value=mean, low=math.nan, high=math.nan, n=count), math.nan
    error = sd_of(numbers) * math.sqrt(1 / count + 1 / (count - 1))
    half = float(student.isf((1 - level) / 2, count - 1)) * error
    if error == 0:  # equal in all folds: nothing is known of their spread
        return Interval(value=mean, low=math.nan, high=math.nan, n=count), math.nan
    p = float(2 * student.sf(abs(mean) / error, count - 1))
    return Interval(value=mean, low=mean - half, high=mean + half, n=count), p


def figures(manifest: Manifest, records: Mapping[str, Record], *, metric: str) -> list[FoldFigures]:
    """Every arm's figures fold by fold, in the order of the manifest; none without folds.

    Args:
        manifest: of the study.
        records: run's id -> record.
        metric: split and metric, `test/accuracy`.
    """
    if not manifest.folds:
        return []
    means = {
        arm: _by_fold(runs, records, manifest.folds, metric=metric)
        for arm, runs in picked(manifest, records).items()
    }
    base = means.get(manifest.baseline or "")
    found = []
    for arm, by_fold in means.items():
        difference, p = None, math.nan
        if base is not None and arm != manifest.baseline:
            gaps = [by_fold[fold] - base[fold] for fold in manifest.folds]
            difference, p = corrected(gaps)
        interval, _ = corrected([*by_fold.values()])
        found.append(
            FoldFigures(arm=arm, by_fold=by_fold, interval=interval, difference=difference, p=p)
        )
    return found


def _by_fold(
    runs: Sequence[PlannedRun],
    records: Mapping[str, Record],
    folds: Sequence[Fold],
    *,
    metric: str,
) -> dict[Fold, float]:
    values: dict[Fold | None, list[float]] = defaultdict(list)
    for run in runs:
        values[run.fold].append(figure(records.get(run.run), metric=metric))
    return {fold: mean_of(values[fold]) if values[fold] else math.nan for fold in folds}
