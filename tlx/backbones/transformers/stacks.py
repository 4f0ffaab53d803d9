"""Layer groups of a stack of layers, found in its structure: embeddings, layers, neck."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tlx.methods.stages import Group

EMBEDDINGS, NECK = "embeddings", "neck"
Needs = Mapping[str, int | None]
"""Parameter outside the layers -> first layer whose output needs it; as many as there are layers
where only the network's output does; None where nothing does."""


@dataclass(frozen=True)
class Stack:
    """The layers of a network and what lies around them.

    Attributes:
        groups: `embeddings`, one a layer, `neck`; levels count from 0.
        head_level: level of the head, which the neck shares.
        neck: names of what lies above the layers: final norm, pooler, learned pooling.
        embeddings: names of all embedding tables.
        unreached: names of parameters that no output needs, which therefore cannot train.
    """

    groups: tuple[Group, ...]
    head_level: int
    neck: tuple[str, ...]
    embeddings: tuple[str, ...]
    unreached: tuple[str, ...]


def layers_of(network: nn.Module) -> tuple[str, ...]:
    """Names of the lists that hold the layers: mostly one, the longest that lies in no other list.

    Lists of the same length beside it hold parts of the same layers: XLM and FlauBERT have their
    attentions, feed-forward parts and norms in a list each.

    Raises:
        ValueError: the network has no list of layers.
    """
    lists: list[tuple[str, nn.ModuleList]] = []
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in lists)
        if (
            isinstance(module, nn.ModuleList)
            and not inside
            and any(True for _ in module.parameters())
        ):
            lists.append((name, module))
    if not lists:
        raise ValueError(
            f"{type(network).__name__} has no list of layers that could be frozen one by one; "
            "choose another network"
        )
    longest, layers = max(lists, key=lambda item: (_alike(item[1]), len(item[1])))
    parent = longest.rpartition(".")[0]
    return tuple(
        name
        for name, module in lists
        if name.rpartition(".")[0] == parent and len(module) == len(layers)
    )


def stack_of(
    network: nn.Module, *, layers: Sequence[str], needs: Needs | None, declared: int | None
) -> Stack:
    """The groups of a network; each parameter is in exactly one.

    Args:
        network: whose parameters are grouped.
        layers: names of the lists that hold the layers, of `layers_of`.
        needs: of `first_needs`; None: by the order of registration.
        declared: number of layers that the network says it has, to find those that share weights.
    """
    count = len(network.get_submodule(layers[0]))  # type: ignore[arg-type]
    if declared is not None and count < declared:
        logging.getLogger(__name__).warning(
            "%s runs the same weights %d times: they are one layer group, and gradual unfreezing, "
            "last_k and layer-wise decay see %d layer",
            type(network).__name__,
            declared,
            count,
        )
    names = [name for name, _ in network.named_parameters()]
    tables = _tables(network)
    where = dict(_placed(names, layers, count, needs=needs, tables=set(tables)))
    groups = [Group(EMBEDDINGS, tuple(n for n in names if where[n] == 0), 0)]
    parent = layers[0].rpartition(".")[0]
    short = (f"{parent}.layers" if len(layers) > 1 else layers[0]).removeprefix("model.")
    for i in range(count):
        groups.append(Group(f"{short}.{i}", tuple(n for n in names if where[n] == i + 1), i + 1))
    neck = tuple(name for name in names if where[name] == count + 1)
    if neck:
        groups.append(Group(NECK, neck, count + 1))
    unreached = tuple(n for n in names if needs is not None and n in needs and needs[n] is None)
    return Stack(tuple(g for g in groups if g.parameters), count + 1, neck, tables, unreached)


def first_needs(
    network: nn.Module, layers: Sequence[str], run: Callable[[nn.Module], Sequence[Tensor]]
) -> dict[str, int | None]:
    """Which layer needs which of the parameters outside the layers, by automatic differentiation.

    Registration alone misleads: DeBERTa's relative positions are registered after the layers.

    Args:
        network: may be on the meta device.
        layers: names of the lists that hold the layers.
        run: calls the network, and gives every output that a head may read.
    """
    outputs: dict[int, Tensor] = {}

    def hook(index: int) -> Callable[..., None]:
        def note(_module: nn.Module, _args: object, output: object) -> None:
            first = output if isinstance(output, Tensor) else output[0]  # type: ignore[index]
            outputs.setdefault(index, first)

        return note

    parts = list(network.get_submodule(layers[-1]).children())
    handles = [part.register_forward_hook(hook(i)) for i, part in enumerate(parts)]
    try:
        with torch.enable_grad():
            last = torch.stack([output.sum() for output in run(network)]).sum()
    finally:
        for handle in handles:
            handle.remove()
    inside = tuple(f"{name}." for name in layers)
    left = {n: p for n, p in network.named_parameters() if not n.startswith(inside)}
    needs: dict[str, int | None] = {}
    totals = [outputs[i].sum() for i in sorted(outputs)]
    for index, total in zip([*sorted(outputs), len(parts)], [*totals, last], strict=True):
        if not left:
            break
        grads = torch.autograd.grad(
            total, list(left.values()), allow_unused=True, retain_graph=True
        )
        used = [name for name, grad in zip(left, grads, strict=True) if grad is not None]
        for name in used:
            needs[name] = index
            del left[name]
    return {**needs, **dict.fromkeys(left)}


def _alike(layers: nn.ModuleList) -> bool:
    return len({type(layer) for layer in layers}) == 1


def _tables(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of embedding tables, in the network's order."""
    owned = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    return tuple(name for name, parameter in network.named_parameters() if id(parameter) in owned)


def _placed(
    names: Sequence[str],
    layers: Sequence[str],
    count: int,
    *,
    needs: Needs | None,
    tables: set[str],
) -> list[tuple[str, int]]:
    """Name and level of each parameter."""
    placed: list[tuple[str, int]] = []
    passed = False
    for name in names:
        within = next((each for each in layers if name.startswith(f"{each}.")), None)
        if within is not None:
            passed = True
            placed.append((name, 1 + int(name.removeprefix(f"{within}.").partition(".")[0])))
        elif needs is not None and needs.get(name) is not None:
            # what comes between two layers goes with the lower one
            placed.append((name, count + 1 if needs[name] == count else int(needs[name] or 0)))
        else:
            below = name in tables or (needs is None and not passed)
            placed.append((name, 0 if below else count + 1))
    return placed
