"""Several arms over several datasets, compared by their ranks.

Source: J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tlx.results.manifest import Manifest
from tlx.results.record import Record
from tlx.results.table import figure, picked

Scores = Mapping[str, Mapping[str, float]]
"""Dataset -> arm -> score."""


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Whether arms differ at all.

    Attributes:
        statistic: χ² with arms - 1 degrees of freedom, corrected for ties.
        p: of it.
        f: Iman and Davenport's less conservative statistic; infinite for perfect agreement.
        p_f: of it.
        arms: how many.
        n: datasets in which every arm has a score.
        left_out: the other datasets.
    """

    statistic: float
    p: float
    f: float
    p_f: float
    arms: int
    n: int
    left_out: tuple[str, ...]


def friedman(scores: Scores, *, mode: str = "max") -> Friedman:
    """Friedman's test, with Iman and Davenport's correction.

    Args:
        scores: dataset -> arm -> score. A dataset in which an arm has no finite score is left out.
        mode: `max` where more is better, or `min`; it does not change the test.

    Raises:
        ValueError: fewer than 3 arms, or fewer than 2 whole datasets.
    """
    from scipy.stats import chi2  # slow to import
    from scipy.stats import f as fisher

    arms, whole = _whole(scores)
    k, n = len(arms), len(whole)
    if k < 3 or n < 2:
        raise ValueError(
            f"{k} arms on {n} whole datasets; ranks need at least 3 arms and 2 datasets, "
            "compare two arms with stats.compare"
        )
    ranks_NK = _ranks(scores, arms, whole, mode=mode)
    away_NK = ranks_NK - (k + 1) / 2
    within = float((away_NK**2).sum())  # less with ties, which is their correction
    statistic = (k - 1) * float((away_NK.sum(axis=0) ** 2).sum()) / within if within else 0.0
    rest = n * (k - 1) - statistic
    f = (n - 1) * statistic / rest if rest > 1e-9 else math.inf
    return Friedman(
        statistic=statistic,
        p=float(chi2.sf(statistic, k - 1)),
        f=f,
        p_f=float(fisher.sf(f, k - 1, (k - 1) * (n - 1))),
        arms=k,
        n=n,
        left_out=tuple(name for name in scores if name not in whole),
    )


def average_ranks(scores: Scores, *, mode: str = "max") -> dict[str, float]:
    """Each arm's rank, 1 for the best, averaged over datasets; best first.

    Equal scores share the mean of their ranks.

    Args:
        scores: dataset -> arm -> score. A dataset in which an arm has no finite score is left out;
            `friedman` says which.
        mode: `max` where more is better, or `min`.

    Raises:
        ValueError: another mode, or no dataset is whole.
    """
    arms, whole = _whole(scores)
    if not whole:
        raise ValueError(f"none of {len(scores)} datasets has a score of every arm; run the rest")
    means = _ranks(scores, arms, whole, mode=mode).mean(axis=0)
    return dict(sorted(zip(arms, map(float, means), strict=True), key=lambda item: item[1]))


def critical_difference(n_arms: int, n_datasets: int, *, alpha: float = 0.05) -> float:
    """How far two average ranks must lie apart to differ significantly, by Nemenyi's test.

    Args:
        n_arms: at least 2.
        n_datasets: at least 1.
        alpha: for all pairs together, in (0, 1).

    Raises:
        ValueError: a number outside of its range.

    Source: Demšar 2006, section 3.2.2; its q_α is the studentized range for infinitely many
    degrees of freedom over √2.
    """
    from scipy.stats import studentized_range  # slow to import

    if n_arms < 2 or n_datasets < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"n_arms={n_arms}, n_datasets={n_datasets}, alpha={alpha}; "
            "at least 2 arms, 1 dataset, and an alpha between 0 and 1 are needed"
        )
    q = float(studentized_range.ppf(1 - alpha, n_arms, np.inf)) / math.sqrt(2)
    return q * math.sqrt(n_arms * (n_arms + 1) / (6 * n_datasets))


def cliques(ranks: Mapping[str, float], difference: float) -> list[tuple[str, ...]]:
    """The largest groups of arms none of which differ significantly; groups of one left out.

    Args:
        ranks: of `average_ranks`.
        difference: of `critical_difference`.

    >>> cliques({"a": 1.2, "b": 1.9, "c": 2.9}, 1.0)
    [('a', 'b'), ('b', 'c')]
    """
    order = sorted(ranks, key=lambda arm: ranks[arm])
    groups: list[tuple[str, ...]] = []
    covered = 0
    for start, arm in enumerate(order):
        end = sum(ranks[other] - ranks[arm] <= difference for other in order)
        if end > max(covered, start + 1):
            groups.append(tuple(order[start:end]))
            covered = end
    return groups


def scores_by(
    manifest: Manifest, records: Mapping[str, Record], *, metric: str, factor: str = "dataset"
) -> dict[str, dict[str, float]]:
    """Scores for the tests above, out of a study that has datasets as a factor.

    Args:
        manifest: of the study.
        records: run's id -> record.
        metric: split and metric, `test/accuracy`.
        factor: the one whose levels are the datasets; the other factors together are the arms.

    Returns:
        Level of the factor -> the others' levels, `key=level, key=level` -> mean over seeds, NaN
        where a seed lacks its figure.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for runs in picked(manifest, records).values():
        for run in runs:
            if factor in run.factors:
                rest = [f"{k}={_text(v)}" for k, v in run.factors.items() if k != factor]
                arms = found.setdefault(_text(run.factors[factor]), {})
                value = figure(records.get(run.run), metric=metric)
                arms.setdefault(", ".join(rest), []).append(value)
    return {
        dataset: {arm: math.fsum(figures) / len(figures) for arm, figures in arms.items()}
        for dataset, arms in found.items()
    }


def _text(level: object) -> str:
    return level if isinstance(level, str) else json.dumps(level)


def _whole(scores: Scores) -> tuple[list[str], list[str]]:
    """All arms, and the datasets in which every one of them has a finite score."""
    arms = list(dict.fromkeys(arm for row in scores.values() for arm in row))
    whole = [
        name
        for name, row in scores.items()
        if all(math.isfinite(row.get(arm, math.nan)) for arm in arms)
    ]
    return arms, whole


def _ranks(
    scores: Scores, arms: list[str], whole: list[str], *, mode: str
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    from scipy.stats import rankdata  # slow to import

    if mode not in ("max", "min"):
        raise ValueError(f"mode={mode!r}; it is 'max' or 'min'")
    table_NK = np.array([[scores[name][arm] for arm in arms] for name in whole])
    ranks: np.ndarray[tuple[int, int], np.dtype[np.float64]] = rankdata(
        -table_NK if mode == "max" else table_NK, axis=1
    )
    return ranks
