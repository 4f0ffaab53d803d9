"""A network of which only a part computes: stubs below a boundary, or a stop at it.

A stub stands for the `forward` of a module whose output is not needed: it hands on its input, or
gives what the module gave for one item, so that the few operations between stubs still run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from tlx.frozen import nested
from tlx.frozen.tracing import Call
from tlx.tasks.task import Network

Forward = Callable[..., Any]
Stubs = Sequence[tuple[nn.Module, Forward]]


def replaceable(
    network: nn.Module, calls: Sequence[Call], boundary: Call
) -> tuple[list[nn.Module], list[nn.Module]]:
    """The largest modules below the boundary: those that may hand on their input, and the others.

    What has no parameters is cheap on one item, and may prepare what is used above, as rotary
    positions are; so may a module that takes no floating tensor, such as an embedding.
    """
    of_module: dict[nn.Module, list[Call]] = {}
    for call in calls:
        of_module.setdefault(call.module, []).append(call)
    through: list[nn.Module] = []
    replayed: list[nn.Module] = []
    visited: set[nn.Module] = {boundary.module}

    def visit(module: nn.Module) -> None:
        if module in visited:
            return
        visited.add(module)
        own = of_module.get(module, [])
        below = bool(own) and all(c.end < boundary.end and c.takes_floats for c in own)
        if below and next(module.parameters(), None) is not None:
            if all(call.keeps_shape for call in own):
                through.append(module)
                return
            if len(own) == 1:
                replayed.append(module)
                return
        for child in module.children():
            visit(child)

    visit(network)
    return through, replayed


def recorded(
    network: Network, boundary: str, modules: Sequence[nn.Module], template: Any
) -> tuple[list[tuple[nn.Module, Forward]], Tensor]:
    """Stubs that give what the modules gave for the template, and the activation of it."""
    kept: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        kept[module] = nested.mapped(torch.clone, output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            activation = reached(network, boundary, template)
    finally:
        for handle in handles:
            handle.remove()
    return [(module, _Replay(output)) for module, output in kept.items()], activation


@final
class _Replay:
    """Gives what a module gave once: a copy, since operations in place may follow."""

    def __init__(self, output: Any) -> None:
        self.output = output

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return nested.mapped(torch.clone, self.output)


def through(*args: Any, **kwargs: Any) -> Tensor:
    """The first tensor among the arguments."""
    return next(nested.tensors((args, kwargs)))


@contextmanager
def replaced(stubs: Stubs) -> Iterator[None]:
    """Modules run the stubs for their `forward` (a mutator, undone at the end)."""
    before = [module.__dict__.get("forward") for module, _ in stubs]
    try:
        for module, stub in stubs:
            module.__dict__["forward"] = stub
        yield
    finally:
        for (module, _), own in zip(stubs, before, strict=True):
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = own


@final
class _Reached(BaseException):
    """The boundary's output; no `except Exception` of a network may catch it."""

    def __init__(self, output: Any) -> None:
        self.output = output


def reached(network: Network, boundary: str, inputs: Any) -> Tensor:
    """The output of the module named `boundary`, where the forward pass is broken off."""

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        raise _Reached(output)

    handle = network.get_submodule(boundary).register_forward_hook(stop)
    try:
        network.with_features(inputs)
    except _Reached as stopped:
        if isinstance(stopped.output, Tensor):
            return stopped.output
    finally:
        handle.remove()
    raise RuntimeError(
        f"{boundary!r} gave no tensor, or did not run; find the cut anew for these inputs"
    )
