"""Fully sharded parameters through stage re-entry: raw `fully_shard` on two CPU ranks.

The stages' freezing, groups and carried optimizer state, on sharded parameters, must give the
weights that one process gives. Lightning's own strategy needs a GPU.
"""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

import launching
from tlx.methods import freezing
from tlx.training.engine.module import load_state, state_by_name

STEPS_A_STAGE = 5
STAGES = ({"4."}, {"2.", "4."}, {"0.", "2.", "4."})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 8, generator=generator), torch.arange(8) % 4


def trained(net: nn.Sequential, rank: int, world: int) -> dict[str, Tensor]:
    """Three thawing stages; each rank trains on its interleaved share."""
    carried: dict[str, dict[str, Tensor]] = {}
    step = 0
    for prefixes in STAGES:
        names = [n for n, _ in net.named_parameters() if any(n.startswith(p) for p in prefixes)]
        trains = dict.fromkeys(names, 1.0)
        freezing.apply(net, trains)
        groups = freezing.param_groups(net, trains, lr=0.01, weight_decay=0.0, no_decay=frozenset())
        optimizer = torch.optim.AdamW(groups, lr=0.01)
        load_state(optimizer, carried)
        for _ in range(STEPS_A_STAGE):
            inputs, targets = batch(step)
            loss = functional.cross_entropy(net(inputs[rank::world]), targets[rank::world])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        carried = state_by_name(optimizer)
    return {n: p.detach() for n, p in net.named_parameters()}


def rank_main(rank: int, world: int, port: int, folder: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world)
    )
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (world,))
    net = network()
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    weights = {n: t.full_tensor() for n, t in trained(net, rank, world).items()}  # type: ignore[attr-defined]
    if rank == 0:
        torch.save(weights, folder / "weights.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_two_sharded_ranks_equal_one_through_three_stages(tmp_path: Path) -> None:
    expected = trained(network(), 0, 1)
    port = launching.free_port()
    ranks = [
        launching.CONTEXT.Process(target=rank_main, args=(rank, 2, port, tmp_path))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    found = torch.load(tmp_path / "weights.pt", weights_only=True)
    start = dict(network().named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0)
        assert not torch.equal(found[name], start[name])
