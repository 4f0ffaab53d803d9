"""What runs when: a forward pass in ticks, and the boundaries that it allows.

A boundary is the output of a module that ends before anything trains, draws random numbers or
changes a buffer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlx.frozen import nested
from tlx.frozen.kept import Watched
from tlx.tasks.task import Network


@final
@dataclass(frozen=True)
class Call:
    """One call of a module, in ticks: starts and ends of all calls, counted from 1.

    Attributes:
        storable: whether the output is one floating tensor of the batch, and not the module's
            input unchanged.
        takes_floats: whether the first tensor among the arguments is a floating one.
        keeps_shape: whether the output is like that tensor.
    """

    module: nn.Module
    start: int
    end: int
    storable: bool
    takes_floats: bool
    keeps_shape: bool


@final
class Trace:
    """Calls in the order of their ends; when the first random number was drawn or buffer moved."""

    def __init__(self, network: nn.Module, count: int) -> None:
        self.names = {module: name for name, module in network.named_modules()}
        self.calls: list[Call] = []
        self.moved: tuple[int, str] | None = None
        self._items, self._clock = count, 0
        self._open: list[tuple[nn.Module, int, list[tuple[Tensor, int]]]] = []
        self._watched = Watched(network)
        self._state = self._watched.state()

    def start(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Notes that a call begins: a hook, before the forward."""
        self._tick()
        given = [(tensor, tensor._version) for tensor in nested.tensors((args, kwargs))]
        self._open.append((module, self._clock, given))

    def end(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Notes that a call ends, and what it gave: a hook, after the forward."""
        self._tick()
        opened, start, given = self._open.pop()
        while opened is not module:  # one inside raised, and the network caught it
            opened, start, given = self._open.pop()
        first = given[0][0] if given else None
        plain = isinstance(output, Tensor) and output.is_floating_point()
        batch = plain and output.ndim > 0 and len(output) == self._items
        same = plain and first is not None and nested.like(output, first)
        storable = batch and not any(output is t and t._version == old for t, old in given)
        floats = first is not None and first.is_floating_point()
        self.calls.append(Call(module, start, self._clock, storable, floats, same))

    def _tick(self) -> None:
        self._clock += 1
        if self.moved is None and self._watched.state() != self._state:
            name = self.names[self._open[-1][0]] if self._open else "the network"
            self.moved = self._clock, name


def traced(network: Network, inputs: Any, count: int) -> Trace:
    """One forward pass over a batch of `count` items, in the modes that the network is in."""
    trace = Trace(network, count)
    handles = []
    try:
        for module in trace.names:
            handles.append(module.register_forward_pre_hook(trace.start, with_kwargs=True))
            handles.append(module.register_forward_hook(trace.end, with_kwargs=True))
        network.with_features(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def first_starts(network: nn.Module, calls: Sequence[Call]) -> dict[nn.Module, int]:
    """Tick of each module's first call; one never called may be used whenever its parent runs."""
    called: dict[nn.Module, int] = {}
    for call in calls:
        called[call.module] = min(call.start, called.get(call.module, call.start))
    starts: dict[nn.Module, int] = {}

    def visit(module: nn.Module, around: int) -> None:
        start = called.get(module, around)
        starts[module] = min(start, starts.get(module, start))
        for child in module.children():
            visit(child, start)

    visit(network, 0)
    return starts


def first_live(network: Network, starts: Mapping[nn.Module, int], trace: Trace) -> tuple[int, str]:
    """Tick at which the first thing happens that the prefix must not contain, and what it is."""
    events = [(starts[network.head], "the head runs")]
    if trace.moved is not None:
        tick, name = trace.moved
        events.append((tick, f"{name} draws random numbers or changes a buffer"))
    for module, name in trace.names.items():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            events.append((starts[module], f"{name} trains"))
        elif isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            events.append((starts[module], f"{name} uses the batch's statistics"))
    return min(events)


def candidates(calls: Sequence[Call], live: int) -> list[Call]:
    """Calls whose output may be the boundary, the last to end first."""
    times = Counter(call.module for call in calls)
    found = [c for c in calls if c.end < live and c.storable and times[c.module] == 1]
    return sorted(found, key=lambda call: -call.end)
