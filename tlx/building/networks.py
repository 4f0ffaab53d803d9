"""The network of a run: backbone, adapters, head and layout."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from tlx.backbones.backbone import ArgumentRefused, Backbone, Wanted
from tlx.building.calls import instantiate
from tlx.building.returned import of_kind
from tlx.config.places import options_with
from tlx.config.run import Option, Run
from tlx.config.signatures import constant, signature
from tlx.config.solving import solves
from tlx.data.inputs import replaced
from tlx.data.splits import Labels, inputs_of
from tlx.methods import adapters, freezing
from tlx.methods.stages import Group, Layout
from tlx.tasks.kept_heads import keep_head
from tlx.tasks.model import Model
from tlx.tasks.task import WHOLE_ITEMS, Network, Task
from tlx.training.effects import Regularization, Surgery


def model(
    run: Run,
    labels: Labels,
    *,
    effects: Regularization,
    corpus: Callable[[], Iterable[str]] | None = None,
    kept: Mapping[str, object] | None = None,
    **backbone: object,
) -> Model:
    """Backbone, task, head and layout; the head is drawn from the run's seed.

    Args:
        run: its config.
        labels: of the data.
        effects: of the regularization.
        corpus: gives training items in the form that a vocabulary may be learnt from.
        kept: what a finished run read, as its weights tell it, instead.
        backbone: arguments that replace the config's, `init`.
    """
    bare = _before_surgery(run, labels, effects=effects, corpus=corpus, kept=kept, **backbone)
    made = _operated(bare, effects)
    keep_kept_head(run, made.network.head, made.backbone, init=backbone.get("init"))
    return made


def _before_surgery(
    run: Run,
    labels: Labels,
    *,
    effects: Regularization,
    corpus: Callable[[], Iterable[str]] | None = None,
    kept: Mapping[str, object] | None = None,
    **backbone: object,
) -> Model:
    """As `model`, of which the effects change nothing yet but its arguments."""
    _check_task(run, labels)
    task: Task = instantiate(run.task, labels)
    told = _told(run.backbone, Wanted(task.reads, corpus, kept))
    torch.manual_seed(run.seed)
    trunk = _trunk(run.backbone, told, effects, backbone)
    reads = replaced(trunk.reads, task.input_spec)
    if kept is not None:
        reads = reads.kept(kept)
    if corpus is not None:
        reads = inputs_of(reads).learn(reads, corpus)
    # a solved head and a normed one have a bias
    asked = "bias" in effects.arguments(lambda part: part.head)
    bias = trunk.head_bias or solves(run.optimizer.target) or asked
    trunk = replace(trunk, reads=reads, head_bias=bias)
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
    option: Option, told: Sequence[Wanted], effects: Regularization, backbone: Mapping[str, object]
) -> Backbone:
    """The network without its head; what it refuses is named by the option that asks for it."""
    takes = signature(option.target)
    asked = effects.arguments(lambda part: part.backbone)
    arguments = {name: value for name, (_, value) in asked.items()}
    try:
        for key in arguments:
            if takes is not None and key not in takes.parameters:
                raise ArgumentRefused(key, f"{option.target} has no argument {key!r}")
        trunk = of_kind(
            instantiate(option, *told, **{**arguments, **backbone}),
            Backbone,
            option,
            group="backbone",
            fix="give tlx.backbones.own.wrapped(module, reads, width=...)",
        )
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


def _told(option: Option, wanted: Wanted) -> tuple[Wanted, ...]:
    """What the backbone's function is given beside the config's arguments.

    Raises:
        ValueError: the task reads more than the backbone can give.
    """
    found = signature(option.target)
    if found is not None and found.supplied:
        return (wanted,)
    if wanted.features != WHOLE_ITEMS:
        raise ValueError(
            f"the task reads one vector a {wanted.features}, the backbone gives one an item; "
            "choose another backbone (tlx list backbone)"
        )
    return ()


def with_adapters(trunk: Backbone, strategy: Option, *, seed: int) -> Backbone:
    """The backbone with the adapters that a freeze strategy trains, if it trains any."""
    module, _, kind = strategy.target.rpartition(".")
    found = signature(strategy.target)
    if module != adapters.__name__ or found is None:
        return trunk
    from tlx.backbones.adapters.peft import PROMPTS, adapted  # slow to import

    defaults = {name: parameter.default for name, parameter in found.parameters.items()}
    options = {name: strategy.get(name, default) for name, default in defaults.items()}
    if kind in PROMPTS:
        from tlx.backbones.transformers.prompts import prompted

        return prompted(trunk, kind=kind, seed=seed + 2, **options)
    return adapted(trunk, kind=kind, seed=seed + 2, **options)


def new_head(run: Run, task: Task, trunk: Backbone, *, effects: Regularization) -> nn.Module:
    """A head drawn from a run's seed."""
    torch.manual_seed(run.seed + 1)
    _, dropout = effects.arguments(lambda part: part.head).get("dropout", ("", 0.0))
    return task.head(trunk, dropout=dropout)


def keep_kept_head(run: Run, head: nn.Module, trunk: Backbone, *, init: object) -> None:
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
