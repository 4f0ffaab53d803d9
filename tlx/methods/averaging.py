"""Exponential moving average of a network's weights."""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn


def warmed_decay(updates: int, *, decay: float) -> float:
    """The decay of update number `updates`, from 0: small at first, so that short runs count.

    Source: the warm-up of TensorFlow's ExponentialMovingAverage, (1 + t) / (10 + t).

    >>> warmed_decay(0, decay=0.999), warmed_decay(100_000, decay=0.999)
    (0.1, 0.999)
    """
    return min(decay, (1 + updates) / (10 + updates))


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once however many names it has.

    >>> list(tensors_of(nn.Linear(1, 1)))
    ['weight', 'bias']
    """
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@final
class Average:
    """Averaged parameters and floating-point buffers; integer buffers are the latest.

    A tensor that never changes is its own average, to the bit.

    Source: Polyak and Juditsky 1992; Izmailov et al. 2018, "Averaging Weights ..." for buffers.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> average = Average(network, keeps=lambda updates: 0.0)
    >>> with torch.no_grad():
    ...     _ = network.weight.fill_(2.0)
    >>> average.update(network)
    >>> average.swap(network)  # the network now holds the average
    >>> average.swap(network)
    >>> network.weight.item()
    2.0
    """

    def __init__(self, network: nn.Module, *, keeps: Callable[[int], float]) -> None:
        """Starts from the network's present weights.

        Args:
            network: whose weights are averaged.
            keeps: from the number of updates before to the average's weight in the next one.
        """
        self.keeps = keeps
        self.updates = 0
        self.tensors = {name: t.detach().clone() for name, t in tensors_of(network).items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the network's weights (a mutator of the average)."""
        current = self._matched(network)
        moving = [name for name, tensor in current.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self.tensors[name] for name in moving],
            [current[name].detach() for name in moving],
            1 - self.keeps(self.updates),
        )
        for name in current.keys() - set(moving):
            self.tensors[name].copy_(current[name])
        self.updates += 1

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchanges the network's weights and the average (a mutator of both)."""
        for name, tensor in self._matched(network).items():
            kept = tensor.detach().clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold: plain values and tensors (not copied)."""
        return {"updates": self.updates, "tensors": dict(self.tensors)}

    @classmethod
    def load(cls, state: Mapping[str, Any], *, keeps: Callable[[int], float]) -> "Average":
        """An average that goes on from a `state`."""
        average = cls(nn.Module(), keeps=keeps)
        average.updates = state["updates"]
        average.tensors = {name: tensor.clone() for name, tensor in state["tensors"].items()}
        return average

    def _matched(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's tensors, after moving the average to where they are."""
        current = tensors_of(network)
        if current.keys() != self.tensors.keys():
            odd = sorted(current.keys() ^ self.tensors.keys())[0]
            raise ValueError(f"the network and its average differ, first in {odd!r}")
        for name, tensor in current.items():
            self.tensors[name] = self.tensors[name].to(tensor.device)
        return current
