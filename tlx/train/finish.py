"""What a run leaves: loggers, provenance, predictions, weights."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tlx.base import durable
from tlx.base.shown import Lines, Making, Pictures, Shown
from tlx.building.calls import instantiate
from tlx.config.run import Run
from tlx.data.splits import Split, raw_of
from tlx.execution import runs
from tlx.results import predictions
from tlx.tasks.task import WHOLE_ITEMS, Collected, Report
from tlx.training.logs.run_logger import RunInfo, RunLogger
from tlx.training.session import Plan

SAMPLES = 8
"""Training items that loggers are given."""


def loggers_of(run: Run, folder: Path) -> tuple[RunLogger, ...]:
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
    return tuple(instantiate(option, info) for option in run.logger.values())


def note_inputs(folder: Path, plan: Plan) -> None:
    """Adds to a run's provenance what it really read."""
    path = folder / "provenance.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["data_fingerprint"] = plan.splits.fingerprint
    facts["weights_id"] = plan.model.backbone.weights_id
    facts["backbone"] = list(plan.model.backbone.notes)
    facts["threads"] = torch.get_num_threads()
    runs.write_json(path, facts)


def write_predictions(
    folder: Path, name: str, split: Split, plan: Plan, collected: Collected
) -> None:
    """What the task says of a split: a line an item in NAME.csv, and its further files beside."""
    task, raw = plan.model.task, raw_of(split)
    columns = dict(task.columns(collected))
    if task.reads == WHOLE_ITEMS and (texts := _as_text(raw, plan.splits.inputs.shown)) is not None:
        columns[predictions.ITEM] = texts
    path = folder / "predictions" / f"{name}.csv"
    predictions.write(path, split.ids, columns)
    for ending, text in task.files(collected, raw).items():
        predictions.write_text(path.with_suffix(ending), text)


def _as_text(raw: Split, show: Callable[[object], object]) -> list[str] | None:
    """Each item as a line of text; None where the first one is none."""
    if not len(raw) or not isinstance(show(raw[0]["input"]), str):
        return None
    return [str(show(raw[index]["input"])) for index in range(len(raw))]


def save_weights(folder: Path, plan: Plan, state: Mapping[str, Tensor]) -> None:
    """The final network, for runs that start from it, prediction and export."""
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    backbone, export = plan.model.backbone, plan.model.backbone.export
    facts = {
        "labels": plan.splits.labels.names,
        "kind": plan.splits.labels.kind,
        "input_spec": backbone.reads.plain() | ({} if backbone.head_bias else {"head_bias": False}),
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


def show(loggers: Sequence[RunLogger], plan: Plan, reports: Mapping[str, Report]) -> None:
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
    views["train/samples"] = partial(samples, plan)
    for logger in loggers:
        logger.log_summary(summary)
        for key, make in views.items():
            logger.log_view(key, make)


def samples(plan: Plan) -> Shown | None:
    """The first training items, with what is asked of them; None where they cannot be shown."""
    targets, raw = plan.model.task.targets, raw_of(plan.splits.train)
    items = [raw[index] for index in range(min(SAMPLES, len(raw)))]
    inputs = [plan.splits.inputs.shown(item["input"]) for item in items]
    if any(each is None for each in inputs):
        return None
    captions = [targets.written(item["target"]) for item in items]
    if all(isinstance(each, str) for each in inputs):
        return Lines(("input", "target"), list(zip(inputs, captions, strict=True)))
    return Pictures(inputs, captions)
