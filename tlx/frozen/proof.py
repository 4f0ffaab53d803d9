"""The proof that a network in two parts is the same: on a batch, and with NaN for what is below."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from tlx.frozen import nested
from tlx.frozen.cut import Cut, NoCut, OtherOutputs, Outcome
from tlx.frozen.restoring import Watched, restored
from tlx.frozen.stubs import Forward


def proved(cut: Cut, inputs: object, expected: Outcome) -> Cut:
    """The cut, if it holds on the batch; to be called where the network is put back.

    Equal values alone would not do: a branch that starts at zero (LoRA, a layer scale, the last
    norm of a residual block) hides what it reads until it is trained. NaN times zero is NaN.

    Args:
        cut: at a candidate.
        inputs: the batch.
        expected: what the network gives for it in eval mode.

    Raises:
        NoCut: it does not hold.
    """
    network = cut.network
    stored = _still_activation(cut, inputs)
    below = inputs if cut.needs_inputs else cut.stand_in(len(stored))
    stubs = [(module, _poisoned(stub)) for module, stub in cut.stubs]
    with restored(network), torch.no_grad():
        passed = stored.clone(), nested.mapped(torch.clone if cut.needs_inputs else _nan, below)
        outcome = cut.run(*passed, stubs)
    check_finite(outcome, "what is above it also reads what is below it")
    writes = any(tensor._version for tensor in nested.tensors(passed))
    _check_items_apart(cut, inputs, stored)
    with restored(network), torch.no_grad():
        network.eval()
        as_read = stored.clone(memory_format=torch.contiguous_format)  # as a store gives it back
        passed = as_read, nested.mapped(torch.clone, below)
        outcome = cut.run(*passed, cut.stubs)
    _check_same(outcome, expected, _tolerance(stored, expected[1]))
    writes = writes or any(tensor._version for tensor in nested.tensors(passed))
    return replace(cut, copies=writes)


def _still_activation(cut: Cut, inputs: object) -> Tensor:
    """The batch's activation in the stage's modes, the same for all random numbers and training."""
    watched = Watched(cut.network)
    before, buffers = watched.state(), [b.clone() for b in cut.network.buffers()]
    with torch.enable_grad():
        stored = cut.activation(inputs)
    if stored.requires_grad:
        raise NoCut("something below it trains")
    # Batch norm moves its statistics without a new version of the tensors.
    moved = not all(map(torch.equal, buffers, cut.network.buffers()))
    if moved or watched.state() != before:
        raise NoCut("something below it draws random numbers or changes a buffer")
    torch.rand(1), torch.rand(1, device=stored.device)
    if not torch.equal(stored, cut.prefix(inputs)):
        raise NoCut("it gives another activation each time")
    with _trained_away(cut.network):  # autograd does not see what is read detached
        if not torch.equal(stored, cut.prefix(inputs)):
            raise NoCut("something below it reads what trains")
    return stored


@contextmanager
def _trained_away(network: nn.Module) -> Iterator[None]:
    """All parameters that train are NaN (a mutator, undone at the end)."""
    trained = [(p, p.data) for p in network.parameters() if p.requires_grad]
    try:
        for parameter, value in trained:
            parameter.data = torch.full_like(value, torch.nan)
        yield
    finally:
        for parameter, value in trained:
            parameter.data = value


def _check_items_apart(cut: Cut, inputs: object, stored: Tensor) -> None:
    """An item's activation depends on no other item: by halves, and beside an item of NaN."""
    count = len(stored)
    halves = (slice(0, count // 2), slice(count // 2, count))
    parts = [cut.prefix(nested.items(inputs, half, count)) for half in halves]
    tolerance = _tolerance(stored)
    pairs = [(torch.cat(parts), stored)]
    if not cut.needs_inputs:
        pairs.append((cut.prefix(nested.mapped(_nan_first, inputs))[1:], stored[1:]))
    for apart, together in pairs:
        if error := _difference(apart, together, tolerance):
            raise NoCut(f"an item's activation depends on the others of its batch {error}")


def _difference(tensor: Tensor, expected: Tensor, tolerance: float) -> str:
    """How a tensor differs, by more than the tolerance times the largest value; else empty."""
    if tensor.shape != expected.shape:
        return "(of another shape)"
    if not tensor.numel():
        return ""
    error = (tensor.float() - expected.float()).abs().max().item()
    allowed = tolerance * expected.float().abs().max().item()
    if error <= allowed:
        return ""
    return f"(by {error:.2g}, where {allowed:.2g} is rounding)"  # NaN too


def _check_same(outcome: Outcome, expected: Outcome, tolerance: float) -> None:
    tensors, others = _flat(outcome), _flat(expected)
    if len(tensors) != len(others):
        raise OtherOutputs("the network above it gives other features")
    for tensor, other in zip(tensors, others, strict=True):
        if error := _difference(tensor, other, tolerance):
            raise OtherOutputs(f"the network above it gives other outputs {error}")


def check_finite(outcome: Outcome, reason: str) -> None:
    """Refuses features and outputs that hold NaN or infinity, for the reason."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in _flat(outcome)):
        raise NoCut(reason)


def _tolerance(*tensors: Tensor) -> float:
    """Relative rounding error to allow where another batch size or layout means other kernels.

    1e-4 in float32: an order above what 200 layers of random weights show, and far below the effect
    of a wrong input. 8 units in the last place where fewer bits are kept, TF32 and autocast too.
    """
    kind = tensors[0].device.type
    types = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    if torch.is_autocast_enabled(kind):
        types.append(torch.get_autocast_dtype(kind))
    tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    if kind == "cuda" and tf32:
        types.append(torch.float16)  # as many bits of mantissa
    unit = max(torch.finfo(dtype).eps for dtype in types)
    return max(8 * unit, 1e-4)


def _poisoned(stub: Forward) -> Forward:
    return lambda *args, **kwargs: nested.mapped(_nan, stub(*args, **kwargs))


def _nan(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor.clone()


def _nan_first(tensor: Tensor) -> Tensor:
    return torch.cat([_nan(tensor[:1]), tensor[1:]]) if tensor.ndim else tensor


def _flat(outcome: Outcome) -> list[Tensor]:
    """The tensors of features and outputs."""
    features, outputs = outcome
    return [*nested.tensors([getattr(features, f.name) for f in fields(features)]), outputs]
