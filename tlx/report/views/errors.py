"""The surest errors of the best arm."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlx.base import sealed
from tlx.report import plot_arms
from tlx.report.arms_shown import predicted_split, predictions_of
from tlx.report.data import StudyView, shows, sound
from tlx.report.figure import Figure, Style
from tlx.report.formats import Column, Table
from tlx.report.numbers import counted, finite
from tlx.results import predictions

PART = "Predictions"
MOST_ERRORS = 10


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An item that a run put into a wrong class, and the probability that it gave that class."""

    id: str
    text: str | None
    label: str
    prediction: str
    confidence: float


def tables(study: StudyView) -> list[Table]:
    """The items that the best arm's runs were surest of, and wrong; None where there are none."""
    split = predicted_split(study)
    arm, found = _best(study, lambda arm: _of_classes(study, arm, split))
    if not any(found):
        return []
    by_item: dict[str, list[Mistake]] = {}
    for error in (each for run in found for each in run):
        by_item.setdefault(error.id, []).append(error)
    surest = [max(each, key=lambda error: error.confidence) for each in by_item.values()]
    surest.sort(key=lambda error: -error.confidence)
    texts = any(error.text is not None for error in surest)
    columns = [
        Column(key="item", label="Item", kind="code"),
        Column(key="label", label="True"),
        Column(key="prediction", label="Predicted"),
        Column(key="confidence", label="Confidence", kind="number"),
        Column(key="wrong", label="Runs", kind="share"),
        *([Column(key=predictions.ITEM, label="Text")] if texts else []),
    ]
    rows = [
        [
            *(error.id, error.label, error.prediction, error.confidence),
            (len(by_item[error.id]), len(found)),
            *([error.text] if texts else []),
        ]
        for error in surest[:MOST_ERRORS]
    ]
    note = (
        f"The {len(rows)} of {counted(len(surest), 'item')} that a run of {arm} got wrong on which "
        f"one was surest (n = {counted(len(found), 'run')}). Confidence: the probability that this "
        "run gave to the class that it predicted. Runs: how many are wrong on the item."
    )
    title = f"{study.manifest.study}: most confident errors of {arm} on {split}"
    made = Table(
        name="errors",
        title=title,
        columns=columns,
        rows=rows,
        note=note,
        marked=False,
        prose=False,
    )
    return [made]


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """None."""
    return []


def _best(
    study: StudyView, found: Callable[[str], list[list[Mistake]]]
) -> tuple[str, list[list[Mistake]]]:
    """The best arm with predictions of classes, and what is found of it."""
    worth = plot_arms.worth(study)
    numbers = [s for s in study.summaries(study.manifest.metric) if finite(s.interval.value)]
    for item in sorted(numbers, key=worth, reverse=True):
        if runs := found(item.arm):
            return item.arm, runs
    return "", []


def _of_classes(study: StudyView, arm: str, split: str) -> list[list[Mistake]]:
    """Errors of each of an arm's runs that chose one class an item, and wrote so."""
    runs = [run for run in study.finished(arm) if shows(run, "errors", of_old=("classification",))]
    places = [predictions_of(study, run) / f"{split}.csv" for run in runs]
    found = [sound(study, _wrong_of, place, nothing=None) for place in places]
    return [each for each in found if each is not None]


def _wrong_of(path: Path) -> list[Mistake] | None:
    """Errors of one run; None where it has no predictions."""
    rows = predictions.read(path)
    try:
        return list(_wrong(rows)) if rows else None
    except (KeyError, ValueError, TypeError) as error:
        why = f"{path} is damaged ({type(error).__name__}: {error})"
        raise sealed.Damaged(why, folder=path.parent.parent) from error


def _wrong(rows: Sequence[Mapping[str, str]]) -> Iterator[Mistake]:
    for row in rows:
        label, prediction = row["label"], row["prediction"]
        if prediction and prediction != label:
            yield Mistake(
                id=row["id"],
                text=row.get(predictions.ITEM),
                label=label,
                prediction=prediction,
                confidence=json.loads(row["probabilities"])[prediction],
            )
