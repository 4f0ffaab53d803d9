"""What runs shared: activations of frozen parts, and jobs that trained several runs at once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tlx.report.data import Study
from tlx.report.formats import Column
from tlx.report.numbers import counted, seconds
from tlx.results.record import Record

NO_TIME = 0.05
"""Seconds that would be shown as 0.0 s."""


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """What some runs computed, reused and fused.

    Attributes:
        cached: runs that trained from stored activations.
        computed: activations that were computed for them.
        reused: activations that they found in the store.
        saved_s: seconds of computing that the store spared them; negative where it cost some.
        fused: runs that trained in a job with others.
        jobs: such jobs.
    """

    cached: int
    computed: int
    reused: int
    saved_s: float
    fused: int
    jobs: int


def of(records: Iterable[Record]) -> Reuse:
    """What these runs shared; a job counts once, however many of its runs are there."""
    found = list(records)
    stages = [stage for record in found for stage in record.stages]
    fused = [record for record in found if record.fused_with]
    return Reuse(
        cached=sum(record.cached for record in found),
        computed=sum(stage.computed for stage in stages),
        reused=sum(stage.reused for stage in stages),
        saved_s=math.fsum(stage.saved_s for stage in stages),
        fused=len(fused),
        jobs=len({frozenset((record.run, *record.fused_with)) for record in fused}),
    )


def line(study: Study) -> str:
    """What all runs of a study shared, in a line; empty where they shared nothing."""
    found = of(study.records.values())
    parts = []
    if found.cached:
        parts.append(
            f"frozen parts: {counted(found.computed, 'activation')} computed, "
            f"{found.reused:,} reused, {_spared(found.saved_s)}"
        )
    if found.jobs:
        parts.append(_fused(study, found))
    return "; ".join(parts)


def sentences(study: Study) -> str:
    """The same for the page; empty where runs shared nothing."""
    found = of(study.records.values())
    texts = []
    if found.cached:
        texts.append(
            f"{_share(study, found.cached)} trained from stored activations of frozen parts: "
            f"{found.computed:,} were computed, {found.reused:,} found in the store; "
            f"{_spared(found.saved_s)}."
        )
    if found.jobs:
        texts.append(f"{_fused(study, found)}; what fusing itself saves is not measured.")
    return " ".join(texts)


def hint(record: Record | None) -> str | None:
    """How a run came by its training in two or three words; None for a run of its own."""
    if record is None:
        return None
    parts = ["cached"] if record.cached else []
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
    """Means of activations and of the time spared, then runs that were fused and their jobs.

    None stands where no run was cached, or fused.
    """
    there = list(records)
    found = of(there)
    totals = (found.computed, found.reused, found.saved_s)
    means = [total / len(there) if found.cached else None for total in totals]
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
    activations = [found.computed, found.reused, found.saved_s] if found.cached else [None] * 3
    return [", ".join(names) or None, *activations, len(record.fused_with)]


def _spared(saved_s: float) -> str:
    if abs(saved_s) < NO_TIME:
        return "no computing spared"
    if saved_s < 0:
        return f"{seconds(-saved_s)} more computing than without"
    return f"{seconds(saved_s)} of computing spared"


def _fused(study: Study, found: Reuse) -> str:
    return f"{_share(study, found.fused)} trained as {counted(found.jobs, 'fused job')}"


def _share(study: Study, some: int) -> str:
    """`10 of 25 runs`; a run that belongs to two arms is one run."""
    return f"{some:,} of {counted(len({run.run for run in study.manifest.runs}), 'run')}"
