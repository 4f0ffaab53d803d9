"""Adapters of the peft library in any backbone: put in, told apart, merged, written.

peft is imported where adapters are, and nowhere else.
"""

import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tlx.backbones.adapters.targets import narrowing, targets_of
from tlx.backbones.backbone import Backbone
from tlx.methods.stages import Group

NAME = "default"
BASE = ".base_layer"
DROPOUTS = ("lora_dropout", "vera_dropout")
OWN = re.compile(
    r"\.(lora_(A|B|magnitude_vector)|ia3_l|vera_lambda_[bd])\.|^(backbone\.)?prompt\.encoder\."
)
PROMPTS = ("prompt", "prefix")
"""Kinds of virtual tokens (`tlx.backbones.transformers.prompts`), which no weight can hold."""
UNDECAYED = re.compile(r"\.(ia3_l|vera_lambda_[bd]|lora_magnitude_vector)\.")
"""Parameters that do not start near zero, or are vectors: weight decay would harm them."""
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Adapters:
    """What a network's adapters are, as plain values.

    Attributes:
        kind: `lora`, `dora`, `ia3` or `vera`; `prompt` or `prefix`.
        layers: names of the adapted layers in the network.
        narrowing: of `ia3`: those whose input is scaled, not their output.
        seed: of VeRA's projections.
        options: `r`, `alpha`, `dropout`, `tokens`, where the kind has them.
    """

    kind: str
    layers: tuple[str, ...]
    narrowing: tuple[str, ...] = ()
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def adapted(
    trunk: Backbone,
    *,
    kind: str,
    seed: int,
    targets: str | None = None,
    layers: int | None = None,
    **options: object,
) -> Backbone:
    """The backbone with adapters in its network (a mutator of the network).

    Names of adapted layers' parameters get `.base_layer`; an adapter's parameters belong to the
    group of the layer.

    Args:
        trunk: without adapters.
        kind: `lora`, `dora`, `ia3` or `vera`.
        seed: that adapters are drawn from.
        targets: see `tlx.methods.adapters`.
        layers: likewise.
        **options: likewise.

    Raises:
        ValueError: an option is out of range, or no layer can be adapted.
    """
    _check(options)
    found = targets_of(trunk, kind=kind, pattern=targets, layers=layers)
    narrow = narrowing(trunk.module, found) if kind == "ia3" else ()
    made = Adapters(kind, found, narrow, seed, options)
    torch.manual_seed(seed)
    inject(trunk.module, made)
    return _renamed(trunk, made)


def inject(module: nn.Module, made: Adapters) -> None:
    """Puts adapters into a network (a mutator); LoRA's are drawn by torch's generator."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    config = peft_config(made, module)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*merging.*group", category=UserWarning)
        # what inject_adapter_in_model does, which refuses VeRA for the state that its layers share
        PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](module, config, NAME)
    for layer in _tuned(module).values():
        for name in DROPOUTS:
            if name in layer._modules:
                # freezing.set_modes takes dropout to belong to what is registered before it
                layer._modules[name] = layer._modules.pop(name)


def peft_config(made: Adapters, module: nn.Module) -> Any:
    """The config by which peft makes these adapters in a network without any."""
    from peft import IA3Config, LoraConfig, VeraConfig
    from transformers.pytorch_utils import Conv1D

    options = made.options
    layers = [module.get_submodule(name) for name in made.layers]
    target, turned = _pattern(made.layers), any(isinstance(layer, Conv1D) for layer in layers)
    if made.kind == "ia3":
        return IA3Config(
            feedforward_modules=_pattern(made.narrowing),
            target_modules=target,
            fan_in_fan_out=turned,
        )
    if made.kind == "vera":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Specified to not save vera_A and vera_B")
            return VeraConfig(
                r=options["r"],
                vera_dropout=options["dropout"],
                projection_prng_key=made.seed,
                save_projection=False,  # megabytes a layer; the seed tells them
                target_modules=target,
                fan_in_fan_out=turned,
            )
    return LoraConfig(
        r=options["r"],
        lora_alpha=options["alpha"],
        lora_dropout=options["dropout"],
        use_dora=made.kind == "dora",
        target_modules=target,
        fan_in_fan_out=turned,
    )


def merge(module: nn.Module) -> None:
    """Adds adapters to the weights that they adapt, and takes them out (a mutator)."""
    for name, layer in _tuned(module).items():
        layer.merge()
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, layer.get_base_layer())


def plain_name(name: str) -> str:
    """A parameter's name in the network without adapters.

    >>> plain_name("blocks.0.fc1.base_layer.weight")
    'blocks.0.fc1.weight'
    """
    return name.replace(f"{BASE}.", ".")


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter.

    >>> [is_adapter(f"fc1.{name}") for name in ("lora_A.default.weight", "base_layer.weight")]
    [True, False]
    """
    return bool(OWN.search(name))


def of_facts(facts: Mapping[str, Any]) -> Adapters | None:
    """The adapters that a backbone's `export` states; None where it states none."""
    said = facts.get("adapters")
    if said is None:
        return None
    lists = {key: tuple(said[key]) for key in ("layers", "narrowing")}
    return Adapters(**{**said, **lists})


def of_file(metadata: Mapping[str, str]) -> Adapters | None:
    """What a run's weights file says of its adapters; None where it has none."""
    try:
        said = json.loads(metadata.get("tlx", "{}"))
    except ValueError:  # a file of another kind
        return None
    return of_facts(said) if isinstance(said, dict) else None


def merged_state(module: nn.Module, state: State, made: Adapters) -> dict[str, Tensor]:
    """A run's weights with the adapters merged, under the plain network's names.

    Args:
        module: the network without adapters; it stays as it is.
        state: of the run, names beginning with `backbone.`.
        made: the run's adapters.

    Raises:
        ValueError: the network has no such layers.
    """
    prefix = "backbone."
    known = dict(module.named_modules())
    if missing := [name for name in made.layers if name not in known]:
        raise ValueError(f"the weights have adapters of {missing[0]!r}, which the network lacks")
    probe = copy.deepcopy(module)
    inject(probe, made)
    inside = tuple(f"{prefix}{layer}." for layer in made.layers)
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(inside)}
    try:
        probe.load_state_dict(own, strict=False)
    except RuntimeError as error:  # another shape: a first layer for other channels
        raise ValueError(f"the adapted layers have other shapes in the network: {error}") from None
    merge(probe)
    merged = {f"{prefix}{n}": t for n, t in probe.state_dict().items()}
    kept = {plain_name(n): t for n, t in state.items() if not n.startswith(inside) or BASE in n}
    return {name: merged[name] if name.startswith(inside) else t for name, t in kept.items()}


def _check(options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if key in {"r", "alpha"} and not value > 0:
            raise ValueError(f"freeze_strategy.{key}={value}; give a number above 0")
        if key == "dropout" and not 0 <= value < 1:
            raise ValueError(f"freeze_strategy.dropout={value}; give a rate in [0, 1)")


def _pattern(layers: Sequence[str]) -> str:
    """A regular expression for exactly these; peft takes names in a list for endings of names."""
    return "|".join(re.escape(name) for name in layers) or "(?!)"


def _tuned(module: nn.Module) -> dict[str, Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {n: m for n, m in module.named_modules() if isinstance(m, BaseTunerLayer)}


def _renamed(trunk: Backbone, made: Adapters) -> Backbone:
    """The backbone's lists of names after the network got adapters."""
    known = {name for group in trunk.groups for name in group.parameters}
    every = [name for name, _ in trunk.module.named_parameters()]
    own = {plain_name(name): name for name in every if plain_name(name) in known}
    adapters = tuple(name for name in every if plain_name(name) not in known)
    layer_of = {name: _layer(name, made.layers) for name in adapters}

    def renamed(names: Iterator[str]) -> tuple[str, ...]:
        return tuple(own[name] for name in names)

    def regrouped(groups: tuple[Group, ...]) -> tuple[Group, ...]:
        made_groups = []
        for group in groups:
            inside = {name.rpartition(".")[0] for name in group.parameters}
            new = {own[name] for name in group.parameters}
            new |= {name for name, layer in layer_of.items() if layer in inside}
            made_groups.append(replace(group, parameters=tuple(n for n in every if n in new)))
        return tuple(made_groups)

    spared = {name for name in adapters if UNDECAYED.search(name)}
    return replace(
        trunk,
        groups=regrouped(trunk.groups),
        fine_groups=regrouped(trunk.fine_groups),
        neck=renamed(iter(trunk.neck)),
        embeddings=renamed(iter(trunk.embeddings)),
        no_decay=frozenset(renamed(iter(trunk.no_decay))) | spared,
        adapters=adapters,
        export={**trunk.export, "adapters": as_facts(made)},
    )


def _layer(parameter: str, layers: Sequence[str]) -> str:
    return next(layer for layer in layers if parameter.startswith(f"{layer}."))


def as_facts(made: Adapters) -> dict[str, object]:
    """What a backbone's `export` states of adapters; see `of_facts`."""
    lists = {"layers": list(made.layers), "narrowing": list(made.narrowing)}
    return {"kind": made.kind, **lists, "seed": made.seed, "options": dict(made.options)}
