"""A run without weights and data: cheap, and finds most mistakes."""

import sys
from collections.abc import Iterable, Sequence

import torch

from tlx.building.budgets import check_warmup, selection, stages
from tlx.building.calls import augmentations, function_of, instantiate
from tlx.building.networks import _before_surgery, _operated
from tlx.config.run import Option, Run
from tlx.config.signatures import constant
from tlx.config.solving import solves
from tlx.data.augment import Augmentation
from tlx.data.splits import Labels
from tlx.methods.schedules import Schedule
from tlx.methods.stages import Stage, spans
from tlx.tasks.model import Model
from tlx.tasks.task import WHOLE_ITEMS
from tlx.training.effects import Regularization, Setting
from tlx.training.engine import batch_norm


def rehearse(run: Run, effects: Regularization) -> Model:
    """The network without weights, whose stages are planned: cheap, finds most mistakes.

    Raises:
        ValueError: a rule matches no parameter, a library refuses its arguments, ...
    """
    with torch.device("meta"):
        made = _before_surgery(run, _stand_in(run.task), effects=effects, init="none")
    selection(run, made.task, effects)
    augments = augmentations(run)
    _check_feature_mixing(augments, made)
    effects.check(setting(run, made, stages(run, made.layout), augments))
    with torch.device("meta"):
        made = _operated(made, effects)
    planned = stages(run, made.layout)
    check_parts(run, made, planned)
    _check_budget(run, planned)
    return made


def _stand_in(task: Option) -> Labels:
    """Labels such as a task may get: what those of the data are is not known yet."""
    module = sys.modules[function_of(task).__module__]
    make = getattr(module, "stand_in", None)
    if make is None:
        kind = constant(task.module, "KIND")
        if kind is None:
            raise ValueError(
                f"task: {task.module} says in no literal KIND what labels {task.function} is for; "
                "add one, as KIND = 'single'"
            )
        return Labels(kind, ("0", "1"))
    labels: Labels = make(**task.arguments)
    return labels


def _check_budget(run: Run, planned: Sequence[Stage]) -> None:
    """Raises ValueError where steps are too few; how many epochs have, the data will tell."""
    schedule: Schedule = instantiate(run.schedule)
    total = run.trainer.steps
    if total is None or solves(run.optimizer.target):
        return
    if any(stage.until.epochs is not None for stage in planned):
        return
    check_warmup(schedule, spans(planned, total_steps=total, steps_per_epoch=1))


def check_parts(
    run: Run, made: Model, planned: Sequence[Stage], *, items: int | None = None
) -> None:
    """Raises ValueError where batch norm of a network without weights trains on single values."""
    if solves(run.optimizer.target):
        from tlx.training.engine.solve import linear_head, solver_of  # slow to import

        linear_head(made.network.head, planned)
        solver_of(made.task)
    else:
        batch_norm.check(
            made.network,
            planned,
            reads=made.backbone.reads,
            trainer=run.trainer,
            norm_stats=run.frozen.norm_stats,
            items=items,
        )


def setting(
    run: Run, made: Model, planned: Sequence[Stage], augments: Iterable[Augmentation]
) -> Setting:
    """What the parts of regularization are asked to fit."""
    trainer = run.trainer
    return Setting(
        task=made.task,
        backbone=made.backbone,
        network=made.network,
        stages=planned,
        norm_stats=run.frozen.norm_stats,
        feature_mixing=[each.name for each in augments if each.kind == "features"],
        ranks=trainer.devices * trainer.nodes,
        accumulate=trainer.accumulate,
        precision=trainer.precision,
        sharded=trainer.strategy == "fsdp",
    )


def _check_feature_mixing(augments: Iterable[Augmentation], made: Model) -> None:
    """Raises ValueError where features cannot be mixed."""
    name = next((a.name for a in augments if a.kind == "features"), None)
    if name is None:
        return
    if made.task.reads != WHOLE_ITEMS:
        raise ValueError(
            f"augmentation.{name} blends the features of whole items, and the task reads one "
            f"vector a {made.task.reads}: leave it out"
        )
