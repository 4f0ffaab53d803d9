"""What runs shared: activations of frozen parts, decoded inputs, jobs of several runs at once."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tlx.report.data import StudyView
from tlx.report.formats import Column
from tlx.report.numbers import counted, seconds
from tlx.results.record import DECODED, Record, StageRecord

NO_TIME = 0.05
"""Seconds that would be shown as 0.0 s."""


@dataclass(frozen=True, kw_only=True)
class StoredSummary:
    """What some runs trained from that was stored.

    Attributes:
        runs: that did.
        computed: activations, or inputs, that were computed for them.
        reused: those that they found in the store.
        saved_s: seconds of computing that the store spared them; negative where it cost some.
    """

    runs: int
    computed: int
    reused: int
    saved_s: float


@dataclass(frozen=True, kw_only=True)
class ReuseSummary:
    """What some runs computed, reused and fused.

    Attributes:
        frozen: activations of frozen parts.
        decoded: inputs, of runs that have no frozen part.
        fused: runs that trained in a job with others.
        jobs: such jobs.
    """

    frozen: StoredSummary
    decoded: StoredSummary
    fused: int
    jobs: int

    @property
    def stored(self) -> bool:
        """Whether a run trained from the store."""
        return bool(self.frozen.runs or self.decoded.runs)


def of(records: Iterable[Record]) -> ReuseSummary:
    """What these runs shared; a job counts once, however many of its runs are there."""
    found = list(records)
    fused = [record for record in found if record.fused_with]
    return ReuseSummary(
        frozen=_stored(found, lambda stage: stage.boundary not in (None, DECODED)),
        decoded=_stored(found, lambda stage: stage.boundary == DECODED),
        fused=len(fused),
        jobs=len({frozenset((record.run, *record.fused_with)) for record in fused}),
    )


def _stored(records: Iterable[Record], which: Callable[[StageRecord], bool]) -> StoredSummary:
    by_run = [list(filter(which, record.stages)) for record in records]
    stages = [stage for some in by_run for stage in some]
    return StoredSummary(
        runs=sum(bool(some) for some in by_run),
        computed=sum(stage.computed for stage in stages),
        reused=sum(stage.reused for stage in stages),
        saved_s=math.fsum(stage.saved_s for stage in stages),
    )


def line(study: StudyView) -> str:
    """What all runs of a study shared, in a line; empty where they shared nothing."""
    found = of(study.records.values())
    parts = []
    for what, noun, some in (
        ("frozen parts", "activation", found.frozen),
        ("decoded once", "input", found.decoded),
    ):
        if some.runs:
            parts.append(
                f"{what}: {counted(some.computed, noun)} computed, "
                f"{some.reused:,} reused, {_spared(some.saved_s)}"
            )
    if found.jobs:
        parts.append(_fused(study, found))
    return "; ".join(parts)


def sentences(study: StudyView) -> str:
    """The same for the page; empty where runs shared nothing."""
    found = of(study.records.values())
    texts = []
    for what, some in (
        ("stored activations of frozen parts", found.frozen),
        ("stored inputs, decoded and resized once", found.decoded),
    ):
        if some.runs:
            texts.append(
                f"{_share(study, some.runs)} trained from {what}: "
                f"{some.computed:,} were computed, {some.reused:,} found in the store; "
                f"{_spared(some.saved_s)}."
            )
    if found.jobs:
        texts.append(f"{_fused(study, found)}; what fusing itself saves is not measured.")
    return " ".join(texts)


def hint(record: Record | None) -> str | None:
    """How a run came by its training in two or three words; None for a run of its own."""
    if record is None:
        return None
    found = of([record])
    parts = ["cached"] if found.frozen.runs else ["decoded once"] if found.decoded.runs else []
    if record.fused_with:
        parts.append(f"fused with {len(record.fused_with):,}")
    return ", ".join(parts) or None


def columns_of_arms() -> list[Column]:
    """Columns for `of_arm`."""
    return [
        Column(key="computed", label="Computed", kind="count"),
        Column(key="reused", label="Reused", kind="count", under="computed"),
        Column(key="saved_s", label="Spared", kind="seconds", under="wall_s"),
        Column(key="fused", label="Fused", kind="count"),
        Column(key="fused_jobs", label="Jobs", kind="count", under="fused"),
    ]


def of_arm(records: Iterable[Record]) -> list[float | None]:
    """Means of what was stored and of the time spared, then runs that were fused and their jobs.

    None stands where no run trained from the store, or was fused.
    """
    there = list(records)
    found = of(there)
    means = [total / len(there) if found.stored else None for total in _totals(found)]
    return [*means, found.fused or None, found.jobs or None]


def columns_of_runs() -> list[Column]:
    """Columns for `of_run`."""
    return [
        Column(key="boundary", label="Boundary"),
        Column(key="computed", label="Computed", kind="count"),
        Column(key="reused", label="Reused", kind="count"),
        Column(key="saved_s", label="Spared", kind="seconds"),
        Column(key="fused_with", label="Fused with", kind="count"),
    ]


def of_run(record: Record | None) -> list[str | float | None]:
    """Boundaries of the run's stages, activations, time spared, runs that it was fused with."""
    if record is None:
        return [None] * 5
    found = of([record])
    names = dict.fromkeys(stage.boundary for stage in record.stages if stage.boundary is not None)
    totals = _totals(found) if found.stored else [None] * 3
    return [", ".join(names) or None, *totals, len(record.fused_with)]


def _totals(found: ReuseSummary) -> list[float]:
    """Computed, reused and spared, of activations and inputs together."""
    both = (found.frozen, found.decoded)
    counts = [sum(each.computed for each in both), sum(each.reused for each in both)]
    return [*counts, math.fsum(each.saved_s for each in both)]


def _spared(saved_s: float) -> str:
    if abs(saved_s) < NO_TIME:
        return "no computing spared"
    if saved_s < 0:
        return f"{seconds(-saved_s)} more computing than without"
    return f"{seconds(saved_s)} of computing spared"


def _fused(study: StudyView, found: ReuseSummary) -> str:
    return f"{_share(study, found.fused)} trained as {counted(found.jobs, 'fused job')}"


def _share(study: StudyView, some: int) -> str:
    """`10 of 25 runs`; a run that belongs to two arms is one run."""
    return f"{some:,} of {counted(len({run.run for run in study.manifest.runs}), 'run')}"
