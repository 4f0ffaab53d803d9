"""The trials of a search: parameters, objectives averaged over seeds, importances."""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlx.base import secrecy
from tlx.base.nodes import sequence
from tlx.report.data import StudyView
from tlx.report.formats import Column, Table
from tlx.report.numbers import decimals, finite, known
from tlx.results import table as runs_table
from tlx.results.manifest import PlannedRun
from tlx.results.stats import summary

if TYPE_CHECKING:
    import optuna

SEARCH = "search"


@dataclass(frozen=True, kw_only=True)
class TrialView:
    """One trial.

    Attributes:
        number: of the search.
        params: key -> value.
        values: of the objectives, each the mean over seeds; NaN where one lacks.
        n: runs that finished with every objective.
        planned: runs.
        status: `finished`, or what became of the first run that did not.
    """

    number: int
    params: Mapping[str, object]
    values: tuple[float, ...]
    n: int
    planned: int
    status: str

    @property
    def whole(self) -> bool:
        """Whether it has every objective."""
        return self.status == "finished" and all(math.isfinite(value) for value in self.values)


def objectives(study: StudyView) -> dict[str, str]:
    """Objective -> `max` or `min`; the primary figure where the manifest names none."""
    given = study.manifest.search.get("objectives")
    pairs = given.items() if isinstance(given, Mapping) else map(sequence, sequence(given))
    found = {str(name): str(mode) for name, mode in pairs}
    return found or {study.manifest.metric: study.manifest.mode}


def trials(study: StudyView) -> list[TrialView]:
    """All trials in order; empty where the study is no search."""
    if study.manifest.design != SEARCH:
        return []
    by_number: dict[int, list[PlannedRun]] = {}
    for run in study.manifest.runs:
        if run.trial is not None:
            by_number.setdefault(run.trial, []).append(run)
    names = list(objectives(study))
    return [_trial(study, number, by_number[number], names) for number in sorted(by_number)]


def _trial(
    study: StudyView, number: int, runs: Sequence[PlannedRun], names: Sequence[str]
) -> TrialView:
    records = [study.records.get(run.run) for run in runs]
    figures = [[runs_table.objective(record, name) for name in names] for record in records]
    there = [[value for value in row if finite(value)] for row in figures]
    whole = [row for row in there if len(row) == len(names)]
    statuses = [record.status if record else "missing" for record in records]
    ended = next((status for status in statuses if status != "finished"), "finished")
    if ended == "finished" and len(whole) < len(runs):
        ended = "not a number"
    values = tuple(summary([row[i] for row in whole]).mean for i in range(len(names)))
    return TrialView(
        number=number,
        params=params(runs[0]),
        values=values,
        n=len(whole),
        planned=len(runs),
        status=ended,
    )


def params(run: PlannedRun) -> dict[str, object]:
    """A run's parameters: its factors, else the overrides of its candidate, as numbers if so."""
    if run.factors:
        return {
            key: _value(value) if isinstance(value, str) else value
            for key, value in run.factors.items()
        }
    pairs = (part.partition("=") for part in run.candidate.split() if "=" in part)
    return {key.lstrip("+"): _value(text) for key, _, text in pairs}


def best(study: StudyView, items: Sequence[TrialView]) -> list[TrialView]:
    """The best trial, or with several objectives those that none beats in every one."""
    signs = [1 if mode == "max" else -1 for mode in objectives(study).values()]
    whole = [item for item in items if item.whole]
    scores = [tuple(s * v for s, v in zip(signs, item.values, strict=True)) for item in whole]
    kept = [
        item
        for item, mine in zip(whole, scores, strict=True)
        if not any(
            other != mine and all(o >= m for o, m in zip(other, mine, strict=True))
            for other in scores
        )
    ]
    return kept[:1] if len(signs) == 1 else kept


def table(study: StudyView) -> Table | None:
    """Every trial; None where the study is no search."""
    items = trials(study)
    if not items:
        return None
    names, goals = keys(items), list(objectives(study))
    leading = {item.number for item in best(study, items)}
    columns = [
        Column(key="trial", label="Trial", kind="count"),
        *(Column(key=goal, label=goal, kind="number",
                 digits=decimals([], [i.values[place] for i in items]))
          for place, goal in enumerate(goals)),
        Column(key="best", label="Best"),
        Column(key="status", label="Status"),
        Column(key="n", label="n", kind="share"),
        *(Column(key=name, label=short(name), kind="value") for name in names),
    ]  # fmt: skip
    rows = [
        [item.number, *map(known, item.values), "★" if item.number in leading else "", item.status,
         (item.n, item.planned), *(item.params.get(name) for name in names)]
        for item in items
    ]  # fmt: skip
    note = "Objectives are means over the n runs of a trial. ★: " + (
        "beaten by no other trial in every objective." if len(goals) > 1 else "the best."
    )
    title = f"{study.manifest.study}: trials"
    return Table(name="trials", title=title, columns=columns, rows=rows, note=note, marked=False)


def keys(items: Sequence[TrialView]) -> list[str]:
    """Names of all parameters."""
    return list(dict.fromkeys(name for item in items for name in item.params))


def short(name: str) -> str:
    """A parameter's name without the groups that it lies in.

    >>> short("optimizer.lr"), short("regularization.weight_decay.value")
    ('lr', 'weight_decay')
    """
    parts = name.removesuffix(".value").removesuffix(".name").split(".")
    return parts[-1]


_OF_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What Optuna raises at a journal that is not one of its own."""


def importances(study: StudyView) -> tuple[str, dict[str, dict[str, float]], str]:
    """The evaluator's name, objective -> parameter -> share, and why there is none."""
    storage = study.manifest.search.get("storage")
    if not storage:
        return "", {}, "Importances are left out: the search's storage is not known here."
    try:
        from optuna.exceptions import OptunaError
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return "", {}, "Importances are left out: Optuna is not installed."
    try:
        found = _opened(str(storage), str(study.manifest.search.get("name", study.manifest.study)))
        shares = {
            goal: _shares(found, place, mode)
            for place, (goal, mode) in enumerate(objectives(study).items())
        }
    except (*_OF_DAMAGE, OSError, RuntimeError, OptunaError, SQLAlchemyError) as error:
        kind = type(error).__name__  # its text may hold the storage's password
        return "", {}, f"Importances are left out: the search's storage gave no study ({kind})."
    return "PED-ANOVA", shares, ""


def _opened(storage: str, name: str) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        storage = secrecy.opened(storage, os.environ.get(secrecy.STORAGE_PASSWORD))
        return optuna.load_study(study_name=name, storage=storage)
    if not Path(storage).is_file():
        raise FileNotFoundError(f"{storage} is not there")
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(storage)))


def _shares(found: "optuna.Study", place: int, mode: str) -> dict[str, float]:
    """Importances for a good value of one objective; the evaluator takes low ones for good."""
    import optuna

    sign = -1 if mode == "max" else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that low is good
        shares: dict[str, float] = optuna.importance.get_param_importances(
            found,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: sign * float(trial.values[place]),
        )
    return shares


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
