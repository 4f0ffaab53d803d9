"""Typed config to objects: the only caller of `instantiate`."""

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from tlx.backbones.adapters.peft import PROMPTS, adapted
from tlx.backbones.backbone import ArgumentRefused, Backbone, Reading
from tlx.config.check import allowed_targets
from tlx.config.places import options_with
from tlx.config.run import Option, Run
from tlx.config.schema import Trainer
from tlx.config.signatures import constant, signature
from tlx.config.solving import solves
from tlx.data.augment import IN_STEP, Augmentation
from tlx.data.splits import Labels, Split, Splits
from tlx.data.text.inputs import with_spelling
from tlx.frozen.store import Store
from tlx.methods import adapters, freezing, strategies
from tlx.methods.order import Order
from tlx.methods.schedules import Schedule
from tlx.methods.stages import Group, Layout, Span, Stage, spans
from tlx.tasks.kept_heads import keep_head
from tlx.tasks.task import WHOLE_ITEMS, Network, Task
from tlx.training.effects import Clipping, Penalty, Regularization, Setting, Stopping, Surgery
from tlx.training.engine import batch_norm
from tlx.training.engine import solve as probe
from tlx.training.engine.course import Pace, Selection
from tlx.training.engine.module import Recipe, TransferModule
from tlx.training.loaders import Encoded, EvalBatches, Share, StepBatches, loader
from tlx.training.optimizers import Lbfgs
from tlx.training.reuse.source import Reuse, Wishes
from tlx.training.reuse.transform import draws, transform

STORE = ".cache"
"""Folder of the store of activations, in the folder of runs."""

SHAPING = ("layer_decay", "layer_decay_groups", "carry")
"""Keys of the optimizer node that shape its groups and its state between stages."""


def instantiate(option: Option, *supplied: Any, **override: Any) -> Any:
    """Calls an option's function with its arguments, after the supplied positional ones.

    Raises:
        ValueError: the target is not allowed, or is not the function that its name says.
    """
    target = option.target
    if target not in allowed_targets():
        raise ValueError(f"_target_: {target} is not allowed; see `tlx list targets`")
    module, _, name = target.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    if (function.__module__, function.__qualname__) != (module, name):
        raise ValueError(f"_target_: {target} is {function.__module__}.{function.__qualname__}")
    return function(*supplied, **{**option.arguments, **override})


@dataclass(frozen=True)
class Model:
    """A network, and what training and export must know about it."""

    backbone: Backbone
    task: Task
    network: Network
    layout: Layout
    head_level: int


@dataclass(frozen=True)
class Plan:
    """A run as objects, before anything is trained."""

    model: Model
    splits: Splits
    spans: tuple[Span, ...]
    pace: Pace
    selection: Selection
    recipe: Recipe
    effects: Regularization
    augmentations: tuple[Augmentation, ...]
    exact: Lbfgs | None = None  # the head is solved, not trained


def splits(dataset: Option) -> Splits:
    """The data of a run, as it comes from its source."""
    made: Splits = instantiate(dataset)
    return made


def ready(data: Splits, spec: Mapping[str, Any]) -> Splits:
    """The data, ready for what a backbone reads: texts tokenised.

    Raises:
        ValueError: the backbone reads something else.
    """
    kind = "text" if data.prepare is not None else "image"
    if spec.get("kind", kind) != kind:
        raise ValueError(
            f"the data is {kind}, the backbone reads {spec['kind']}; choose another backbone, or "
            "another dataset (tlx list backbone, tlx list dataset)"
        )
    return data if data.prepare is None else data.prepare(spec)


def regularization(run: Run) -> Regularization:
    """The effects of all regularization options."""
    return Regularization({name: instantiate(each) for name, each in run.regularization.items()})


def augmentations(run: Run) -> tuple[Augmentation, ...]:
    """The augmentations, in the order of the config."""
    return tuple(instantiate(each) for each in run.augmentation.values())


def model(
    run: Run,
    labels: Labels,
    *,
    effects: Regularization,
    texts: Callable[[], Iterable[str]] | None = None,
    tokenizer: str | None = None,
    saved: Mapping[str, Any] | None = None,
    **backbone: Any,
) -> Model:
    """Backbone, task, head and layout; the head is drawn from the run's seed.

    Args:
        run: its config.
        labels: of the data.
        effects: of the regularization.
        texts: of training, from which a vocabulary may be learnt.
        tokenizer: of a finished run, instead.
        saved: `input_spec` of a finished run, which holds how its texts were read.
        backbone: arguments that replace the config's, `init`.
    """
    bare = _before_surgery(
        run, labels, effects=effects, texts=texts, tokenizer=tokenizer, saved=saved, **backbone
    )
    made = _operated(bare, effects)
    keep_kept_head(run, made.network.head, made.backbone, init=backbone.get("init"))
    return made


def _before_surgery(
    run: Run,
    labels: Labels,
    *,
    effects: Regularization,
    texts: Callable[[], Iterable[str]] | None = None,
    tokenizer: str | None = None,
    saved: Mapping[str, Any] | None = None,
    **backbone: Any,
) -> Model:
    """As `model`, of which the effects change nothing yet but its arguments."""
    _check_task(run, labels)
    task: Task = instantiate(run.task, labels)
    told = _told(run.backbone, Reading(task.reads, texts, tokenizer))
    torch.manual_seed(run.seed)
    trunk = _trunk(run.backbone, told, effects, backbone)
    spec = {**trunk.input_spec, **task.input_spec}
    asked = effects.arguments("head")
    of_before = saved is not None and "head_bias" not in saved
    if solves(run.optimizer.target) or "bias" in asked or of_before:  # these heads have a bias
        spec.pop("head_bias", None)
    if saved is not None and "begins" in spec:
        # runs of before read texts behind the end token, and have no counts of characters
        spec |= {"begins": saved.get("begins", False), "spelling": saved.get("spelling")}
    trunk = replace(trunk, input_spec=with_spelling(spec, texts))
    trunk = with_adapters(trunk, run.freeze_strategy, seed=run.seed)
    head = new_head(run, task, trunk, effects=effects)
    network = Network(trunk.module, head, trunk.features)
    return Model(trunk, task, network, layout(network, trunk), trunk.head_level)


def _operated(made: Model, effects: Regularization) -> Model:
    """The model after all surgery, in the order of the options (a mutator of its network)."""
    surgery = effects.of(Surgery)
    for part in surgery.values():
        part.operate(made.network, made.backbone)
    return replace(made, layout=layout(made.network, made.backbone)) if surgery else made


def _trunk(
    option: Option,
    told: Sequence[Reading],
    effects: Regularization,
    backbone: Mapping[str, Any],
) -> Backbone:
    """The network without its head; what it refuses is named by the option that asks for it."""
    takes = signature(option.target)
    asked = effects.arguments("backbone")
    arguments = {name: value for name, (_, value) in asked.items()}
    try:
        for key in arguments:
            if takes is not None and key not in takes.parameters:
                raise ArgumentRefused(key, f"{option.target} has no argument {key!r}")
        trunk: Backbone = instantiate(option, *told, **{**arguments, **backbone})
    except ArgumentRefused as refused:
        if refused.argument not in asked:
            raise
        asker = asked[refused.argument][0]
        name = option.get("name") or option.target
        raise ValueError(
            f"regularization.{asker}: backbone {name!r} takes no {refused.argument}; leave "
            f"{asker} out of regularization=[…], or choose another network"
        ) from refused
    return trunk


def _check_task(run: Run, labels: Labels) -> None:
    """Raises ValueError where the task is for labels of another kind."""
    kind = constant(run.task.module, "KIND")
    if kind in (None, labels.kind):
        return
    others = options_with("task", "KIND", labels.kind)
    choice = f"choose task={' or task='.join(others)}" if others else "choose another task"
    raise ValueError(
        f"the data has labels of kind {labels.kind!r}, and {run.task.function} needs "
        f"{kind!r}; {choice}, or another dataset (tlx list task, tlx list dataset)"
    )


def _told(option: Option, reading: Reading) -> tuple[Reading, ...]:
    """What the backbone's function is given beside the config's arguments.

    Raises:
        ValueError: the task reads more than the backbone can give.
    """
    found = signature(option.target)
    if found is not None and found.supplied:
        return (reading,)
    if reading.unit != WHOLE_ITEMS:
        raise ValueError(
            f"the task reads one vector a {reading.unit}, the backbone gives one an item; choose a "
            "backbone of texts (tlx list backbone)"
        )
    return ()


def with_adapters(trunk: Backbone, strategy: Option, *, seed: int) -> Backbone:
    """The backbone with the adapters that a freeze strategy trains, if it trains any."""
    module, _, kind = strategy.target.rpartition(".")
    found = signature(strategy.target)
    if module != adapters.__name__ or found is None:
        return trunk
    defaults = {name: parameter.default for name, parameter in found.parameters.items()}
    options = {name: strategy.get(name, default) for name, default in defaults.items()}
    if kind in PROMPTS:
        from tlx.backbones.transformers.prompts import prompted

        return prompted(trunk, kind=kind, seed=seed + 2, **options)
    return adapted(trunk, kind=kind, seed=seed + 2, **options)


def new_head(run: Run, task: Task, trunk: Backbone, *, effects: Regularization) -> nn.Module:
    """A head drawn from a run's seed."""
    torch.manual_seed(run.seed + 1)
    _, dropout = effects.arguments("head").get("dropout", ("", 0.0))
    return task.head(trunk, dropout=dropout)


def keep_kept_head(run: Run, head: nn.Module, trunk: Backbone, *, init: str | None) -> None:
    """Gives a head the weights of the one that its run starts from, if it is to (a mutator)."""
    if run.init_head == "keep" and init not in {None, "hub", "none"}:
        names = run.backbone.get("head_names")
        keep_head(head, trunk, path=str(init), names=names)


def layout(network: nn.Module, backbone: Backbone) -> Layout:
    """The network's parameters in groups, with their full names, the head last."""
    head_names = tuple(n for n, _ in network.named_parameters() if n.startswith("head."))

    def full(names: tuple[str, ...] | frozenset[str]) -> tuple[str, ...]:
        return tuple(f"backbone.{name}" for name in names)

    def with_head(groups: tuple[Group, ...], level: int) -> tuple[Group, ...]:
        trunk = tuple(Group(g.name, full(g.parameters), g.level) for g in groups)
        return (*trunk, Group("head", head_names, level))

    return Layout(
        groups=with_head(backbone.groups, len(backbone.groups)),
        fine_groups=with_head(backbone.fine_groups, backbone.head_level),
        neck=full(backbone.neck),
        norms=freezing.norm_parameters(network),
        embeddings=full(backbone.embeddings),
        no_decay=freezing.no_decay(network) | frozenset(full(backbone.no_decay)),
        adapters=full(backbone.adapters),
    )


def stages(run: Run, plan: Layout) -> tuple[Stage, ...]:
    """The stages of the freeze strategy, with the frozen part's knobs applied."""
    made = instantiate(run.freeze_strategy, plan)
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


def plan(run: Run, *, init: str) -> Plan:
    """Everything a run needs, with weights and data loaded; nothing is trained.

    Args:
        run: checked.
        init: where the trunk's weights come from: `hub`, `none` or a file.
    """
    effects = regularization(run)
    rehearsed = rehearse(run, effects)
    data = splits(run.dataset)
    _check_parts(run, rehearsed, stages(run, rehearsed.layout), items=len(data.train))
    made = model(run, data.labels, effects=effects, texts=data.texts, init=init)
    return _plan(run, ready(data, made.backbone.input_spec), made, effects)


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
    _check_parts(run, made, planned)
    _check_budget(run, planned)
    return made


def _stand_in(task: Option) -> Labels:
    """Labels such as a task may get: what those of the data are is not known yet."""
    module = importlib.import_module(task.module)
    make = getattr(module, "stand_in", None)
    if make is None:
        return Labels(module.KIND, ("0", "1"))
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


def _check_parts(
    run: Run, made: Model, planned: Sequence[Stage], *, items: int | None = None
) -> None:
    """Raises ValueError where batch norm of a network without weights trains on single values."""
    if solves(run.optimizer.target):
        probe.linear_head(made.network.head, planned)
        probe.solver_of(made.task)
    else:
        batch_norm.check(
            made.network,
            planned,
            spec=made.backbone.input_spec,
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


def _plan(run: Run, data: Splits, made: Model, effects: Regularization) -> Plan:
    optimizer = run.optimizer
    exact: Lbfgs | None = instantiate(optimizer) if solves(run.optimizer.target) else None
    items = len(data.train)
    marks = pace(run.trainer, items) if exact is None else probe.pace(exact, items)
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
    return Plan(made, data, placed, marks, chosen, recipe, effects, augments, exact)


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


def _ids(split: Any) -> torch.Tensor:
    """The ids of all tokens of a split of texts."""
    ids: torch.Tensor = split.tokens.parts["input_ids"].values
    return ids


def with_facts(data: Splits, backbone: Backbone, run: Run, marks: Pace) -> dict[str, Any]:
    """The notes on the data, with what a config does not tell of how it is read."""
    notes = dict(data.notes)
    if backbone.account:
        notes["weights"] = dict(backbone.account)
    asked = run.trainer.batch_size
    if not solves(run.optimizer.target) and marks.batch_size < asked:
        notes["batch_size"] = {"asked": asked, "used": marks.batch_size}
    if backbone.unknown is not None and "tokens" in notes:
        splits: dict[str, Any] = {"train": data.train, "val": data.val, "test": data.test}
        splits |= data.extra
        notes["tokens"] = {
            name: {**counts, "unknown": int(backbone.unknown(_ids(splits[name])).sum())}
            for name, counts in notes["tokens"].items()
        }
    return notes


def _without_fusion(option: Option, run: Run, effects: Regularization) -> Option:
    """Fused optimizers unscale gradients themselves, which clipping under fp16 cannot see."""
    clipped_half = run.trainer.precision == "16-mixed" and effects.of(Clipping)
    if clipped_half and "fused" in option.arguments:
        return Option(option.target, {**option.arguments, "fused": False})
    return option


def reuse(run: Run, made: Plan, trainer: pl.Trainer, module: TransferModule) -> Reuse | None:
    """Training from stored activations, as the config wishes; None where it wants none at all."""
    frozen = run.frozen
    if run.cache == "off" and not frozen.views:
        return None
    spec = made.model.backbone.input_spec
    augments = [a for a in made.augmentations if a.kind not in IN_STEP]
    encode, plain = made.splits.encoder(spec, augments, True), made.splits.encoder(spec, [], False)
    seed = run.seed if draws(encode) else None
    folder = Path(run.cache_dir or Path(run.runs_dir) / STORE)
    budget = None if run.cache_gb is None else int(run.cache_gb * 1e9)
    kind = frozen.stored_as
    return Reuse(
        trainer,
        module,
        splits=made.splits,
        training=transform(encode, seed=seed, collate=made.splits.collate),
        evaluation=transform(plain, seed=None, collate=made.splits.collate),
        wishes=Wishes(
            store=None if run.cache == "off" else Store(folder, budget_bytes=budget),
            views=0 if seed is None else frozen.views,
            dtype=None if kind == "same" else getattr(torch, kind),
            facts={
                "precision": run.trainer.precision,
                "channels_last": run.trainer.channels_last,
                "device": trainer.strategy.root_device.type,
            },
        ),
        loading=_loading(run.trainer),
        batch_size=run.trainer.eval_batch_size,
        reads_inputs=any(part.reads_inputs for _, part in made.effects),
        padding_side=str(spec.get("padding_side", "right")),
    )


def train_loader(run: Run, made: Plan, share: Share) -> Any:
    """The training loader of one rank."""
    augments = [a for a in made.augmentations if a.kind not in IN_STEP]
    encode = made.splits.encoder(made.model.backbone.input_spec, augments, True)
    batches = StepBatches(order_of(run, made), accumulate=run.trainer.accumulate, share=share)
    dataset = Encoded(
        made.splits.train,
        encode,
        targets=made.model.task.targets,
        seed=run.seed if draws(encode) else None,
    )
    return loader(dataset, batches, collate=made.splits.collate, **_loading(run.trainer))


def order_of(run: Run, made: Plan) -> Order:
    """The order in which a run trains on its data."""
    train, order_seed = made.splits.train, run.order_seed
    return Order(
        len(train),
        batch_size=made.pace.batch_size,
        seed=run.seed if order_seed is None else order_seed,
        lengths=lengths_of(made.splits, train),
    )


def lengths_of(data: Splits, split: Split) -> Sequence[int] | None:
    """Lengths by which a split's batches are made; None where they are not."""
    found: Sequence[int] | None = getattr(split, "lengths", None)
    return found if data.bucketed else None


def eval_loader(run: Run, made: Plan, split: Split, share: Share) -> Any:
    """The loader of one rank over an evaluation split (or train, without augmentation)."""
    return encoded_loader(run, made.splits, made.model, split, share)


def encoded_loader(run: Run, data: Splits, made: Model, split: Split, share: Share) -> Any:
    """A loader over a split in order, without augmentation."""
    batch = math.ceil(run.trainer.eval_batch_size / share.world)
    batches = EvalBatches(
        items=len(split), batch_size=batch, share=share, lengths=lengths_of(data, split)
    )
    encode = data.encoder(made.backbone.input_spec, [], False)
    dataset = Encoded(split, encode, targets=made.task.targets, seed=None)
    return loader(dataset, batches, collate=data.collate, **_loading(run.trainer))


def _loading(trainer: Trainer) -> dict[str, Any]:
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    return {"workers": trainer.workers, "pin": on_gpu}
