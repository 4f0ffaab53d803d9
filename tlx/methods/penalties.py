"""Penalties on weights and outputs, added to a loss: pure functions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def l2_sp(
    params: Mapping[str, Tensor],
    anchor: Mapping[str, Tensor],
    head_params: Sequence[Tensor],
    *,
    alpha: float,
    beta: float,
) -> Tensor:
    """Half the squared distance to the starting weights, and half the head's squared norm.

    The trunk must have no weight decay besides, which would pull it to zero.

    Args:
        params: trainable parameters of the trunk by name.
        anchor: their values at the start, by name; further names are ignored.
        head_params: the head's, which have no starting point worth keeping.
        alpha: strength on the trunk.
        beta: strength on the head.

    Raises:
        ValueError: a parameter has no starting value.

    Source: Li et al. 2018, "Explicit Inductive Bias for Transfer Learning", equation 3.

    >>> w = torch.tensor([3.0, 4.0])
    >>> l2_sp({"w": w}, {"w": torch.zeros(2)}, [torch.ones(2)], alpha=0.1, beta=0.01)
    tensor(1.2600)
    """
    missing = sorted(params.keys() - anchor.keys())
    if missing:
        raise ValueError(
            f"l2_sp: {missing[0]!r} has no starting value; keep the anchor before training, with "
            "every parameter of the trunk"
        )
    starts = [anchor[name].to(tensor) for name, tensor in params.items()]
    moved = torch._foreach_sub(list(params.values()), starts) if params else ()
    return 0.5 * (alpha * _sum_of_squares(moved) + beta * _sum_of_squares(head_params))


def r_drop(first: Tensor, second: Tensor, *, alpha: float, mask: Tensor | None = None) -> Tensor:
    """Mean symmetric divergence of the classes' probabilities in two passes with dropout.

    `alpha` times half of KL(p || q) + KL(q || p), averaged over the rows.

    Args:
        first: logits [..., C] of one pass.
        second: those of another pass over the same items, with other dropout.
        alpha: strength, 0 or more.
        mask: [...], True at the rows that count; None: all do.

    Source: Liang et al. 2021, "R-Drop", 2106.14448, equations 2 to 4. There the cross-entropy is
    that of both passes; here the task's loss is of the first, whose expectation is the same.

    >>> first, second = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> r_drop(first, second, alpha=2.0)
    tensor(0.2311)
    """
    p, q = first.float().log_softmax(-1), second.float().log_softmax(-1)
    rows = 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(-1)  # the two directions in one sum
    if mask is None:
        return alpha * rows.mean()
    return alpha * rows.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def _sum_of_squares(tensors: Sequence[Tensor]) -> Tensor:
    """Of all elements, in float32 at least; 0 for no tensors."""
    if not tensors:
        return torch.zeros(())
    return torch.stack([tensor.float().square().sum() for tensor in tensors]).sum()
