"""The tables of predictions: the surest errors, kinds of entities, what language models wrote."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.base import names, sealed
from tlx.report import plot_arms
from tlx.report.data import Study, sound
from tlx.report.formats import Column, Table
from tlx.report.numbers import counted, decimals, finite
from tlx.results import predictions, stats
from tlx.results.record import Record
from tlx.results.stats import Interval

SAMPLES = "samples.json"
MOST_ERRORS = 10
MOST_ARMS = 12
FIGURES = {"precision": "Precision", "recall": "Recall", "f1-score": "F1"}
AVERAGES = ("micro avg", "macro avg")
Report = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Error:
    """An item that a run put into a wrong class, and the probability that it gave that class."""

    id: str
    text: str | None
    label: str
    prediction: str
    confidence: float


def errors(study: Study) -> Table | None:
    """The items that the best arm's runs were surest of, and wrong; None where there are none."""
    split = _split(study)
    arm, found = _best(study, lambda arm: _of_classes(study, arm, split))
    if not any(found):
        return None
    by_item: dict[str, list[Error]] = {}
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
        *([Column(key="text", label="Text")] if texts else []),
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
    return Table(name="errors", title=title, columns=columns, rows=rows, note=note)


def entities(study: Study) -> Table | None:
    """Precision, recall and F1 of each kind of entity; None where no run named any."""
    if "entities" not in study.cache:
        study.cache["entities"] = _entities(study)
    table: Table | None = study.cache["entities"]
    return table


def samples(study: Study) -> Table | None:
    """What one run of each arm wrote; None where none is a causal language model."""
    arms, note = _arms(study)
    rows: list[list[Any]] = []
    ways: dict[str, None] = {}
    for arm in arms:
        nothing: list[dict[str, Any]] = []
        places = (_folder(study, run) for run in study.finished(arm))
        files = (sound(study, read_samples, each, nothing=nothing) for each in places)
        for sample in next((each for each in files if each), []):
            ways |= dict.fromkeys(sample["continuations"])
            rows.append([arm, sample["prompt"], sample["continuations"]])
    if not rows:
        return None
    rows = [[*row, *(written.get(way) for way in ways)] for *row, written in rows]
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="prompt", label="Prompt", kind="passage"),
        *(Column(key=way, label=way.capitalize(), kind="passage") for way in ways),
    ]
    note = f"Prompts are from the test texts; of each arm its first run's. {note}".strip()
    title = f"{study.manifest.study}: samples of generated text"
    return Table(name="samples", title=title, columns=columns, rows=rows, note=note)


def _split(study: Study) -> str:
    """The split to look at: the primary one, if predictions are written of it."""
    there = (split for split in study.splits if split != "val" and names.stays_inside(split))
    return next(there, "test")


def _folder(study: Study, run: Record) -> Path:
    return study.runs_dir / run.run / "predictions"


def _arms(study: Study) -> tuple[list[str], str]:
    """Arms to list, and a sentence on the others."""
    there = [s for s in study.summaries(study.manifest.metric) if study.finished(s.arm)]
    shown, _ = plot_arms.fewer(study, there, MOST_ARMS, plot_arms.worth(study))
    left_out = len(there) - len(shown)
    note = f"Listed are {len(shown)} of {len(there):,} arms, the best and the baseline."
    return [item.arm for item in shown], note if left_out else ""


def _best(study: Study, found: Callable[[str], list[list[Error]]]) -> tuple[str, list[list[Error]]]:
    """The best arm with predictions of classes, and what is found of it."""
    worth = plot_arms.worth(study)
    numbers = [s for s in study.summaries(study.manifest.metric) if finite(s.interval.value)]
    for item in sorted(numbers, key=worth, reverse=True):
        if runs := found(item.arm):
            return item.arm, runs
    return "", []


def _of_classes(study: Study, arm: str, split: str) -> list[list[Error]]:
    """Errors of each of an arm's runs that chose one class an item, and wrote so."""
    runs = [run for run in study.finished(arm) if run.task == "classification"]
    places = [_folder(study, run) / f"{split}.csv" for run in runs]
    found = [sound(study, _wrong_of, place, nothing=None) for place in places]
    return [each for each in found if each is not None]


def _wrong_of(path: Path) -> list[Error] | None:
    """Errors of one run; None where it has no predictions."""
    rows = predictions.read(path)
    try:
        return list(_wrong(rows)) if rows else None
    except (KeyError, ValueError, TypeError) as error:
        why = f"{path} is damaged ({type(error).__name__}: {error})"
        raise sealed.Damaged(why, folder=path.parent.parent) from error


def _wrong(rows: Sequence[Mapping[str, str]]) -> Iterator[Error]:
    for row in rows:
        label, prediction = row["label"], row["prediction"]
        if prediction and prediction != label:
            yield Error(
                id=row["id"],
                text=row.get("text"),
                label=label,
                prediction=prediction,
                confidence=json.loads(row["probabilities"])[prediction],
            )


def _entities(study: Study) -> Table | None:
    split = _split(study)
    arms, note = _arms(study)
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
        return None
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
    return Table(name="entities", title=title, columns=columns, rows=rows, note=note)


def _reports(study: Study, arm: str, split: str) -> list[Report]:
    """What seqeval says of each of an arm's runs that tagged words."""
    files = [_folder(study, run) / f"{split}.conll" for run in study.finished(arm)]
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


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """What a language model wrote; nothing where there is no such file.

    Raises:
        Damaged: it is not what the run wrote.
    """
    path = folder / SAMPLES
    if not path.is_file():
        return []
    with predictions.reading(path):
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and {"prompt", "continuations"} <= each.keys() for each in found
        ):
            raise ValueError("it holds no list of prompts and continuations")
    return found
