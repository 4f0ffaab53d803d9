"""Fully sharded parameters (FSDP2): shard a network, gather what is saved, place what is loaded."""

from collections.abc import Mapping
from typing import overload

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tlx.tasks.task import Network


def shard(network: Network, mesh: DeviceMesh) -> None:
    """Shards blocks, backbone and head over the ranks of a mesh (a mutator).

    Blocks are the backbone's direct children, and those of its sequences; they are called as
    modules, which is where FSDP gathers their parameters.
    """
    for child in network.backbone.children():
        sequence = isinstance(child, nn.Sequential | nn.ModuleList)
        for block in child.children() if sequence else [child]:
            if any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
    fully_shard(network.backbone, mesh=mesh)
    fully_shard(network.head, mesh=mesh)


def is_sharded(network: nn.Module) -> bool:
    """Whether the network's parameters are spread over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


@overload
def on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]: ...


@overload
def on_cpu(state: Mapping[str, object]) -> Mapping[str, object]: ...


def on_cpu(state: Mapping[str, object]) -> Mapping[str, object]:
    """A state with whole tensors on the CPU, nested mappings included.

    Gathering is collective: with sharded tensors every rank must call it.
    """
    done: dict[str, object] = {}
    for name, value in state.items():
        if isinstance(value, DTensor):
            done[name] = value.full_tensor().detach().cpu()
        elif isinstance(value, Tensor):
            done[name] = value.detach().cpu()
        elif isinstance(value, Mapping):
            done[name] = on_cpu(value)
        else:
            done[name] = value
    return done


def placed_like(value: object, parameter: Tensor) -> object:
    """A whole tensor of a sharded parameter's shape, sharded alike; anything else as it is."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor):
        return value
    if isinstance(value, DTensor) or value.shape != parameter.shape:
        return value
    whole = value.to(parameter.device)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements)


@torch.no_grad()
def load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads whole tensors into a network, sharded or not (a mutator).

    What a saved state lacks stays as it is: a checkpoint leaves out what never trains.

    Raises:
        RuntimeError: the state has a tensor that the network lacks, or one of another shape.
    """
    own = network.state_dict()
    if not is_sharded(network):  # torch lists all that does not fit
        network.load_state_dict({**own, **state})
        return
    for name, tensor in state.items():
        own[name].copy_(placed_like(tensor, own[name]))
