"""Of which step and stage the weights are that runs were judged by, and how often not the last."""

from collections.abc import Iterable

from tlx.report.data import StudyView
from tlx.report.formats import Column
from tlx.report.numbers import counted
from tlx.results import kept_weights
from tlx.results.record import Record


def line(study: StudyView) -> str:
    """How often runs of several stages kept weights of an earlier one; empty without such runs."""
    whole = kept_weights.count(study.records.values())
    if not whole.several:
        return ""
    runs = counted(whole.several, "run")
    if not whole.earlier:
        return f"Weights are of the last stage in all of {runs} of several stages."
    return f"Weights are not of the last stage in {whole.earlier:,} of {runs} of several stages."


def warning(study: StudyView) -> str:
    """The same with the arms, where there are such runs; empty otherwise."""
    counts = {arm: kept_weights.count(study.finished(arm)) for arm in study.arms}
    arms = [f"{arm} {found}" for arm, found in counts.items() if found.earlier]
    if not kept_weights.count(study.records.values()).earlier:
        return ""
    listed = f" ({', '.join(arms[:10])})" if arms else ""
    return (
        f"{line(study).rstrip('.')}{listed}: these runs are not what their strategy's name says. "
        "Their weights were selected over the whole run, or early stopping ended it."
    )


def columns_of_arms() -> list[Column]:
    """Columns for `of_arm`."""
    return [
        Column(key="kept_step", label="Kept", kind="count", under="steps"),
        Column(key="kept_earlier", label="Early", kind="share", under="steps"),
    ]


def of_arm(records: Iterable[Record]) -> list[float | tuple[int, int] | None]:
    """Mean step of the weights that were kept, and how often they are not of the last stage."""
    records = list(records)
    steps = [kept.step for kept in map(kept_weights.of, records) if kept is not None]
    found = kept_weights.count(records)
    share = (found.earlier, found.several) if found.several else None
    return [sum(steps) / len(steps) if steps else None, share]


def columns_of_runs() -> list[Column]:
    """Columns for `of_run`."""
    return [
        Column(key="kept_step", label="Kept step", kind="count"),
        Column(key="kept_stage", label="Kept stage"),
        Column(key="kept_last_stage", label="Last stage"),
    ]


def hint(record: Record | None) -> str | None:
    """Step and stage of the weights that a run kept, in words; None where nothing tells."""
    text = kept_weights.sentence(record)
    return f"weights of {text}" if text else None


def of_run(record: Record | None) -> list[int | str | bool | None]:
    """Step and stage of the weights that were kept, and whether the stage is the last."""
    kept = kept_weights.of(record)
    return [None] * 3 if kept is None else [kept.step, kept.stage, kept.last]
