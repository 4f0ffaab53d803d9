"""Leaving no trace: a network's modes and buffers, and the random numbers, seen and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
import torch
from torch import nn


@final
class Watched:
    """Random numbers and buffers of a network, as values that change when those do."""

    def __init__(self, network: nn.Module) -> None:
        self._buffers = [module._buffers for module in network.modules() if module._buffers]
        self._devices = _devices(network)

    def state(self) -> tuple[object, ...]:
        """Compares equal to an earlier one if nothing was drawn or changed since."""
        held = [b for owned in self._buffers for b in owned.values() if b is not None]
        drawn = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]
        _, key, *rest = np.random.get_state(legacy=True)
        return (
            [(id(buffer), buffer._version) for buffer in held],
            [numbers.numpy().tobytes() for numbers in drawn],
            (np.asarray(key).tobytes(), rest),
            random.getstate(),
        )


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Puts modes, buffers and random numbers back at the end; autocast remembers no weights."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module, _ in modes
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = _devices(network)
    numbers, states = random.getstate(), np.random.get_state()
    # of a pass without gradients, or with other weights, they would be taken in those that follow
    remembers = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(remembers)
            random.setstate(numbers)
            np.random.set_state(states)
            for module, training in modes:
                module.training = training
            for owner, name, buffer, value in buffers:
                owner[name] = buffer  # a forward may have put another tensor in its place
                if not torch.equal(buffer, value):
                    with torch.no_grad():
                        buffer.copy_(value)


def _devices(network: nn.Module) -> list[torch.device]:
    """GPUs that hold parts of the network."""
    every = {parameter.device for parameter in network.parameters()}
    return [device for device in every if device.type == "cuda"]
