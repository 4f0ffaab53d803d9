"""One run on one rank: from a frozen config through training and evaluation to its Record."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from tlx import build
from tlx.base import durable, interrupts
from tlx.base.ends import Interrupted
from tlx.base.shown import Lines, Making, Pictures, Shown
from tlx.build import Plan
from tlx.config import changes
from tlx.config.run import Run
from tlx.config.signatures import constant
from tlx.data.splits import Split
from tlx.execution import launch, runs
from tlx.execution.teachers import references_of
from tlx.results import kept_weights, predictions, record
from tlx.results.record import Parameters, Record, Selected, SplitRecord, StageRecord, Value
from tlx.tasks.task import WHOLE_ITEMS, Collected
from tlx.training.collect import Collector, broadcast
from tlx.training.effects import Averaging, Callbacks, Clipping
from tlx.training.engine import pruning, sharding
from tlx.training.engine import solve as probe
from tlx.training.engine.course import Course, Progress
from tlx.training.engine.fit import fit, peak_memory_bytes
from tlx.training.engine.module import TransferModule
from tlx.training.engine.patience import Patience
from tlx.training.engine.trainer import make_trainer
from tlx.training.loaders import Share
from tlx.training.logs import tables
from tlx.training.logs.loggers import RunInfo
from tlx.training.logs.progress import Display
from tlx.training.logs.run_logger import RunLogger
from tlx.training.reuse.source import Reuse

SAMPLES = 8
"""Training items that loggers are given."""

START = "start.json"
"""Beside a run's checkpoints: what its starting weights were found to be."""


def train(run: Run, folder: Path, *, init: str, rank: int, world: int) -> Record:
    """Trains and evaluates; rank 0 writes everything.

    Args:
        run: its config.
        folder: of the run.
        init: `hub`, `none` or a file of weights.
        rank: of this process.
        world: number of processes.
    """
    started = time.monotonic()
    torch.use_deterministic_algorithms(run.trainer.deterministic, warn_only=True)
    plan = build.plan(run, init=init)
    launch.same_everywhere("data", plan.splits.fingerprint)
    launch.same_everywhere("starting weights", plan.model.backbone.weights_id)
    loggers = loggers_of(run, folder) if rank == 0 else []
    trainer = trainer_of(run, folder, plan, loggers)
    prepare_network(run, plan)
    module = TransferModule(
        plan.recipe, total_steps=plan.pace.total_steps, references=references_of(run, plan)
    )
    module.at_once.halves = run.trainer.on_oom == "halve"
    if rank == 0:
        note_inputs(folder, plan)
        for line in plan.model.backbone.notes:
            print(line)
        print(tables.overview(folder.name, plan.splits, plan.pace, plan.spans), flush=True)
        if plan.exact is None:
            print(tables.groups_table(plan.recipe, plan.spans, module), flush=True)
        else:
            print(tables.penalties(plan.exact), flush=True)
    status = "failed"
    try:
        reuse = build.reuse(run, plan, trainer, module)
        share = Share(rank, world)
        start = evaluate_start(run, plan, trainer, module, folder, share=share)
        progress = _fit(run, folder, plan, trainer, module, share=share, reuse=reuse)
        found = evaluate(run, plan, trainer, module, folder, share=share, reuse=reuse)
        found |= start
        write_generated(run, folder, plan, trainer)
        progress.notes |= module.at_once.notes()
        made = record_of(run, folder, plan, progress, found, time.monotonic() - started)
        state = sharding.on_cpu(plan.model.network.state_dict())
        if rank == 0:
            save_weights(folder, plan, state)
            show(loggers, plan, found)
            made = record.write_finished(folder, made, weights=run.keep != "record")
            kept = kept_weights.sentence(made)
            print(tables.result(made, folder, kept=kept), flush=True)
        launch.wait_for_all()
        status = "finished"
    except BaseException as error:
        if isinstance(error, (Interrupted, interrupts.Stopped, KeyboardInterrupt)):
            status = "interrupted"
        raise
    finally:
        for logger in loggers:
            with interrupts.given_up_on_request():  # W&B may wait for its server
                logger.finish(status)
    return made


def loggers_of(run: Run, folder: Path) -> list[Any]:
    """The run's loggers."""
    info = RunInfo(
        id=folder.name,
        dir=folder,
        name=run.name or folder.name,
        group=run.group,
        job_type=run.arm or run.freeze_strategy.function,
        tags=tuple(run.tags or (run.dataset.function, run.backbone.get("name", ""))),
        config=dict(run.plain),
    )
    return [build.instantiate(option, info) for option in run.logger.values()]


def trainer_of(run: Run, folder: Path, plan: Plan, loggers: list[Any]) -> pl.Trainer:
    """The Lightning Trainer of a run."""
    trainer = run.trainer
    callbacks = [each for part in plan.effects.of(Callbacks).values() for each in part.callbacks]
    if trainer.devices * trainer.nodes > 1:
        callbacks.append(Patience(trainer.timeout_minutes))
    return make_trainer(
        folder=folder,
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        nodes=trainer.nodes,
        strategy=trainer.strategy,
        precision=trainer.precision,
        accumulate=trainer.accumulate,
        grad_clip=plan.effects.value(Clipping, None),
        deterministic=trainer.deterministic,
        loggers=loggers,
        callbacks=callbacks,
    )


def prepare_network(run: Run, plan: Plan) -> None:
    """Lays out the network's memory as the config says (a mutator)."""
    if run.trainer.channels_last:
        plan.model.network.to(memory_format=torch.channels_last)


def note_inputs(folder: Path, plan: Plan) -> None:
    """Adds to a run's provenance what it really read."""
    path = folder / "provenance.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["data_fingerprint"] = plan.splits.fingerprint
    facts["weights_id"] = plan.model.backbone.weights_id
    facts["backbone"] = list(plan.model.backbone.notes)
    facts["threads"] = torch.get_num_threads()
    runs.write_json(path, facts)


def identity(folder: Path, plan: Plan) -> dict[str, str]:
    """What a checkpoint of a run must agree on."""
    return {
        "run": folder.name,
        "data": plan.splits.fingerprint,
        "weights": plan.model.backbone.weights_id,
    }


def _identity_of(module: TransferModule) -> dict[str, str]:
    return {} if module.references is None else module.references.identity()


def _fit(
    run: Run,
    folder: Path,
    plan: Plan,
    trainer: pl.Trainer,
    module: TransferModule,
    *,
    share: Share,
    reuse: Reuse | None,
) -> Progress:
    display = Display(
        total_steps=plan.pace.total_steps,
        stages=[span.stage.name for span in plan.spans],
        metric=plan.selection.metric,
        silent=share.rank != 0,
        file=folder / runs.PROGRESS if share.rank == 0 else None,
    )
    whole = Share()
    recalibrated = run.frozen.norm_stats == "recalibrate"

    def batches() -> Any:
        for batch in build.eval_loader(run, plan, plan.splits.train, whole):
            yield batch["input"]

    if reuse is not None:
        reuse.say = display.line
    with display:
        if plan.exact is not None and reuse is not None:
            return probe.fit(
                trainer,
                module,
                exact=plan.exact,
                course=Course(plan.spans, pace=plan.pace, selection=plan.selection),
                reuse=reuse,
                display=display,
                sparse=plan.model.backbone.sparse,
                recalibrate=batches if recalibrated else None,
            )
        return fit(
            trainer,
            module,
            spans=plan.spans,
            pace=plan.pace,
            selection=plan.selection,
            train_loader=build.train_loader(run, plan, share),
            val_loader=build.eval_loader(run, plan, plan.splits.val, share),
            folder=folder / "checkpoints",
            identity=identity(folder, plan) | _identity_of(module),
            display=display,
            averaging=plan.effects.only(Averaging),
            recalibrate=batches if recalibrated else None,
            pruner=pruning.hook(folder, every=plan.pace.eval_every) if share.rank == 0 else None,
            reuse=reuse,
            on_oom=run.trainer.on_oom,
        )


def evaluate_start(
    run: Run,
    plan: Plan,
    trainer: pl.Trainer,
    module: TransferModule,
    folder: Path,
    *,
    share: Share,
) -> dict[str, dict[str, Any]]:
    """Figures of the starting weights on the data that they come from, by `NAME_before`.

    They are kept beside the checkpoints: a run that goes on has those that it began with.
    """
    name = plan.splits.source
    if name is None:
        return {}
    path, said = folder / "checkpoints" / START, identity(folder, plan)
    kept = broadcast(_known_start(path, said))
    if kept is not None:
        reports: dict[str, dict[str, Any]] = kept["reports"]
        return reports
    split, before = plan.splits.extra[name], f"{name}_before"
    collected = collect(trainer, module, build.eval_loader(run, plan, split, share))
    if collected is None:
        return {}
    reports = {before: _reported(before, split, plan, collected, folder)}
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(path, {"identity": said, "reports": reports})
    return reports


def _known_start(path: Path, said: Mapping[str, str]) -> dict[str, Any] | None:
    """What an earlier launch found of the starting weights; None: they are to be evaluated."""
    try:
        known = runs.read_json(path)
    except runs.RunError:  # damaged; what is found anew is the same
        return None
    return known if known.get("identity") == said and "reports" in known else None


def evaluate(
    run: Run,
    plan: Plan,
    trainer: pl.Trainer,
    module: TransferModule,
    folder: Path,
    *,
    share: Share,
    reuse: Reuse | None = None,
) -> dict[str, dict[str, Any]]:
    """Final figures of every evaluation split; predictions are written beside (rank 0)."""
    reports = {}
    named = {"val": plan.splits.val, "test": plan.splits.test, **plan.splits.extra}
    for name, split in named.items():
        loader = build.eval_loader(run, plan, split, share)
        if reuse is not None:
            loader = reuse.evaluation_loader(split, loader)
        collected = collect(trainer, module, loader)
        if collected is None:
            continue
        reports[name] = _reported(name, split, plan, collected, folder)
    return reports


def _reported(
    name: str, split: Split, plan: Plan, collected: Collected, folder: Path
) -> dict[str, Any]:
    """Figures of a split, whose predictions are written unless it is `val`."""
    if name != "val":
        write_predictions(folder, name, split, plan, collected)
    report: dict[str, Any] = plan.model.task.report(collected)
    return report


def collect(trainer: pl.Trainer, module: TransferModule, loader: Any) -> Collected | None:
    """Outputs of a whole split, on rank 0."""
    module.collector = Collector(module.recipe.task)
    trainer.validate(module, loader, verbose=False)
    return module.collector.finish()


def write_predictions(
    folder: Path, name: str, split: Split, plan: Plan, collected: Collected
) -> None:
    """What the task says of a split: a line an item in NAME.csv, and its further files beside."""
    task, raw = plan.model.task, getattr(split, "raw", split)
    columns = dict(task.columns(collected))
    if task.reads == WHOLE_ITEMS and (texts := _as_text(raw, plan.splits.shown)) is not None:
        columns["text"] = texts
    path = folder / "predictions" / f"{name}.csv"
    predictions.write(path, split.ids, columns)
    for ending, text in task.files(collected, raw).items():
        predictions.write_text(path.with_suffix(ending), text)


def _as_text(raw: Split, show: Callable[[Any], Any] | None) -> list[str] | None:
    """Each item as a line of text; None where the first one is none."""
    if show is None or not len(raw) or not isinstance(show(raw[0]["input"]), str):
        return None
    return [show(raw[index]["input"]) for index in range(len(raw))]


def write_generated(run: Run, folder: Path, plan: Plan, trainer: pl.Trainer) -> None:
    """What the network makes of the test split; all ranks compute, rank 0 writes."""
    network = plan.model.network.to(trainer.strategy.root_device)
    files = plan.model.task.generated(
        network, plan.splits.test, plan.model.backbone.input_spec, seed=run.seed
    )
    for name, text in files.items() if trainer.is_global_zero else ():
        predictions.write_text(folder / "predictions" / name, text)


def record_of(
    run: Run,
    folder: Path,
    plan: Plan,
    progress: Progress,
    reports: Mapping[str, dict[str, Any]],
    wall_s: float,
    *,
    fused_with: tuple[str, ...] = (),
) -> Record:
    """The record of a run that has been trained and evaluated."""
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    keep = {f.name for f in fields(StageRecord)}
    stages = tuple(
        StageRecord(**{k: v for k, v in stage.items() if k in keep}) for stage in progress.stages
    )
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
        splits={name: split_record(report) for name, report in reports.items()},
        parameters=Parameters(
            total=sum(sizes.values()),
            trainable=sum(size for name, size in sizes.items() if name in trained),
            by_stage={stage.name: stage.trainable for stage in stages},
        ),
        wall_s=max(wall_s, progress.wall_s),
        peak_memory_bytes=peak_memory_bytes(),
        samples_per_s=progress.step * plan.pace.batch_size / max(train_s, 1e-9),
        selected=_selected(plan, progress, reports),
        weights_id=plan.model.backbone.weights_id,
        lineage=tuple(facts.get("lineage", [])),
        fused_with=fused_with,
        cached=any(stage.boundary is not None for stage in stages),
        notes={**plan.splits.notes, **progress.notes, **_meanings(facts)},
    )


def _meanings(facts: Mapping[str, Any]) -> dict[str, dict[str, bool]]:
    """Of each change that is known whether it concerns a run; {} where its provenance is older."""
    if "changes" not in facts:
        return {}
    return {"changes": {known.mark: known.mark in facts["changes"] for known in changes.CHANGES}}


def _selected(
    plan: Plan, progress: Progress, reports: Mapping[str, Mapping[str, Any]]
) -> Selected | None:
    """What validation says of the weights that were kept; None where nothing was validated."""
    if progress.best_step is None or progress.best_value is None:
        return None
    selection = plan.selection
    value, step = progress.best_value, progress.best_step
    if selection.final == "last" and reports:  # other ranks report nothing
        value, step = reports["val"]["metrics"][selection.metric]["value"], progress.step
    place = max(i for i, stage in enumerate(progress.stages) if stage["start"] < step)
    return Selected(
        monitor=f"val/{selection.metric}",
        mode=selection.mode,
        value=value,
        step=step,
        stage=progress.stages[place]["name"],
        last_stage=place == len(plan.spans) - 1,
    )


def split_record(report: Mapping[str, Any]) -> SplitRecord:
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


def save_weights(folder: Path, plan: Plan, state: Mapping[str, Tensor]) -> None:
    """The final network, for runs that start from it, prediction and export."""
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    export = plan.model.backbone.export
    facts = {
        "labels": plan.splits.labels.names,
        "kind": plan.splits.labels.kind,
        "input_spec": dict(plan.model.backbone.input_spec),
        "adapters": export.get("adapters"),
        "network": {k: v for k, v in export.items() if k in ("name", "kwargs")},
    }
    # synced with all else that the run leaves, before its record
    needs = sum(tensor.nbytes for tensor in state.values())
    with durable.replacing(folder / runs.WEIGHTS, needs=needs, sync=False) as temporary:
        save_file(state, temporary, metadata={"tlx": json.dumps(facts)})


def save_weights_like(folder: Path, other: Path, changed: Mapping[str, Tensor]) -> None:
    """The final network of a run that differs from another's in a few tensors only.

    Args:
        folder: of the run.
        other: of the run whose network is copied.
        changed: the tensors that differ, of the same dtypes and shapes.
    """
    with (
        durable.replacing(folder / runs.WEIGHTS, sync=False) as temporary,
        open(temporary, "r+b") as file,
    ):
        shutil.copyfile(other / runs.WEIGHTS, temporary)
        # the format: length of the header, the header, then the tensors
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, tensor in changed.items():
            begin, end = header[name]["data_offsets"]
            data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            assert len(data) == end - begin, name
            file.seek(8 + length + begin)
            file.write(data)


def show(
    loggers: Sequence[RunLogger], plan: Plan, reports: Mapping[str, Mapping[str, Any]]
) -> None:
    """Final figures, a few items, and what the task has to show, for the loggers that show them."""
    summary = {
        f"{split}/{name}": value["value"]
        for split, report in reports.items()
        for name, value in report["metrics"].items()
    }
    views: dict[str, Making] = {}
    if "test" in reports:
        shown = plan.model.task.shown(reports["test"])
        views = {f"test/{name}": make for name, make in shown.items()}
    for logger in loggers:
        logger.log_summary(summary)
        for key, make in {**views, "train/samples": partial(samples, plan)}.items():
            logger.log_view(key, make)


def samples(plan: Plan) -> Shown | None:
    """The first training items, with what is asked of them; None where they cannot be shown."""
    show, targets = plan.splits.shown, plan.model.task.targets
    if show is None:
        return None
    raw = getattr(plan.splits.train, "raw", plan.splits.train)
    items = [raw[index] for index in range(min(SAMPLES, len(raw)))]
    inputs = [show(item["input"]) for item in items]
    captions = [targets.written(item["target"]) for item in items]
    if all(isinstance(each, str) for each in inputs):
        return Lines(("input", "target"), list(zip(inputs, captions, strict=True)))
    return Pictures(inputs, captions)
