"""What runs when: a forward pass in ticks, and the boundaries that it allows.

A boundary is what one module or several give before a random number is drawn or a buffer changes,
and without anything that trains having a part in it: autograd tells.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlx.frozen import nested
from tlx.frozen.restoring import Watched
from tlx.tasks.task import Network


@final
@dataclass(frozen=True)
class Call:
    """One call of a module, in ticks: starts and ends of all calls, counted from 1.

    Attributes:
        rows: that an item has in each tensor of the output, in order; empty where the output holds
            anything else, and where all of it is the module's input unchanged.
        plain: whether the output is one tensor, with one row an item.
        live: whether something that trains has a part in the output.
        takes_floats: whether the first tensor among the arguments is a floating one.
        keeps_shape: whether the output is like that tensor.
    """

    module: nn.Module
    start: int
    end: int
    rows: tuple[int, ...]
    plain: bool
    live: bool
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

    def start(self, module: nn.Module, args: object, kwargs: object) -> None:
        """Notes that a call begins: a hook, before the forward."""
        self._tick()
        passed = [(tensor, tensor._version) for tensor in nested.tensors((args, kwargs))]
        self._open.append((module, self._clock, passed))

    def end(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        """Notes that a call ends, and what it gave: a hook, after the forward."""
        self._tick()
        opened, start, passed = self._open.pop()
        while opened is not module:  # one inside raised, and the network caught it
            opened, start, passed = self._open.pop()
        first = passed[0][0] if passed else None
        outputs = list(nested.tensors(output))
        # what is handed on is an activation of the module that made it
        handed_on = [any(out is t and t._version == old for t, old in passed) for out in outputs]
        rows = () if all(handed_on) else rows_of(outputs, self._items)
        one = output if isinstance(output, Tensor) else None
        self.calls.append(
            Call(
                module=module,
                start=start,
                end=self._clock,
                rows=rows,
                plain=one is not None and rows == (1,),
                live=any(tensor.requires_grad for tensor in outputs),
                takes_floats=first is not None and first.is_floating_point(),
                keeps_shape=one is not None
                and one.is_floating_point()
                and first is not None
                and nested.like(one, first),
            )
        )

    def _tick(self) -> None:
        self._clock += 1
        if self.moved is None and self._watched.state() != self._state:
            name = self.names[self._open[-1][0]] if self._open else "the network"
            self.moved = self._clock, name


def rows_of(outputs: Sequence[Tensor], items: int) -> tuple[int, ...]:
    """Rows that an item has in each tensor; empty unless all are floating ones of `items` items."""
    if not all(t.is_floating_point() and t.ndim and len(t) % items == 0 for t in outputs):
        return ()
    return tuple(len(tensor) // items for tensor in outputs) if all(map(len, outputs)) else ()


def traced(network: Network, inputs: object, count: int) -> Trace:
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
        # never called: its parameters may be read at any time while its parent runs
        start = called.get(module, around)
        starts[module] = min(start, starts.get(module, start))
        for child in module.children():
            visit(child, start)

    visit(network, 0)
    return starts


def first_live(network: Network, starts: Mapping[nn.Module, int], trace: Trace) -> tuple[int, str]:
    """Tick before which a boundary must end, and what the first thing is that limits boundaries.

    Parameters that train are among those things, and set no tick: autograd knows what they reach.
    """
    barriers = [(starts[network.head], "the head runs")]
    if trace.moved is not None:
        tick, name = trace.moved
        barriers.append((tick, f"{name} draws random numbers or changes a buffer"))
    trains = []
    for module, name in trace.names.items():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            trains.append((starts[module], f"{name} trains"))
        elif isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            barriers.append((starts[module], f"{name} uses the batch's statistics"))
    return min(barriers)[0], min([*barriers, *trains])[1]


def candidates(calls: Sequence[Call], live: int) -> list[Call]:
    """Calls whose output may be stored, the last to end first."""
    times = Counter(call.module for call in calls)
    may = [c for c in calls if c.end < live and c.rows and not c.live and times[c.module] == 1]
    return sorted(may, key=lambda call: -call.end)


def spared(calls: Sequence[Call], end: int) -> int:
    """Parameters of layers that need not run where what ended by a tick is stored.

    A layer that takes no floating tensor looks values up, and spares little however large it is.
    """
    last: dict[nn.Module, int] = {}
    for call in calls:
        beyond = call.live or not call.takes_floats
        last[call.module] = max(last.get(call.module, 0), end + 1 if beyond else call.end)
    below = [module for module, ended in last.items() if ended <= end]
    return sum(p.numel() for module in below for p in module.parameters(recurse=False))
