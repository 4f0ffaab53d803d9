"""Stages, budget, schedule and selection of a run."""

from collections.abc import Sequence

from tlx.building import returned
from tlx.building.calls import instantiate
from tlx.config.run import Option, Run
from tlx.config.schema import Trainer
from tlx.methods import freezing, strategies
from tlx.methods.schedules import Schedule
from tlx.methods.stages import Layout, Span, Stage
from tlx.tasks.model import Model
from tlx.tasks.task import Task
from tlx.training.effects import Regularization, Stopping
from tlx.training.engine.course import Pace, Selection


def stages(run: Run, plan: Layout) -> tuple[Stage, ...]:
    """The stages of the freeze strategy, with the frozen part's knobs applied."""
    made = returned.as_stages(instantiate(run.freeze_strategy, plan), plan, run.freeze_strategy)
    frozen = run.frozen
    return strategies.with_modes(
        made, plan, norm_affine=frozen.norm_affine, embeddings=frozen.embeddings
    )


def pace(trainer: Trainer, items: int) -> Pace:
    """The budget and its marks in optimizer steps, for a training split of `items` items.

    Raises:
        ValueError: there is nothing to train on, or the batch does not divide.
    """
    parts = trainer.devices * trainer.nodes * trainer.accumulate
    batch = min(trainer.batch_size, items)
    if batch < parts:
        raise ValueError(
            f"the training split has {items} items, fewer than trainer.devices × nodes × "
            f"accumulate = {parts}: lower these"
        )
    per_epoch = max(items // batch, 1)
    total = trainer.steps or max(round((trainer.epochs or 0) * per_epoch), 1)
    every_epochs = trainer.eval_every_epochs or 1
    every = trainer.eval_every_steps or max(round(every_epochs * per_epoch), 1)
    return Pace(
        total_steps=total,
        steps_per_epoch=per_epoch,
        batch_size=batch,
        eval_every=min(every, total),
        checkpoint_every=trainer.checkpoint_every_steps,
        log_every=trainer.log_every_steps,
    )


def selection(run: Run, task: Task, effects: Regularization) -> Selection:
    """What validation decides: the config's monitor, or the task's own."""
    metric = (run.monitor or f"val/{task.monitor}").removeprefix("val/")
    if metric not in task.directions:
        raise ValueError(f"monitor=val/{metric}: the task has {', '.join(task.directions)}")
    return Selection(
        metric=metric,
        mode=task.directions[metric],
        final=run.final_weights,
        select_from=run.select_from,
        early_stopping=effects.only(Stopping),
    )


def layer_scales(optimizer: Option, made: Model) -> dict[str, float]:
    """Learning-rate scales of layer-wise decay by parameter name; empty where it is off."""
    decay = optimizer.get("layer_decay", 1.0)
    if decay == 1.0:
        return {}
    if optimizer.get("layer_decay_groups", "fine") == "coarse":
        coarse = made.layout.groups
        return freezing.layer_decay_scales(coarse, coarse[-1].level, decay)
    return freezing.layer_decay_scales(made.layout.fine_groups, made.head_level, decay)


def check_warmup(schedule: Schedule, placed: Sequence[Span]) -> None:
    """Passes a schedule that reaches the base learning rate within the run, or each stage.

    Raises:
        ValueError: it does not.
    """
    if schedule.scope == "run":
        schedule.check(placed[-1].end, of="the run")
    else:
        for span in placed:
            schedule.check(span.end - span.start, of=f"stage {span.stage.name!r}")
