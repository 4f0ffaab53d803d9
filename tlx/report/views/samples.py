"""What language models wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from tlx.report.arms_shown import arms_listed, predictions_of
from tlx.report.data import StudyView, sound
from tlx.report.figure import Figure, Style
from tlx.report.formats import Column, Table
from tlx.results import predictions

PART = "Predictions"
SAMPLES = "samples.json"


class Sample(TypedDict):
    """A prompt, and what was written after it, each way of writing by its name."""

    prompt: str
    continuations: dict[str, str]


def tables(study: StudyView) -> list[Table]:
    """What one run of each arm wrote."""
    arms, note = arms_listed(study)
    found: list[tuple[str, Sample]] = []
    for arm in arms:
        nothing: list[Sample] = []
        places = (predictions_of(study, run) for run in study.finished(arm))
        files = (sound(study, read_samples, each, nothing=nothing) for each in places)
        found += [(arm, sample) for sample in next((each for each in files if each), [])]
    if not found:
        return []
    ways = dict.fromkeys(way for _, sample in found for way in sample["continuations"])
    rows = [
        [arm, sample["prompt"], *(sample["continuations"].get(way) for way in ways)]
        for arm, sample in found
    ]
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="prompt", label="Prompt", kind="passage"),
        *(Column(key=way, label=way.capitalize(), kind="passage") for way in ways),
    ]
    note = f"Prompts are from the test texts; of each arm its first run's. {note}".strip()
    title = f"{study.manifest.study}: samples of generated text"
    made = Table(name="samples", title=title, columns=columns, rows=rows, note=note, prose=False)
    return [made]


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """None."""
    return []


def read_samples(folder: Path) -> list[Sample]:
    """What a language model wrote; nothing where there is no such file.

    Raises:
        Damaged: it is not what the run wrote.
    """
    path = folder / SAMPLES
    if not path.is_file():
        return []
    with predictions.reading(path):
        found: list[Sample] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and {"prompt", "continuations"} <= each.keys() for each in found
        ):
            raise ValueError("it holds no list of prompts and continuations")
    return found
