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
from tlx.config.exact import is_exact
from tlx.config.places import options_with
from tlx.config.signatures import constant, signature
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

Config = Mapping[str, Any]
STORE = ".cache"
"""Folder of the store of activations, in the folder of runs."""

SHAPING = ("layer_decay", "layer_decay_groups", "carry")
"""Keys of the optimizer node that shape its groups and its state between stages."""


def instantiate(node: Config, *supplied: Any, **override: Any) -> Any:
    """Calls a node's target with its keyword arguments, after the supplied positional ones.

    Raises:
        ValueError: the target is not allowed, or is not the function that its name says.
    """
    target = node["_target_"]
    if target not in allowed_targets():
        raise ValueError(f"_target_: {target} is not allowed; see `tlx list targets`")
    module, _, name = target.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    if (function.__module__, function.__qualname__) != (module, name):
        raise ValueError(f"_target_: {target} is {function.__module__}.{function.__qualname__}")
    keywords = {key: value for key, value in node.items() if key != "_target_"}
    return function(*supplied, **{**keywords, **override})


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


def splits(config: Config) -> Splits:
    """The data of a run, as it comes from its source."""
    made: Splits = instantiate(config["dataset"])
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


def regularization(config: Config) -> Regularization:
    """The effects of all regularization options."""
    nodes = config.get("regularization") or {}
    return Regularization({name: instantiate(node) for name, node in nodes.items()})


def augmentations(config: Config) -> tuple[Augmentation, ...]:
    """The augmentations, in the order of the config."""
    nodes = config.get("augmentation") or {}
    return tuple(instantiate(node) for node in nodes.values())


def model(
    config: Config,
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
        config: of the run.
        labels: of the data.
        effects: of the regularization.
        texts: of training, from which a vocabulary may be learnt.
        tokenizer: of a finished run, instead.
        saved: `input_spec` of a finished run, which holds how its texts were read.
        backbone: arguments that replace the config's, `init`.
    """
    bare = _before_surgery(
        config, labels, effects=effects, texts=texts, tokenizer=tokenizer, saved=saved, **backbone
    )
    made = _operated(bare, effects)
    keep_kept_head(config, made.network.head, made.backbone, init=backbone.get("init"))
    return made


def _before_surgery(
    config: Config,
    labels: Labels,
    *,
    effects: Regularization,
    texts: Callable[[], Iterable[str]] | None = None,
    tokenizer: str | None = None,
    saved: Mapping[str, Any] | None = None,
    **backbone: Any,
) -> Model:
    """As `model`, of which the effects change nothing yet but its arguments."""
    _check_task(config, labels)
    task: Task = instantiate(config["task"], labels)
    told = _told(config, Reading(task.reads, texts, tokenizer))
    torch.manual_seed(config["seed"])
    trunk = _trunk(config, told, effects, backbone)
    spec = {**trunk.input_spec, **task.input_spec}
    asked = effects.arguments("head")
    if is_exact(config) or "bias" in asked or (saved is not None and "head_bias" not in saved):
        # a solved head and a normed one have a bias, and runs of before
        spec.pop("head_bias", None)
    if saved is not None and "begins" in spec:
        # runs of before read texts behind the end token, and have no counts of characters
        spec |= {"begins": saved.get("begins", False), "spelling": saved.get("spelling")}
    trunk = replace(trunk, input_spec=with_spelling(spec, texts))
    trunk = with_adapters(config, trunk)
    head = new_head(config, task, trunk, effects=effects)
    network = Network(trunk.module, head, trunk.features)
    return Model(trunk, task, network, layout(network, trunk), trunk.head_level)


def _operated(made: Model, effects: Regularization) -> Model:
    """The model after all surgery, in the order of the options (a mutator of its network)."""
    surgery = effects.of(Surgery)
    for part in surgery.values():
        part.operate(made.network, made.backbone)
    return replace(made, layout=layout(made.network, made.backbone)) if surgery else made


def _trunk(
    config: Config,
    told: Sequence[Reading],
    effects: Regularization,
    backbone: Mapping[str, Any],
) -> Backbone:
    """The network without its head; what it refuses is named by the option that asks for it."""
    node = config["backbone"]
    takes = signature(node["_target_"])
    asked = effects.arguments("backbone")
    arguments = {name: value for name, (_, value) in asked.items()}
    try:
        for key in arguments:
            if takes is not None and key not in takes.parameters:
                raise ArgumentRefused(key, f"{node['_target_']} has no argument {key!r}")
        trunk: Backbone = instantiate(node, *told, **{**arguments, **backbone})
    except ArgumentRefused as refused:
        if refused.argument not in asked:
            raise
        option = asked[refused.argument][0]
        name = node.get("name") or node["_target_"]
        raise ValueError(
            f"regularization.{option}: backbone {name!r} takes no {refused.argument}; leave "
            f"{option} out of regularization=[…], or choose another network"
        ) from refused
    return trunk


def _check_task(config: Config, labels: Labels) -> None:
    """Raises ValueError where the task is for labels of another kind."""
    target = config["task"]["_target_"]
    kind = constant(target.rpartition(".")[0], "KIND")
    if kind in (None, labels.kind):
        return
    others = options_with("task", "KIND", labels.kind)
    choice = f"choose task={' or task='.join(others)}" if others else "choose another task"
    raise ValueError(
        f"the data has labels of kind {labels.kind!r}, and {target.rpartition('.')[2]} needs "
        f"{kind!r}; {choice}, or another dataset (tlx list task, tlx list dataset)"
    )


def _told(config: Config, reading: Reading) -> tuple[Reading, ...]:
    """What the backbone's function is given beside the config's arguments.

    Raises:
        ValueError: the task reads more than the backbone can give.
    """
    found = signature(config["backbone"]["_target_"])
    if found is not None and found.supplied:
        return (reading,)
    if reading.unit != WHOLE_ITEMS:
        raise ValueError(
            f"the task reads one vector a {reading.unit}, the backbone gives one an item; choose a "
            "backbone of texts (tlx list backbone)"
        )
    return ()


def with_adapters(config: Config, trunk: Backbone) -> Backbone:
    """The backbone with the adapters that the freeze strategy trains, if it trains any."""
    node = config["freeze_strategy"]
    module, _, kind = node["_target_"].rpartition(".")
    found = signature(node["_target_"])
    if module != adapters.__name__ or found is None:
        return trunk
    defaults = {name: parameter.default for name, parameter in found.parameters.items()}
    options = {name: node.get(name, default) for name, default in defaults.items()}
    if kind in PROMPTS:
        from tlx.backbones.transformers.prompts import prompted

        return prompted(trunk, kind=kind, seed=config["seed"] + 2, **options)
    return adapted(trunk, kind=kind, seed=config["seed"] + 2, **options)


def new_head(config: Config, task: Task, trunk: Backbone, *, effects: Regularization) -> nn.Module:
    """A head drawn from a run's seed."""
    torch.manual_seed(config["seed"] + 1)
    _, dropout = effects.arguments("head").get("dropout", ("", 0.0))
    return task.head(trunk, dropout=dropout)


def keep_kept_head(config: Config, head: nn.Module, trunk: Backbone, *, init: str | None) -> None:
    """Gives a head the weights of the one that its run starts from, if it is to (a mutator)."""
    if config["init_head"] == "keep" and init not in {None, "hub", "none"}:
        names = config["backbone"].get("head_names")
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


def stages(config: Config, plan: Layout) -> tuple[Stage, ...]:
    """The stages of the freeze strategy, with the frozen part's knobs applied."""
    made = instantiate(config["freeze_strategy"], plan)
    frozen = config["frozen"]
    return strategies.with_modes(
        made, plan, norm_affine=frozen["norm_affine"], embeddings=frozen["embeddings"]
    )


def pace(config: Config, items: int) -> Pace:
    """The budget and its marks in optimizer steps, for a training split of `items` items.

    Raises:
        ValueError: there is nothing to train on, or the batch does not divide.
    """
    trainer = config["trainer"]
    parts = trainer["devices"] * trainer["nodes"] * trainer["accumulate"]
    batch = min(trainer["batch_size"], items)
    if batch < parts:
        raise ValueError(
            f"the training split has {items} items, fewer than trainer.devices × nodes × "
            f"accumulate = {parts}: lower these"
        )
    per_epoch = max(items // batch, 1)
    total = trainer["steps"] or max(round(trainer["epochs"] * per_epoch), 1)
    every_epochs = trainer["eval_every_epochs"] or 1
    every = trainer["eval_every_steps"] or max(round(every_epochs * per_epoch), 1)
    return Pace(
        total_steps=total,
        steps_per_epoch=per_epoch,
        batch_size=batch,
        eval_every=min(every, total),
        checkpoint_every=trainer["checkpoint_every_steps"],
        log_every=trainer["log_every_steps"],
    )


def selection(config: Config, task: Task, effects: Regularization) -> Selection:
    """What validation decides: the config's monitor, or the task's own."""
    metric = (config["monitor"] or f"val/{task.monitor}").removeprefix("val/")
    if metric not in task.directions:
        raise ValueError(f"monitor=val/{metric}: the task has {', '.join(task.directions)}")
    return Selection(
        metric=metric,
        mode=task.directions[metric],
        final=config["final_weights"],
        select_from=config.get("select_from", "run"),  # a config of before the key meant that
        early_stopping=effects.only(Stopping),
    )


def layer_scales(optimizer: Config, made: Model) -> dict[str, float]:
    """Learning-rate scales of layer-wise decay by parameter name; empty where it is off."""
    decay = optimizer.get("layer_decay", 1.0)
    if decay == 1.0:
        return {}
    if optimizer.get("layer_decay_groups", "fine") == "coarse":
        coarse = made.layout.groups
        return freezing.layer_decay_scales(coarse, coarse[-1].level, decay)
    return freezing.layer_decay_scales(made.layout.fine_groups, made.head_level, decay)


def plan(config: Config, *, init: str) -> Plan:
    """Everything a run needs, with weights and data loaded; nothing is trained.

    Args:
        config: checked and resolved.
        init: where the trunk's weights come from: `hub`, `none` or a file.
    """
    effects = regularization(config)
    rehearsed = rehearse(config, effects)
    data = splits(config)
    _check_parts(config, rehearsed, stages(config, rehearsed.layout), items=len(data.train))
    made = model(config, data.labels, effects=effects, texts=data.texts, init=init)
    return _plan(config, ready(data, made.backbone.input_spec), made, effects)


def rehearse(config: Config, effects: Regularization) -> Model:
    """The network without weights, whose stages are planned: cheap, finds most mistakes.

    Raises:
        ValueError: a rule matches no parameter, a library refuses its arguments, ...
    """
    with torch.device("meta"):
        made = _before_surgery(config, _stand_in(config["task"]), effects=effects, init="none")
    selection(config, made.task, effects)
    augments = augmentations(config)
    _check_feature_mixing(augments, made)
    effects.check(setting(config, made, stages(config, made.layout), augments))
    with torch.device("meta"):
        made = _operated(made, effects)
    planned = stages(config, made.layout)
    _check_parts(config, made, planned)
    _check_budget(config, planned)
    return made


def _stand_in(task: Config) -> Labels:
    """Labels such as a task may get: what those of the data are is not known yet."""
    module = importlib.import_module(task["_target_"].rpartition(".")[0])
    make = getattr(module, "stand_in", None)
    if make is None:
        return Labels(module.KIND, ("0", "1"))
    labels: Labels = make(**{key: value for key, value in task.items() if key != "_target_"})
    return labels


def _check_budget(config: Config, planned: Sequence[Stage]) -> None:
    """Raises ValueError where steps are too few; how many epochs have, the data will tell."""
    schedule: Schedule = instantiate(config["schedule"])
    total = config["trainer"]["steps"]
    if total is None or is_exact(config) or any(s.until.epochs is not None for s in planned):
        return
    check_warmup(schedule, spans(planned, total_steps=total, steps_per_epoch=1))


def _check_parts(
    config: Config, made: Model, planned: Sequence[Stage], *, items: int | None = None
) -> None:
    """Raises ValueError where batch norm of a network without weights trains on single values."""
    if is_exact(config):
        probe.linear_head(made.network.head, planned)
    else:
        batch_norm.check(
            made.network,
            planned,
            spec=made.backbone.input_spec,
            trainer=config["trainer"],
            norm_stats=config["frozen"]["norm_stats"],
            items=items,
        )


def setting(
    config: Config, made: Model, planned: Sequence[Stage], augments: Iterable[Augmentation]
) -> Setting:
    """What the parts of regularization are asked to fit."""
    trainer = config["trainer"]
    return Setting(
        task=made.task,
        backbone=made.backbone,
        network=made.network,
        stages=planned,
        norm_stats=config["frozen"]["norm_stats"],
        feature_mixing=[each.name for each in augments if each.kind == "features"],
        ranks=trainer["devices"] * trainer["nodes"],
        accumulate=trainer["accumulate"],
        precision=trainer["precision"],
        sharded=trainer["strategy"] == "fsdp",
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


def _plan(config: Config, data: Splits, made: Model, effects: Regularization) -> Plan:
    optimizer = config["optimizer"]
    exact: Lbfgs | None = instantiate(optimizer) if is_exact(config) else None
    items = len(data.train)
    marks = pace(config, items) if exact is None else probe.pace(exact, items)
    frozen = config["frozen"]
    augments = augmentations(config)
    kept = {key: value for key, value in optimizer.items() if key not in SHAPING}
    reads_anchor = any(part.reads_anchor for part in effects.of(Penalty).values())
    anchor = {
        f"backbone.{name}": parameter.detach().clone()
        for name, parameter in made.backbone.module.named_parameters()
    }
    recipe = Recipe(
        network=made.network,
        task=made.task,
        layout=made.layout,
        optimizer=partial(instantiate, _without_fusion(kept, config, effects)),
        schedule=instantiate(config["schedule"]),
        lr=0.0 if exact is not None else optimizer["lr"],
        effects=effects,
        layer_scales=layer_scales(optimizer, made),
        carry=optimizer.get("carry", "previous"),
        anchor=anchor if reads_anchor else {},
        mixing=tuple(a for a in augments if a.kind == "batch"),
        feature_mixing=tuple(a for a in augments if a.kind == "features"),
        norm_stats=frozen["norm_stats"],
        frozen_dropout=frozen["dropout"],
        seed=config["seed"],
        accumulate=config["trainer"]["accumulate"],
        compile=config["trainer"]["compile"],
    )
    placed = spans(
        stages(config, made.layout),
        total_steps=marks.total_steps,
        steps_per_epoch=marks.steps_per_epoch,
    )
    check_warmup(recipe.schedule, placed)
    data = replace(data, notes=with_facts(data, made.backbone, config, marks))
    chosen = selection(config, made.task, effects)
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


def with_facts(data: Splits, backbone: Backbone, config: Config, marks: Pace) -> dict[str, Any]:
    """The notes on the data, with what a config does not tell of how it is read."""
    notes = dict(data.notes)
    if backbone.account:
        notes["weights"] = dict(backbone.account)
    asked = config["trainer"]["batch_size"]
    if not is_exact(config) and marks.batch_size < asked:
        notes["batch_size"] = {"asked": asked, "used": marks.batch_size}
    if backbone.unknown is not None and "tokens" in notes:
        splits: dict[str, Any] = {"train": data.train, "val": data.val, "test": data.test}
        splits |= data.extra
        notes["tokens"] = {
            name: {**counts, "unknown": int(backbone.unknown(_ids(splits[name])).sum())}
            for name, counts in notes["tokens"].items()
        }
    return notes


def _without_fusion(node: Config, config: Config, effects: Regularization) -> Config:
    """Fused optimizers unscale gradients themselves, which clipping under fp16 cannot see."""
    clipped_half = config["trainer"]["precision"] == "16-mixed" and effects.of(Clipping)
    if clipped_half and "fused" in node:
        return {**node, "fused": False}
    return node


def reuse(config: Config, made: Plan, trainer: pl.Trainer, module: TransferModule) -> Reuse | None:
    """Training from stored activations, as the config wishes; None where it wants none at all."""
    frozen = config["frozen"]
    if config["cache"] == "off" and not frozen["views"]:
        return None
    spec = made.model.backbone.input_spec
    augments = [a for a in made.augmentations if a.kind not in IN_STEP]
    encode, plain = made.splits.encoder(spec, augments, True), made.splits.encoder(spec, [], False)
    seed = config["seed"] if draws(encode) else None
    folder = Path(config["cache_dir"] or Path(config["runs_dir"]) / STORE)
    budget = None if config["cache_gb"] is None else int(config["cache_gb"] * 1e9)
    kind = frozen["stored_as"]
    return Reuse(
        trainer,
        module,
        splits=made.splits,
        training=transform(encode, seed=seed, collate=made.splits.collate),
        evaluation=transform(plain, seed=None, collate=made.splits.collate),
        wishes=Wishes(
            store=None if config["cache"] == "off" else Store(folder, budget_bytes=budget),
            views=0 if seed is None else frozen["views"],
            dtype=None if kind == "same" else getattr(torch, kind),
            facts={
                "precision": config["trainer"]["precision"],
                "channels_last": config["trainer"]["channels_last"],
                "device": trainer.strategy.root_device.type,
            },
        ),
        loading=_loading(config),
        batch_size=config["trainer"]["eval_batch_size"],
        reads_inputs=any(part.reads_inputs for _, part in made.effects),
        padding_side=str(spec.get("padding_side", "right")),
    )


def train_loader(config: Config, made: Plan, share: Share) -> Any:
    """The training loader of one rank."""
    augments = [a for a in made.augmentations if a.kind not in IN_STEP]
    encode = made.splits.encoder(made.model.backbone.input_spec, augments, True)
    batches = StepBatches(
        order_of(config, made), accumulate=config["trainer"]["accumulate"], share=share
    )
    dataset = Encoded(
        made.splits.train,
        encode,
        targets=made.model.task.targets,
        seed=config["seed"] if draws(encode) else None,
    )
    return loader(dataset, batches, collate=made.splits.collate, **_loading(config))


def order_of(config: Config, made: Plan) -> Order:
    """The order in which a run trains on its data."""
    train, order_seed = made.splits.train, config["order_seed"]
    return Order(
        len(train),
        batch_size=made.pace.batch_size,
        seed=config["seed"] if order_seed is None else order_seed,
        lengths=lengths_of(made.splits, train),
    )


def lengths_of(data: Splits, split: Split) -> Sequence[int] | None:
    """Lengths by which a split's batches are made; None where they are not."""
    found: Sequence[int] | None = getattr(split, "lengths", None)
    return found if data.bucketed else None


def eval_loader(config: Config, made: Plan, split: Split, share: Share) -> Any:
    """The loader of one rank over an evaluation split (or train, without augmentation)."""
    return encoded_loader(config, made.splits, made.model, split, share)


def encoded_loader(config: Config, data: Splits, made: Model, split: Split, share: Share) -> Any:
    """A loader over a split in order, without augmentation."""
    batch = math.ceil(config["trainer"]["eval_batch_size"] / share.world)
    batches = EvalBatches(
        items=len(split), batch_size=batch, share=share, lengths=lengths_of(data, split)
    )
    encode = data.encoder(made.backbone.input_spec, [], False)
    dataset = Encoded(split, encode, targets=made.task.targets, seed=None)
    return loader(dataset, batches, collate=data.collate, **_loading(config))


def _loading(config: Config) -> dict[str, Any]:
    trainer = config["trainer"]
    on_gpu = trainer["accelerator"] != "cpu" and torch.cuda.is_available()
    return {"workers": trainer["workers"], "pin": on_gpu}
