"""Freezing: which parameters take gradients, which layers are in which mode, optimizer groups.

Names are those of `network.named_parameters()`; a tied parameter may go by any of its names.
"""

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from tlx.methods.stages import Group


def apply(network: nn.Module, trains: Collection[str]) -> None:
    """Lets the named parameters take gradients and freezes all others (a mutator).

    A frozen parameter loses its gradient too: an optimizer would go on applying a stale one.

    Raises:
        ValueError: a name is none of the network's.

    >>> network = nn.Linear(1, 1)
    >>> apply(network, {"bias"})
    >>> [name for name, p in network.named_parameters() if p.requires_grad]
    ['bias']
    """
    trained = {id(parameter) for parameter in _named(network, trains).values()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
        if id(parameter) not in trained:
            parameter.grad = None


def never_trained(network: nn.Module, trains: Collection[str]) -> frozenset[str]:
    """Names of all parameters but those named and those tied to them.

    >>> sorted(never_trained(nn.Linear(1, 1), {"bias"}))
    ['weight']
    """
    trained = {id(parameter) for parameter in _named(network, trains).values()}
    every = network.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in every if id(parameter) not in trained)


def set_modes(network: nn.Module, *, norm_stats: str = "follow", dropout: str = "off") -> None:
    """Puts the frozen part of a network in train mode into eval mode (a mutator).

    To be called after `apply`, and again after each `network.train()`, which undoes it. A module
    is frozen if it has parameters and none of them trains. One without parameters (dropout, drop
    path, a norm that is not affine) belongs to the nearest module around it that has some; if only
    part of those train, it is frozen where it is registered before the first that does.

    Args:
        network: in train mode.
        norm_stats: normalisation layers of the frozen part are in eval mode and the others in
            train mode (`follow`; `recalibrate` too, after `recalibrate`), all are in eval mode
            (`freeze`), or all in train mode (`train`).
        dropout: `off`: everything in the frozen part is in eval mode, dropout, drop path and
            attention included; `on`: only its normalisation is.

    Raises:
        ValueError: an argument is unknown.

    >>> network = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 1))
    >>> apply(network, {"3.weight", "3.bias"})
    >>> set_modes(network.train())
    >>> [layer.training for layer in network]
    [False, False, False, True]
    """
    if norm_stats not in ("follow", "freeze", "train", "recalibrate"):
        raise ValueError(
            f"frozen.norm_stats={norm_stats!r}; give follow, freeze, train or recalibrate"
        )
    if dropout not in ("off", "on"):
        raise ValueError(f"frozen.dropout={dropout!r}; give off or on")
    frozen = _frozen_modules(network)
    if dropout == "off":
        for module in frozen:
            module.training = False
    for _, layer in norm_layers(network):
        layer.train(norm_stats == "train" or (norm_stats != "freeze" and layer not in frozen))


def norm_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Normalisation layers of any kind, with their names.

    Torch's own and their children (timm's BatchNormAct2d, LayerNorm2d), and those that look the
    part: `norm` in the name of the class, and nothing but vectors inside (RMSNorm,
    FrozenBatchNorm2d, ...).

    >>> [name for name, _ in norm_layers(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
    ['1']
    """
    for name, layer in module.named_modules():
        if _is_norm(layer):
            yield name, layer


def norm_parameters(module: nn.Module) -> tuple[str, ...]:
    """Names of the affine parameters of all normalisation layers, in the module's order.

    >>> norm_parameters(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    ('1.weight', '1.bias')
    """
    owned = {
        id(parameter)
        for _, layer in norm_layers(module)
        for parameter in layer.parameters(recurse=False)
    }
    return tuple(name for name, parameter in module.named_parameters() if id(parameter) in owned)


def no_decay(module: nn.Module) -> frozenset[str]:
    """Names of the parameters that weight decay would harm.

    Vectors and scalars, biases, normalisation, and what a submodule names in a `no_weight_decay()`
    of its own, shell patterns included, as timm's networks do.

    >>> sorted(no_decay(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))))
    ['0.bias', '1.bias', '1.weight']
    """
    names = [name for name, _ in module.named_parameters()]
    spared = {n for n, p in module.named_parameters() if p.ndim <= 1 or n.endswith("bias")}
    spared.update(norm_parameters(module))
    for prefix, part in module.named_modules():
        listed = getattr(part, "no_weight_decay", None)
        if not callable(listed):
            continue
        patterns = [f"{prefix}.{own}" if prefix else own for own in listed()]
        spared.update(n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns))
    return frozenset(spared)


def param_groups(
    network: nn.Module,
    trains: Mapping[str, float],
    *,
    lr: float,
    weight_decay: float,
    no_decay: Collection[str],
    layer_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Optimizer groups of the parameters that train; the network is not changed.

    Each has `params`, their `names`, `lr` and `base_lr` (lr times scale), `lr_scale` and
    `weight_decay`. Each parameter is in exactly one, by identity: a tied one under the first of
    its names that trains.

    Args:
        network: whose parameters they are.
        trains: parameter name -> learning-rate scale.
        lr: base learning rate.
        weight_decay: of the parameters that take any.
        no_decay: names of those that take none.
        layer_scales: further scale by name, of layer-wise decay; 1 where a name is missing.

    Raises:
        ValueError: a name is none of the network's.

    >>> network, trains = nn.Linear(1, 1), {"weight": 1.0, "bias": 1.0}
    >>> groups = param_groups(network, trains, lr=0.1, weight_decay=0.5, no_decay={"bias"})
    >>> [(group["names"], group["weight_decay"]) for group in groups]
    [(['weight'], 0.5), (['bias'], 0.0)]
    """
    further = layer_scales or {}
    seen: set[int] = set()
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in _named(network, trains).items():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        scale = trains[name] * further.get(name, 1.0)
        decay = 0.0 if name in no_decay else weight_decay
        fresh = {
            "params": [],
            "names": [],
            "lr": lr * scale,
            "base_lr": lr * scale,
            "lr_scale": scale,
            "weight_decay": decay,
        }
        group = groups.setdefault((scale, decay), fresh)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def layer_decay_scales(groups: Sequence[Group], head_level: int, decay: float) -> dict[str, float]:
    """Parameter name -> learning-rate scale that falls by `decay` a layer from the head down.

    Args:
        groups: with their levels, 0 at the stem.
        head_level: level whose scale is 1.
        decay: factor per level, in (0, 1]; 1 is off.

    Raises:
        ValueError: `decay` is out of range.

    Source: Clark et al. 2020, "ELECTRA", 2003.10555; Bao et al. 2021, "BEiT". The same scales as
    timm's `param_groups_layer_decay`, which freezes parameters besides.

    >>> layer_decay_scales([Group("stem", ("conv.weight",), 0)], 2, 0.5)
    {'conv.weight': 0.25}
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay={decay}; give a factor in (0, 1], where 1 is off")
    return {
        name: decay ** (head_level - group.level) for group in groups for name in group.parameters
    }


def recalibrate(network: nn.Module, batches: Iterable[Any]) -> None:
    """Measures batch-norm statistics anew over batches of inputs (a mutator).

    Each statistic becomes the mean over the batches; all but batch norm is in eval mode meanwhile,
    and modes are restored. Batches of one item are skipped: they have no variance. Without batch
    norm nothing is read.

    Args:
        network: called on each batch.
        batches: tensors, or mappings or sequences of them; moved to the network's device.

    Raises:
        ValueError: there is no batch of two items or more.

    Source: Izmailov et al. 2018, "Averaging Weights ...", section 3.2, as torch's `update_bn`.

    >>> network = nn.BatchNorm1d(1)
    >>> recalibrate(network, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
    >>> network.running_mean, network.running_var
    (tensor([4.]), tensor([2.]))
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    device = next(iter(network.state_dict().values())).device
    count = 0
    with torch.no_grad(), _measuring(network, layers):
        for batch in batches:
            if _items(batch) < 2:
                continue
            network(_moved(batch, device))
            count += 1
    if count == 0:
        raise ValueError("recalibrate: no batch has two items or more; raise the batch size")


@contextmanager
def _measuring(network: nn.Module, layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """Batch norm measures from nothing with equal weights, all else is in eval mode."""
    modes = {module: module.training for module in network.modules()}
    momenta = [layer.momentum for layer in layers]
    kept = [{n: b.clone() for n, b in layer.named_buffers(recurse=False)} for layer in layers]
    network.eval()
    for layer in layers:
        layer.training = True
        layer.momentum = None
        layer.reset_running_stats()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, momentum, before in zip(layers, momenta, kept, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked == 0:  # nothing was measured: put back what there was
                for name, buffer in layer.named_buffers(recurse=False):
                    buffer.copy_(before[name])


def _named(network: nn.Module, names: Collection[str]) -> dict[str, nn.Parameter]:
    """The named parameters, in the network's order."""
    every = dict(network.named_parameters(remove_duplicate=False))
    for name in names:
        if name not in every:
            example = next(iter(every), "nothing: it has no parameters")
            raise ValueError(
                f"{name!r} is no parameter of the network; names look like {example!r}"
            )
    wanted = set(names)
    return {name: parameter for name, parameter in every.items() if name in wanted}


def _frozen_modules(network: nn.Module) -> set[nn.Module]:
    """The modules of the frozen part, as `set_modes` defines it."""
    frozen: set[nn.Module] = set()
    visited: set[nn.Module] = set()
    started = False  # a parameter that trains was passed

    def visit(module: nn.Module, around: str) -> None:
        nonlocal started
        if module in visited:
            return
        visited.add(module)
        own = _state(module)
        state = own or around
        if state == "frozen" or (state == "part" and not own and not started):
            frozen.add(module)
        started = started or any(p.requires_grad for p in module.parameters(recurse=False))
        for child in module.children():
            visit(child, state)

    visit(network, "frozen")
    return frozen


def _state(module: nn.Module) -> Literal["", "frozen", "part", "trained"]:
    """How much of a module trains; empty without parameters."""
    flags = {parameter.requires_grad for parameter in module.parameters()}
    if not flags:
        return ""
    return "part" if len(flags) == 2 else "trained" if True in flags else "frozen"


def _is_norm(layer: nn.Module) -> bool:
    if isinstance(layer, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        return True
    if "norm" not in type(layer).__name__.lower():
        return False
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    inside = sum(1 for _ in layer.parameters()) - sum(1 for _ in layer.parameters(recurse=False))
    return bool(own) and inside == 0 and all(tensor.ndim <= 1 for tensor in own)


def _items(batch: Any) -> int:
    """Number of items: the first dimension of the first tensor."""
    if isinstance(batch, Tensor):
        return len(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return _items(next(iter(parts)))


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_moved(value, device) for value in batch)
    return batch
