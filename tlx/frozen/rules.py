"""Optimizers of many runs at once, each with numbers of its own; updates are in place.

Shapes: G runs of a stack, g of a block, n numbers of a parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent of one run, as `torch.optim.SGD` without dampening.

    Attributes:
        momentum: 0 is off.
        nesterov: needs a momentum.
    """

    momentum: float = 0.9
    nesterov: bool = True


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay of one run, as `torch.optim.AdamW` without amsgrad.

    Attributes:
        betas: decay rates of the two moments.
        eps: added to the denominator.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


class UpdateRule(Protocol):
    """One optimizer for all runs; its own numbers are kept as [G] in double precision."""

    slots: tuple[str, ...]
    """State of each parameter, as torch names it."""
    counts: bool
    """Whether torch keeps a `step` too."""

    def has_state(self, place: int) -> bool:
        """Whether torch would keep state for the run."""
        ...

    def keep(self, which_G: Tensor) -> None:
        """Forgets the runs that are not among `which` (a mutator)."""
        ...

    def factors(self, lr_G: Tensor, decay_G: Tensor, steps_G: Tensor) -> list[Tensor]:
        """What an update multiplies by, [G] each, the one of weight decay first."""
        ...

    def update(
        self, values_gn: Tensor, grad_gn: Tensor, *, slots: Tensors, factors: Tensors, decays: bool
    ) -> None:
        """One step (a mutator of values, slots and gradient); factors are [g, 1] each."""
        ...


def rule_of(optimizers: Sequence[Sgd | AdamW], device: torch.device) -> UpdateRule:
    """The update of all runs of a stack.

    Raises:
        ValueError: optimizers of both classes.
    """
    sgd = [each for each in optimizers if isinstance(each, Sgd)]
    adamw = [each for each in optimizers if isinstance(each, AdamW)]
    if sgd and adamw:
        raise ValueError("a stack has one class of optimizer; fuse runs of Sgd and AdamW apart")
    return _SgdRule(sgd, device) if sgd else _AdamWRule(adamw, device)


@final
class _SgdRule:
    counts = False

    def __init__(self, optimizers: Sequence[Sgd], device: torch.device) -> None:
        numbers = [(each.momentum, float(each.nesterov)) for each in optimizers]
        self.momentum, self.nesterov = torch.tensor(numbers, dtype=torch.float64, device=device).T
        self.has_momentum = bool(self.momentum.any())
        self.has_nesterov = bool(self.nesterov.any())
        self.slots: tuple[str, ...] = ("momentum_buffer",) if self.has_momentum else ()

    def has_state(self, place: int) -> bool:
        return bool(self.momentum[place] > 0)

    def keep(self, which_G: Tensor) -> None:
        self.momentum, self.nesterov = self.momentum[which_G], self.nesterov[which_G]

    def factors(self, lr_G: Tensor, decay_G: Tensor, steps_G: Tensor) -> list[Tensor]:
        of_buffer = torch.where(self.nesterov > 0, self.momentum, 1.0)
        return [decay_G, self.momentum, -lr_G * self.nesterov, -lr_G * of_buffer]

    def update(
        self, values_gn: Tensor, grad_gn: Tensor, *, slots: Tensors, factors: Tensors, decays: bool
    ) -> None:
        decay, momentum, of_gradient, of_buffer = factors
        if decays:
            grad_gn.addcmul_(values_gn, decay)
        moved = grad_gn
        # runs without momentum pass through the same operations, times 0: one pass for the block
        if self.has_momentum:
            moved = slots[0]
            torch.addcmul(grad_gn, moved, momentum, out=moved)
        if self.has_nesterov:
            values_gn.addcmul_(grad_gn, of_gradient)
        values_gn.addcmul_(moved, of_buffer)


@final
class _AdamWRule:
    slots: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
    counts = True

    def __init__(self, optimizers: Sequence[AdamW], device: torch.device) -> None:
        numbers = [(*each.betas, each.eps) for each in optimizers]
        self.numbers = torch.tensor(numbers, dtype=torch.float64, device=device).T

    def has_state(self, place: int) -> bool:
        return True

    def keep(self, which_G: Tensor) -> None:
        self.numbers = self.numbers[:, which_G]

    def factors(self, lr_G: Tensor, decay_G: Tensor, steps_G: Tensor) -> list[Tensor]:
        beta1, beta2, eps = self.numbers
        # The rate divides the denominator, as addcdiv takes no factor of each run's own; it is
        # kept off zero, where that would be 0 times infinity.
        rate = (lr_G / (1 - beta1**steps_G)).clamp_min(1e-30)
        scale = 1 / (rate * (1 - beta2**steps_G).sqrt())
        return [1 - lr_G * decay_G, 1 - beta1, 1 - beta2, scale, eps / rate]

    def update(
        self, values_gn: Tensor, grad_gn: Tensor, *, slots: Tensors, factors: Tensors, decays: bool
    ) -> None:
        decay, one_less_beta1, one_less_beta2, scale, eps = factors
        mean, square = slots
        if decays:
            values_gn.mul_(decay)
        mean.lerp_(grad_gn, one_less_beta1)
        # the gradient's room is used again, twice: a step allocates nothing
        square.lerp_(grad_gn.mul_(grad_gn), one_less_beta2)
        denominator = torch.sqrt(square, out=grad_gn).mul_(scale).add_(eps)
        values_gn.addcdiv_(mean, denominator, value=-1)
