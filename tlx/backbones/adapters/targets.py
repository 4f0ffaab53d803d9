"""Which layers of a network get adapters."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from tlx.backbones.backbone import Backbone
from tlx.data.splits import inputs_of
from tlx.methods.stages import Group

ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
KEY_OR_VALUE = re.compile(r"(k|key|v|value)(_?(proj|lin))?")
PREFIX = "backbone."


def targets_of(
    trunk: Backbone, *, kind: str, pattern: str | None, layers: int | None
) -> tuple[str, ...]:
    """Names of the layers that adapters are to go into, in the order of the network.

    Only layers that a forward pass calls: where a network reads a layer's weight instead, as
    BEiT's attention does, an adapter would do nothing.

    Args:
        trunk: without adapters.
        kind: of the adapters.
        pattern: matches `backbone.` and a layer's name in full; None: see `tlx.methods.adapters`.
        layers: of the last so many layer groups; None: of all.

    Raises:
        ValueError: nothing is left, or the pattern matches nothing.
    """
    groups = _blocks(trunk)
    if layers is not None and not 1 <= layers <= len(groups):
        raise ValueError(
            f"freeze_strategy.layers={layers}; the network has {len(groups)} layer groups between "
            f"its stem and its neck ({', '.join(g.name for g in groups)}): give 1 to {len(groups)}"
        )
    able = _able(trunk.module, linear_only=kind == "vera")
    usual = pattern is None
    found = _usual(trunk, able, groups, kind=kind) if usual else _matched(str(pattern), able)
    if layers is not None:
        kept = {n.rpartition(".")[0] for g in groups[-layers:] for n in g.parameters}
        found = [name for name in found if name in kept]
    silent = set(found) - _called(trunk, found)
    if silent and not usual:
        raise ValueError(
            f"freeze_strategy.targets={pattern!r} matches {PREFIX}{min(silent)}, whose weight the "
            "network reads without calling the layer, so that an adapter would do nothing; match "
            "others"
        )
    found = [name for name in found if name not in silent]
    if not found:
        what = "linear layer" if kind == "vera" else "linear layer or dense convolution"
        raise ValueError(
            f"{kind}: there is no {what} to adapt; choose other freeze_strategy.targets or layers, "
            "or another strategy, such as last_k, discriminative or gradual"
        )
    return tuple(found)


def narrowing(module: nn.Module, layers: Iterable[str]) -> tuple[str, ...]:
    """Of some layers, the linear ones outside attention that have more inputs than outputs."""
    found = []
    for name in layers:
        layer = module.get_submodule(name)
        if is_linear(layer) and not ATTENTION.search(name):
            inputs, outputs = _widths(layer)
            if inputs > outputs:
                found.append(name)
    return tuple(found)


def _blocks(trunk: Backbone) -> tuple[Group, ...]:
    """The layer groups between stem and neck."""
    aside = {*trunk.neck, *trunk.embeddings}
    groups = trunk.groups if len(trunk.groups) == 1 else trunk.groups[1:]
    return tuple(group for group in groups if not set(group.parameters) <= aside)


def _able(module: nn.Module, *, linear_only: bool) -> dict[str, nn.Module]:
    """All layers that an adapter can stand beside."""
    inner = {
        id(child)
        for part in module.modules()
        if isinstance(part, nn.MultiheadAttention)  # reads the weights of its layers
        for child in part.modules()
    }
    return {
        name: layer
        for name, layer in module.named_modules()
        if id(layer) not in inner
        and (
            is_linear(layer)
            or (not linear_only and isinstance(layer, nn.Conv2d) and _is_plain(layer))
        )
    }


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear, those of transformers' first networks included."""
    if isinstance(layer, nn.Linear):
        return True
    library = sys.modules.get("transformers.pytorch_utils")  # slow to import; then it has no layer
    return library is not None and isinstance(layer, library.Conv1D)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether peft can adapt a convolution and merge the adapter again.

    Subclasses standardise their weights (BiT, NF-nets), which an adapter merged into them would be
    subject to, or pad anew; peft's own convolutions do not know dilation.
    """
    dense = layer.groups == 1 and layer.dilation == (1, 1)
    return type(layer) is nn.Conv2d and dense and layer.padding_mode == "zeros"


def _usual(
    trunk: Backbone, able: Mapping[str, nn.Module], groups: Sequence[Group], *, kind: str
) -> list[str]:
    """The layers where none are named."""
    neck = set(trunk.neck)
    inside = {n.rpartition(".")[0] for g in groups for n in g.parameters if n not in neck}
    linear = [n for n, m in able.items() if n in inside and is_linear(m)]
    if not linear:
        return [name for name in able if name in inside]
    attention = [name for name in linear if ATTENTION.search(name)]
    if kind == "ia3" and attention:
        parts = [n for n in attention if KEY_OR_VALUE.fullmatch(n.rpartition(".")[2])]
        chosen = {*(parts or attention), *narrowing(trunk.module, linear)}
        return [name for name in linear if name in chosen]
    # of sequences attention alone, as LoRA has it; of images all that is linear
    sequences = inputs_of(trunk.reads).padding(trunk.reads) is not None
    return attention if sequences and attention else linear


def _matched(pattern: str, able: Iterable[str]) -> list[str]:
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"freeze_strategy.targets={pattern!r} is no regular expression: {error}"
        ) from None
    names = list(able)
    found = [name for name in names if rule.fullmatch(f"{PREFIX}{name}")]
    if not found:
        like = f"{PREFIX}{names[-1]}" if names else "nothing: there is none"
        raise ValueError(
            f"freeze_strategy.targets={pattern!r} matches no layer that can be adapted; names look "
            f"like {like!r}"
        )
    return found


def _called(trunk: Backbone, names: Sequence[str]) -> set[str]:
    """Those of the layers that a forward pass calls; all where the network cannot run here."""
    called: set[str] = set()
    modes = {module: module.training for module in trunk.module.modules()}
    handles = [
        trunk.module.get_submodule(name).register_forward_hook(
            lambda *_, name=name: called.add(name)
        )
        for name in names
    ]
    try:
        with torch.no_grad():
            trunk.features(trunk.module.eval(), _example(trunk))
    except (RuntimeError, NotImplementedError, AssertionError):
        # XLNet makes one of its parameters on the CPU, whatever the default device is
        if all(p.device.type != "meta" for p in trunk.module.parameters()):
            raise
        return set(names)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return called


def _example(trunk: Backbone) -> object:
    """Two items of input, on the network's device."""
    device = next(trunk.module.parameters()).device
    return inputs_of(trunk.reads).example(trunk.reads, items=2, device=device)


def _widths(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    rows, columns = layer.get_parameter("weight").shape
    return int(rows), int(columns)
