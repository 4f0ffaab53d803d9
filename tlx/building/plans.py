"""The plan of a run: everything that it needs, with weights and data loaded."""

from dataclasses import replace
from functools import partial

import torch

from tlx.backbones.backbone import Backbone
from tlx.building.budgets import check_warmup, layer_scales, pace, selection, stages
from tlx.building.calls import augmentations, instantiate, ready, regularization, splits
from tlx.building.networks import model
from tlx.building.rehearsals import check_parts, rehearse
from tlx.building.returned import check_features
from tlx.config.run import Option, Run
from tlx.config.solving import solves
from tlx.data.splits import Splits
from tlx.methods.stages import spans
from tlx.tasks.model import Model
from tlx.training.effects import Clipping, Penalty, Regularization
from tlx.training.engine import solve
from tlx.training.engine.course import Pace
from tlx.training.engine.module import Recipe
from tlx.training.optimizers import Lbfgs
from tlx.training.procedures import FitStages, SolveHead
from tlx.training.session import Plan, Procedure

SHAPING = ("layer_decay", "layer_decay_groups", "carry")
"""Keys of the optimizer node that shape its groups and its state between stages."""


def plan(run: Run, *, init: str) -> Plan:
    """Everything a run needs, with weights and data loaded; nothing is trained.

    Args:
        run: checked.
        init: where the trunk's weights come from: `hub`, `none` or a file.
    """
    effects = regularization(run)
    rehearsed = rehearse(run, effects)
    data = splits(run.dataset)
    check_parts(run, rehearsed, stages(run, rehearsed.layout), items=len(data.train))
    corpus = partial(data.inputs.corpus, data.train)
    made = model(run, data.labels, effects=effects, corpus=corpus, init=init)
    check_features(made, run.backbone)
    planned = _plan(run, ready(data, made.backbone.reads), made, effects)
    if run.trainer.channels_last:
        made.network.to(memory_format=torch.channels_last)
    return planned


def _plan(run: Run, data: Splits, made: Model, effects: Regularization) -> Plan:
    optimizer = run.optimizer
    exact: Lbfgs | None = instantiate(optimizer) if solves(run.optimizer.target) else None
    items = len(data.train)
    marks = pace(run.trainer, items) if exact is None else solve.pace(exact, items)
    frozen = run.frozen
    augments = augmentations(run)
    arguments = {k: v for k, v in optimizer.arguments.items() if k not in SHAPING}
    stepping = _without_fusion(Option(optimizer.target, arguments), run, effects)
    reads_anchor = any(part.reads_anchor for part in effects.of(Penalty).values())
    anchor = {
        f"backbone.{name}": parameter.detach().clone()
        for name, parameter in made.backbone.module.named_parameters()
    }
    recipe = Recipe(
        network=made.network,
        task=made.task,
        layout=made.layout,
        optimizer=partial(instantiate, stepping),
        schedule=instantiate(run.schedule),
        lr=0.0 if exact is not None else optimizer.arguments["lr"],
        effects=effects,
        layer_scales=layer_scales(optimizer, made),
        carry=optimizer.get("carry", "previous"),
        anchor=anchor if reads_anchor else {},
        mixing=tuple(a for a in augments if a.kind == "batch"),
        feature_mixing=tuple(a for a in augments if a.kind == "features"),
        norm_stats=frozen.norm_stats,
        frozen_dropout=frozen.dropout,
        seed=run.seed,
        accumulate=run.trainer.accumulate,
        compile=run.trainer.compile,
    )
    placed = spans(
        stages(run, made.layout),
        total_steps=marks.total_steps,
        steps_per_epoch=marks.steps_per_epoch,
    )
    check_warmup(recipe.schedule, placed)
    data = replace(data, notes=with_facts(data, made.backbone, run, marks))
    chosen = selection(run, made.task, effects)
    procedure: Procedure = FitStages() if exact is None else SolveHead(exact)
    return Plan(
        run=run,
        model=made,
        splits=data,
        spans=placed,
        pace=marks,
        selection=chosen,
        recipe=recipe,
        effects=effects,
        augmentations=augments,
        procedure=procedure,
    )


def sibling(plan: Plan, run: Run, *, effects: Regularization) -> Plan:
    """The plan of a run that differs from another's in how its head trains, on the same data.

    Raises:
        ValueError: its schedule does not fit the budget, or the task lacks what it monitors.
    """
    schedule = instantiate(run.schedule)
    check_warmup(schedule, plan.spans)
    recipe = replace(
        plan.recipe,
        schedule=schedule,
        lr=run.optimizer.arguments["lr"],
        effects=effects,
        seed=run.seed,
    )
    chosen = selection(run, plan.model.task, effects)
    return replace(plan, run=run, recipe=recipe, selection=chosen, effects=effects)


def with_facts(data: Splits, backbone: Backbone, run: Run, marks: Pace) -> dict[str, object]:
    """The notes on the data, with what a config does not tell of how it is read."""
    notes = dict(data.notes)
    if backbone.account:
        notes["weights"] = dict(backbone.account)
    asked = run.trainer.batch_size
    if not solves(run.optimizer.target) and marks.batch_size < asked:
        notes["batch_size"] = {"asked": asked, "used": marks.batch_size}
    return notes if backbone.noted is None else backbone.noted(notes, data.named)


def _without_fusion(option: Option, run: Run, effects: Regularization) -> Option:
    """Fused optimizers unscale gradients themselves, which clipping under fp16 cannot see."""
    clipped_half = run.trainer.precision == "16-mixed" and effects.of(Clipping)
    if clipped_half and "fused" in option.arguments:
        return Option(option.target, {**option.arguments, "fused": False})
    return option
