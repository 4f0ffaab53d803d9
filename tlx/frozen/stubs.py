"""A network of which only a part computes: stubs below a boundary, or a stop at it.

A stub stands for the `forward` of a module whose output is not needed: it hands on its input, or
gives what the module gave for one item, so that the few operations between stubs still run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from tlx.frozen import nested
from tlx.frozen.tracing import Call
from tlx.tasks.task import Network

Forward = Callable[..., object]
Stubs = Sequence[tuple[nn.Module, Forward]]


def replaceable(
    network: nn.Module, calls: Sequence[Call], boundary: Sequence[Call]
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
    stored = {call.module for call in boundary}
    end = max(call.end for call in boundary)
    # shared modules are visited once, and what is stored is replaced by itself
    visited = set(stored)

    def visit(module: nn.Module) -> None:
        if module in visited:
            return
        visited.add(module)
        inside = of_module.get(module, [])
        below = bool(inside) and all(c.end < end and c.takes_floats and not c.live for c in inside)
        # what is stored must appear where it did, and a stub runs nothing inside of it
        if below and _is_frozen(module) and stored.isdisjoint(module.modules()):
            if all(call.keeps_shape for call in inside):
                through.append(module)
                return
            if len(inside) == 1:
                replayed.append(module)
                return
        for child in module.children():
            visit(child)

    visit(network)
    return through, replayed


def _is_frozen(module: nn.Module) -> bool:
    """Whether it has parameters, and none that trains."""
    each = list(module.parameters())
    return bool(each) and not any(parameter.requires_grad for parameter in each)


def recorded(
    network: Network, boundary: Sequence[str], modules: Sequence[nn.Module], template: object
) -> tuple[dict[nn.Module, tuple[object, int]], list[object]]:
    """What the modules gave for the template, with the items of their input; the boundary's too."""
    outputs: dict[nn.Module, tuple[object, int]] = {}

    def keep(module: nn.Module, args: object, kwargs: object, output: object) -> None:
        outputs[module] = nested.mapped(torch.clone, output), nested.count((args, kwargs))

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    try:
        with torch.no_grad():
            at_boundary = reached(network, boundary, template)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, at_boundary


@final
@dataclass(frozen=True)
class Replay:
    """Gives what a module gave once: a copy, since operations in place may follow.

    Attributes:
        output: of the module.
        items: of the input that it gave this for; where the present input has several times as
            many, the output is repeated as often. 0: never.
    """

    output: object
    items: int

    def __call__(self, *args: object, **kwargs: object) -> object:
        """The output, once or repeated."""
        times = nested.count((args, kwargs)) // self.items if self.items else 1
        if times <= 1:
            return nested.mapped(torch.clone, self.output)
        return nested.repeated(self.output, times, count=self.items)


def through(*args: object, **kwargs: object) -> Tensor:
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
        for (module, _), forward in zip(stubs, before, strict=True):
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


@final
class _Reached(BaseException):
    """Breaks off a forward pass; no `except Exception` of a network may catch it."""


def reached(network: Network, boundary: Sequence[str], inputs: object) -> list[object]:
    """The outputs of the modules named `boundary`; the forward pass is broken off at the last."""
    outputs: dict[nn.Module, object] = {}
    modules = [network.get_submodule(name) for name in boundary]

    def stop(module: nn.Module, args: object, output: object) -> None:
        outputs[module] = output
        if len(outputs) == len(modules):
            raise _Reached

    handles = [module.register_forward_hook(stop) for module in modules]
    try:
        network.with_features(inputs)
    except _Reached:
        return [outputs[module] for module in modules]
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name, m in zip(boundary, modules, strict=True) if m not in outputs]
    raise RuntimeError(f"{missing[0]!r} did not run; find the cut anew for these inputs")
