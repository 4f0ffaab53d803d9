"""The record of a run that has been trained and evaluated."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from tlx.config import changes
from tlx.config.signatures import constant
from tlx.results.record import Parameters, Record, Selected, SplitRecord, Value
from tlx.tasks.task import Report
from tlx.training.engine.course import Progress
from tlx.training.engine.fit import peak_memory_bytes
from tlx.training.session import Plan


def record_of(
    plan: Plan,
    folder: Path,
    progress: Progress,
    reports: Mapping[str, Report],
    wall_s: float,
    *,
    fused_with: tuple[str, ...] = (),
) -> Record:
    """The record of a run that has been trained and evaluated."""
    run = plan.run
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    stages = tuple(progress.stages)
    splits = {name: split_record(report) for name, report in reports.items()}
    trained = {name for span in plan.spans for name in span.stage.trains}
    sizes = {name: p.numel() for name, p in plan.model.network.named_parameters()}
    train_s = sum(stage.wall_s for stage in stages)
    return Record(
        run=folder.name,
        name=run.name or folder.name,
        status="finished",
        task=run.task.function,
        views=tuple(constant(run.task.module, "VIEWS") or ()),
        seed=run.seed,
        budget_steps=plan.pace.total_steps,
        used_steps=progress.step,
        stages=stages,
        splits=splits,
        parameters=Parameters(
            total=sum(sizes.values()),
            trainable=sum(size for name, size in sizes.items() if name in trained),
            by_stage={stage.name: stage.trainable for stage in stages},
        ),
        wall_s=max(wall_s, progress.wall_s),
        peak_memory_bytes=peak_memory_bytes(),
        samples_per_s=progress.step * plan.pace.batch_size / max(train_s, 1e-9),
        selected=_selected(plan, progress, splits),
        weights_id=plan.model.backbone.weights_id,
        lineage=tuple(facts.get("lineage", [])),
        fused_with=fused_with,
        cached=any(stage.boundary is not None for stage in stages),
        notes={**plan.splits.notes, **progress.notes, **_meanings(facts.get("changes"))},
    )


def _meanings(marks: Collection[str] | None) -> dict[str, dict[str, bool]]:
    """Of each change that is known whether it concerns a run; {} where its provenance is older."""
    if marks is None:
        return {}
    return {"changes": {known.mark: known.mark in marks for known in changes.CHANGES}}


def _selected(plan: Plan, progress: Progress, splits: Mapping[str, SplitRecord]) -> Selected | None:
    """What validation says of the weights that were kept; None where nothing was validated."""
    if progress.best_step is None or progress.best_value is None:
        return None
    selection = plan.selection
    value, step = progress.best_value, progress.best_step
    if selection.final == "last" and splits:  # other ranks report nothing
        value, step = splits["val"].metrics[selection.metric].value, progress.step
    place = max(i for i, stage in enumerate(progress.stages) if stage.start < step)
    return Selected(
        monitor=f"val/{selection.metric}",
        mode=selection.mode,
        value=value,
        step=step,
        stage=progress.stages[place].name,
        last_stage=place == len(plan.spans) - 1,
    )


def split_record(report: Report) -> SplitRecord:
    """A task's report as a part of the record."""
    values = {name: Value(**value) for name, value in report["metrics"].items()}
    confusion = report.get("confusion")
    return SplitRecord(
        n=report["n"],
        metrics=values,
        per_class=tuple(report.get("per_class", ())),
        confusion=tuple(tuple(row) for row in confusion) if confusion is not None else None,
        calibration=report.get("calibration", {}),
        invalid=report.get("invalid", 0),
        views=report.get("views", {}),
    )
