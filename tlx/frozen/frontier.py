"""The last frozen outputs of a network: those that what trains, or the result, reads directly.

Where the frozen part ends in several places (the levels of a pyramid, all layers' outputs, a
residual stream beside a branch), no output of one module has all that is read above.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from tlx.frozen import nested
from tlx.frozen.restoring import restored
from tlx.frozen.tracing import Call, candidates, rows_of
from tlx.tasks.task import Network


@final
@dataclass(frozen=True)
class Boundary:
    """What is to be stored: outputs of modules that are each called once.

    Attributes:
        calls: in the order of their ends.
        used: for each, the positions of those tensors in its output that are read above.
    """

    calls: tuple[Call, ...]
    used: tuple[tuple[int, ...], ...]

    @property
    def end(self) -> int:
        """Tick at which all of it is there."""
        return self.calls[-1].end


def of_one(call: Call) -> Boundary:
    """The one tensor that a module gives."""
    return Boundary((call,), ((0,),))


def frontier(
    network: Network, inputs: object, calls: Sequence[Call], *, live: int
) -> Boundary | None:
    """The frozen outputs, among calls that end before a tick, that are read by anything else.

    Each is replaced by a leaf of autograd's graph; those that the graph of the result still
    reaches are read by something that is no such output. On half of the items: what does not have
    half as many rows then is of no item, such as a table of positions.

    Args:
        network: in the modes of the stage, which are those of the trace.
        inputs: the batch of the trace.
        calls: of the trace.
        live: a tick.

    Returns:
        None where none is reached.
    """
    items = nested.count(inputs)
    part = nested.items(inputs, slice(0, items // 2), items)
    may = {call.module: call for call in candidates(calls, live)}
    leaves: dict[int, tuple[Call, int, Tensor]] = {}

    def mark(module: nn.Module, args: object, output: object) -> object:
        call, tensors = may[module], list(nested.tensors(output))
        if rows_of(tensors, items // 2) != call.rows:
            return output
        marked = []
        for position, tensor in enumerate(tensors):
            leaf = tensor.detach().requires_grad_()
            leaves[id(leaf)] = call, position, leaf
            marked.append(leaf.clone())  # no leaf itself, so that it may be changed in place
        new = iter(marked)
        return nested.mapped(lambda _: next(new), output)

    # first of a module's hooks, so that others (transformers keep hidden states so) see the marks
    handles = [m.register_forward_hook(mark, prepend=True) for m in may]
    try:
        with restored(network), torch.enable_grad():
            features, outputs = network.with_features(part)
    finally:
        for handle in handles:
            handle.remove()
    read = _leaves_below([*nested.tensors(vars(features)), outputs])
    used: dict[Call, list[int]] = {}
    for key in read & leaves.keys():
        call, position, _ = leaves[key]
        used.setdefault(call, []).append(position)
    order = sorted(used, key=lambda call: call.end)
    if not order:
        return None
    return Boundary(tuple(order), tuple(tuple(sorted(used[call])) for call in order))


def _leaves_below(tensors: Sequence[Tensor]) -> set[int]:
    """Identities of the leaves that autograd's graph of the tensors reaches."""
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen, leaves = set(waiting), set()
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):  # only the node that collects a leaf's gradient has it
            leaves.add(id(node.variable))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return leaves
