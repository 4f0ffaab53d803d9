"""Cutting a network in two: the frozen bottom, which is computed once, and what lies above it.

Nothing here knows a family of networks. One pass over a real batch records which module runs when,
when random numbers are drawn or a buffer moves, and, by autograd, what has nothing to do with
anything that trains. The boundary is the output of the last such module or, where the network
above reads several, of all that it reads. The suffix is the network itself, run on one item with
every module below the boundary replaced by a stub, and the boundary by the stored activation: the
few operations left down there cost nothing, all above sees the batch. That this is right is not
argued but proved, on the batch, and with NaN for all that is below the boundary or trains.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import nn

from tlx.frozen import nested, tracing
from tlx.frozen.cut import Cut, NoCut, OtherOutputs, Outcome
from tlx.frozen.frontier import Boundary, frontier, of_one
from tlx.frozen.packing import packing_of
from tlx.frozen.proof import check_finite, proved
from tlx.frozen.restoring import restored
from tlx.frozen.stubs import Replay, recorded, replaceable, through
from tlx.tasks.task import Network

# All layers of a transformer block but its last are bridged by a skip connection, and fail cheaply:
# 32 reach past a block of any family, down to the one below.
MOST_TRIED = 32
# A frontier fails where something is read past autograd; each further one costs a pass and a proof.
MOST_FRONTIERS = 4
# Several tensors are worth their bytes where they spare this share of the network more than one.
SPARES_MORE = 0.1
# What a network raises where stubs do not fit it.
FAILURES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def find(network: Network, inputs: object) -> Cut:
    """The network cut as high as the stage allows, proved on a batch; the network stays as it is.

    Costs about eight passes over the batch, and a few more for each boundary that is refused: 8 to
    32 items will do.

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
    with restored(network), torch.enable_grad():
        trace = tracing.traced(network, inputs, count)
    starts = tracing.first_starts(network, trace.calls)
    live, why = tracing.first_live(network, starts, trace)
    if not tracing.candidates(trace.calls, live):
        raise NoCut(f"{why}, before there is an activation to store")
    with restored(network), torch.no_grad():
        network.eval()
        expected = network.with_features(inputs)
    check_finite(expected, "the network's outputs are not finite")
    search = _Search(network, inputs, trace=trace, starts=starts, live=live, expected=expected)
    cut = search.best()
    if cut is not None:
        return cut
    highest = f"; the highest, {search.refused[0]}" if search.refused else ""
    raise NoCut(f"{why}, and none of {len(search.refused)} boundaries below holds{highest}")


def holds(cut: Cut, inputs: object) -> bool:
    """Whether a cut gives on other inputs, of another length say, what the network gives."""
    network = cut.network
    with restored(network), torch.no_grad():
        network.eval()
        expected = network.with_features(inputs)[1]
        try:
            outputs = cut.suffix(cut.prefix(inputs), inputs=inputs)[1]
        except FAILURES:
            return False
    return outputs.shape == expected.shape and torch.allclose(
        outputs, expected, rtol=1e-3, atol=1e-4
    )


@final
@dataclass
class _Search:
    """Boundaries of one network, tried from the highest on.

    Attributes:
        network: in the modes of the stage.
        inputs: the batch.
        trace: of one pass over it.
        starts: of its modules, in ticks.
        live: tick before which a boundary must end.
        expected: what the network gives for the batch in eval mode.
        refused: why boundaries did not hold, in the order in which they were tried.
    """

    network: Network
    inputs: object
    trace: tracing.Trace
    starts: Mapping[nn.Module, int]
    live: int
    expected: Outcome
    refused: list[str] = field(default_factory=list)

    def best(self) -> Cut | None:
        """The cut that spares most for what it stores; None where none holds."""
        calls = self.trace.calls
        single = [of_one(c) for c in tracing.candidates(calls, self.live) if c.plain]
        best = self._first(single[:MOST_TRIED])
        if best is not None and not self._spares_more(self.live, than=best):
            return best  # as always where layers follow one another
        for other in self._several():
            if best is None or self._is_worth_more(other, best):
                best = other
        return best

    def _several(self) -> Iterator[Cut]:
        """Cuts at the highest frontier that holds, and at the lowest output of it alone."""
        end = self.live
        for _ in range(MOST_FRONTIERS):
            try:
                boundary = frontier(self.network, self.inputs, self.trace.calls, live=end)
            except FAILURES as error:
                self.refused.append(f"several outputs: {type(error).__name__}: {error}")
                return
            if boundary is None:
                return
            # what is left of a block that trains in part costs little; its input has it all
            lowest = Boundary(boundary.calls[:1], boundary.used[:1])
            cuts = [self._first([each]) for each in dict.fromkeys((lowest, boundary))]
            yield from (cut for cut in cuts if cut is not None)
            if any(cuts):
                return
            end = boundary.end

    def _first(self, boundaries: Iterable[Boundary]) -> Cut | None:
        """The first cut that holds."""
        for boundary in boundaries:
            for whole in (False, True):
                with restored(self.network):
                    try:
                        return self._proved(boundary, whole=whole)
                    except (NoCut, *FAILURES) as error:
                        reasoned = isinstance(error, NoCut)
                        kind = "" if reasoned else f"{type(error).__name__} in the proof: "
                        reason = f"{' + '.join(self._names(boundary))}: {kind}{error}"
                        final = reasoned and not isinstance(error, OtherOutputs)
                if final:
                    break  # else what is below may have to see as many items
            self.refused.append(reason)
        return None

    def _proved(self, boundary: Boundary, *, whole: bool) -> Cut:
        cut = proved(self._cut(boundary, whole=whole), self.inputs, self.expected)
        count = nested.count(self.inputs)
        if whole and not holds(cut, nested.items(self.inputs, slice(0, count // 2), count)):
            raise NoCut("it holds for this number of items only")
        return cut

    def _cut(self, boundary: Boundary, *, whole: bool) -> Cut:
        """A cut at the boundary, yet to be proved."""
        network, inputs, names = self.network, self.inputs, self._names(boundary)
        one = nested.items(inputs, slice(0, 1), nested.count(inputs))
        template = nested.mapped(torch.clone, one)
        handing_on, replayed = replaceable(network, self.trace.calls, boundary.calls)
        with restored(network):
            network.eval()
            replays, outputs = recorded(network, names, replayed, template)
        used, rows, position = [], {}, 0
        for call, each in zip(boundary.calls, boundary.used, strict=True):
            used += [position + place for place in each]
            rows.update({position + place: call.rows[place] for place in each})
            position += len(call.rows)
        packing = packing_of(outputs, used=used, rows=rows, count=1)
        stored = packing.pack(outputs, 1)
        parts = tuple(n for m, n in self.trace.names.items() if self.starts[m] < boundary.end)
        every = [*network.named_parameters(), *network.named_buffers()]  # tied ones once
        owners = set(parts)
        return Cut(
            names=names,
            packing=packing,
            dtype=stored.dtype,
            # what trains in there has no part in the activation: the proof sees to that
            state_names=tuple(
                n for n, t in every if n.rpartition(".")[0] in owners and not t.requires_grad
            ),
            # above the whole of the backbone, the head sees its output alone
            needs_inputs=not (names == ("backbone",) and packing.is_plain)
            and not all(tensor.is_floating_point() for tensor in nested.tensors(inputs)),
            network=network,
            parts=parts,
            template=template,
            stubs=[
                *((module, through) for module in handing_on),
                *((m, Replay(out, n if whole else 0)) for m, (out, n) in replays.items()),
            ],
            whole=whole,
        )

    def _names(self, boundary: Boundary) -> tuple[str, ...]:
        return tuple(self.trace.names[call.module] for call in boundary.calls)

    def _end(self, cut: Cut) -> int:
        stored = {cut.network.get_submodule(name) for name in cut.names}
        return max(call.end for call in self.trace.calls if call.module in stored)

    def _spares_more(self, end: int, *, than: Cut) -> bool:
        """Whether storing what ended by a tick would spare notably more of the network."""
        calls = self.trace.calls
        more = tracing.spared(calls, end) - tracing.spared(calls, self._end(than))
        return more > SPARES_MORE * sum(p.numel() for p in self.network.backbone.parameters())

    def _is_worth_more(self, cut: Cut, best: Cut) -> bool:
        """Whether a cut spares notably more than the best, for each byte too."""
        if not self._spares_more(self._end(cut), than=best):
            return False
        spared, size = tracing.spared(self.trace.calls, self._end(cut)), math.prod(cut.shape)
        before = tracing.spared(self.trace.calls, self._end(best))
        return spared * math.prod(best.shape) > before * size
