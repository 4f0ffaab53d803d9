"""A network in two parts: the frozen bottom, which is computed once, and what lies above it.

Nothing here knows a family of networks. One pass over a real batch records which module runs when,
and when random numbers are drawn or a buffer moves. The boundary is the output of the last module
that ends before that, and before anything that trains. The suffix is the network itself, run on
one item with every module below the boundary replaced by a stub, and the boundary by the stored
activation: the few operations left down there cost nothing, all above sees the batch. That this is
right is not argued but proved, on the batch, and with NaN for all that is below the boundary.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tlx.frozen import nested, tracing
from tlx.frozen.cut import Cut, NoCut
from tlx.frozen.kept import kept
from tlx.frozen.proof import check_finite, proved
from tlx.frozen.stubs import recorded, replaceable, through
from tlx.tasks.task import Network

# All layers of a transformer block but its last are bridged by a skip connection, and fail cheaply:
# 32 reach past a block of any family, down to the one below.
MOST_TRIED = 32
# What a network raises where stubs do not fit it.
FAILURES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def find(network: Network, inputs: Any) -> Cut:
    """The network cut as high as the stage allows, proved on a batch; the network stays as it is.

    Costs about six passes over the batch, and a few more for each boundary that is refused: 8 to 32
    items will do.

    Args:
        network: in train mode, with the stage's frozen parameters and modes.
        inputs: two items or more, not all equal: a tensor, or a mapping of tensors, items first.

    Raises:
        NoCut: nothing frozen can be separated.
        ValueError: the network is in eval mode, which hides what is random in training.
    """
    if not network.training:
        raise ValueError(
            "the network is in eval mode; call network.train() and freezing.set_modes first, so "
            "that what is random in training is seen"
        )
    count = nested.count(inputs)
    if count < 2 or not nested.differ(inputs, count):
        raise NoCut(f"a cut cannot be proved on {count} items that are all equal")
    with kept(network), torch.no_grad():
        trace = tracing.traced(network, inputs, count)
    starts = tracing.first_starts(network, trace.calls)
    live, why = tracing.first_live(network, starts, trace)
    found = tracing.candidates(trace.calls, live)
    if not found:
        raise NoCut(f"{why}, before there is an activation to store")
    with kept(network), torch.no_grad():
        network.eval()
        expected = network.with_features(inputs)
    check_finite(expected, "the network's outputs are not finite")
    refused: list[str] = []
    for call in found[:MOST_TRIED]:
        with kept(network):
            try:
                made = _made(network, inputs, trace=trace, boundary=call, starts=starts)
                return proved(made, inputs, expected)
            except (NoCut, *FAILURES) as error:
                said = "" if isinstance(error, NoCut) else f"{type(error).__name__} in the proof: "
                refused.append(f"{trace.names[call.module]}: {said}{error}")
    raise NoCut(
        f"{why}, and none of {len(refused)} boundaries below holds; the highest, {refused[0]}"
    )


def holds(cut: Cut, inputs: Any) -> bool:
    """Whether a cut gives on other inputs, of another length say, what the network gives."""
    network = cut.network
    with kept(network), torch.no_grad():
        network.eval()
        expected = network.with_features(inputs)[1]
        try:
            found = cut.suffix(cut.prefix(inputs), inputs=inputs)[1]
        except FAILURES:
            return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def _made(
    network: Network,
    inputs: Any,
    *,
    trace: tracing.Trace,
    boundary: tracing.Call,
    starts: Mapping[nn.Module, int],
) -> Cut:
    """A cut at the call, yet to be proved."""
    name = trace.names[boundary.module]
    template = nested.mapped(torch.clone, nested.items(inputs, slice(0, 1), nested.count(inputs)))
    handing_on, replayed = replaceable(network, trace.calls, boundary)
    with kept(network):
        network.eval()
        replays, activation = recorded(network, name, replayed, template)
    parts = tuple(n for m, n in trace.names.items() if starts[m] < boundary.end)
    every = [*network.named_parameters(), *network.named_buffers()]  # tied ones once
    owners = set(parts)
    state = [n for n, _ in every if n.rpartition(".")[0] in owners]
    return Cut(
        boundary=name,
        shape=tuple(activation.shape[1:]),
        dtype=activation.dtype,
        state_names=tuple(state),
        needs_inputs=name != "backbone"  # above the whole of it, the head sees its output alone
        and not all(tensor.is_floating_point() for tensor in nested.tensors(inputs)),
        network=network,
        parts=parts,
        template=template,
        stubs=[*((module, through) for module in handing_on), *replays],
    )
