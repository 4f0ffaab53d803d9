"""Kinds of entities, as seqeval counts them in the tags that runs wrote."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from tlx.report.arms_shown import arms_listed, predicted_split, predictions_of
from tlx.report.data import StudyView, sound
from tlx.report.figure import Figure, Style
from tlx.report.formats import Column, Table
from tlx.report.numbers import decimals
from tlx.results import predictions, stats
from tlx.results.stats import Interval

PART = "Predictions"
FIGURES = {"precision": "Precision", "recall": "Recall", "f1-score": "F1"}
AVERAGES = ("micro avg", "macro avg")
Report = Mapping[str, Mapping[str, float]]


def tables(study: StudyView) -> list[Table]:
    """Precision, recall and F1 of each kind of entity."""
    split = predicted_split(study)
    arms, note = arms_listed(study)
    found = {arm: _reports(study, arm, split) for arm in arms}
    rows, spreads = [], []
    for arm, reports in found.items():
        for kind in _kinds(reports):
            there = [report[kind] for report in reports if kind in report]
            figures = [_interval([each[key] for each in there]) for key in FIGURES]
            spreads += [figure.high - figure.value for figure in figures]
            support = stats.summary([each["support"] for each in there]).mean
            rows.append([arm, kind, *figures, support, len(there)])
    if not rows:
        return []
    digits = decimals(spreads)
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="kind", label="Entity"),
        *(
            Column(key=key.partition("-")[0], label=label, kind="interval", digits=digits)
            for key, label in FIGURES.items()
        ),
        Column(key="support", label="Support", kind="count"),
        Column(key="n", label="n", kind="count"),
    ]
    counting = (
        f"As seqeval counts entities on {split}; mean over the n finished runs of each arm"
        f"{', with its 95% interval' if study.repeated else ''}. Support: entities that are there."
    )
    title = f"{study.manifest.study}: entities on {split}"
    note = f"{counting} {note}".strip()
    return [Table(name="entities", title=title, columns=columns, rows=rows, note=note)]


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """None."""
    return []


def _reports(study: StudyView, arm: str, split: str) -> list[Report]:
    """What seqeval says of each of an arm's runs that tagged words."""
    files = [predictions_of(study, run) / f"{split}.conll" for run in study.finished(arm)]
    nothing: tuple[list[list[str]], list[list[str]]] = ([], [])
    tags = [sound(study, read_tags, file, nothing=nothing) for file in files]
    return [_report(target, predicted) for target, predicted in tags if target]


def _report(target: list[list[str]], predicted: list[list[str]]) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports, and of kinds that are never predicted
        from seqeval.metrics import classification_report  # slow to import

        made: Report = classification_report(target, predicted, output_dict=True, zero_division=0)
    return made


def _kinds(reports: Sequence[Report]) -> list[str]:
    """Kinds of entities in order, then their averages."""
    named = {kind for report in reports for kind in report if not kind.endswith(" avg")}
    return [*sorted(named), *AVERAGES] if named else []


def _interval(values: Sequence[float]) -> Interval:
    found = stats.summary([float(value) for value in values])
    return Interval(value=found.mean, low=found.low, high=found.high, n=found.n)


def read_tags(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """True and predicted tags of each sentence of a .conll file; none where it is missing.

    Raises:
        Damaged: it is not what the run wrote.
    """
    if not path.is_file():
        return [], []
    with predictions.reading(path):
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        rows = [[line.rsplit(" ", 2) for line in block.split("\n") if line] for block in blocks]
        sentences = [sentence for sentence in rows if sentence]
        if any(len(row) != 3 for sentence in sentences for row in sentence):
            raise ValueError("a line is not a word and two tags")
    target, predicted = ([[row[i] for row in each] for each in sentences] for i in (1, 2))
    return target, predicted
