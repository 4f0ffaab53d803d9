"""Which arms a view shows, and what their runs left."""

from pathlib import Path

from tlx.base import names
from tlx.report import plot_arms
from tlx.report.data import StudyView
from tlx.results.record import Record, SplitRecord

MOST_ARMS = 12
MOST_SPLITS = 6
"""Splits that one figure draws."""


def arms_drawn(study: StudyView) -> tuple[list[str], str]:
    """Arms to draw, and a sentence on the others."""
    summaries = [s for s in study.summaries(study.manifest.metric) if study.finished(s.arm)]
    shown, note = plot_arms.fewer(study, summaries, MOST_ARMS, plot_arms.worth(study))
    return [s.arm for s in shown], note


def arms_listed(study: StudyView) -> tuple[list[str], str]:
    """Arms to list, and a sentence on the others."""
    shown, _ = arms_drawn(study)
    total = sum(1 for s in study.summaries(study.manifest.metric) if study.finished(s.arm))
    note = f"Listed are {len(shown)} of {total:,} arms, the best and the baseline."
    return shown, note if total > len(shown) else ""


def on_split(study: StudyView, arm: str, split: str) -> list[SplitRecord]:
    """An arm's results on a split, one a finished run."""
    return [r.splits[split] for r in study.finished(arm) if split in r.splits]


def predicted_split(study: StudyView) -> str:
    """The split whose predictions are shown: the primary one, if any are written of it."""
    there = (split for split in study.splits if split != "val" and names.stays_inside(split))
    return next(there, "test")


def predictions_of(study: StudyView, run: Record) -> Path:
    """The folder of a run's predictions."""
    return study.runs_dir / run.run / "predictions"
