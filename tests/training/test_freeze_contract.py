"""What is frozen stays, buffers included; what trains moves: every strategy, every kind of net."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import made
from tlx.building.calls import instantiate
from tlx.config.run import Option
from tlx.methods import freezing
from tlx.methods.stages import Layout, Stage

CONF = Path(__file__).parents[2] / "conf" / "freeze_strategy"
STRATEGIES = sorted(path.stem for path in CONF.glob("*.yaml"))
SMALL: dict[str, tuple[str, int, dict[str, Any]]] = {
    "vit_tiny": ("vit_tiny_patch16_224", 32, {"depth": 4}),
    "convnext_atto": ("convnext_atto", 32, {}),
    "mobilenetv2_100": ("mobilenetv2_100", 32, {}),
}
LARGE: dict[str, tuple[str, int, dict[str, Any]]] = {
    # zero_init_last would block every gradient into a residual branch whose last scale is frozen
    "resnet18": ("resnet18", 32, {"zero_init_last": False}),
    "vgg11_bn": ("vgg11_bn", 32, {"mlp_ratio": 0.05}),
    "densenet121": ("densenet121", 32, {}),
    "inception_v3": ("inception_v3", 75, {}),
}
NETWORKS = {**SMALL, **LARGE}
# ten times the rate takes its activations to 1e23 within eight steps, whose variance is infinite
RATES = {"densenet121": 0.001}
OF_TEXTS = {"prompt", "prefix"}  # tests/backbones/test_prompts, tests/training/test_prompt_runs
# What each strategy trains on each network: tests/methods/test_strategies_on_networks.py. Here is
# shown that training moves that and nothing else: each strategy on a small and on a large network.
CASES = [
    pytest.param(network, strategy, marks=[pytest.mark.slow] if sizes is LARGE else [])
    for sizes in (SMALL, LARGE)
    for at, strategy in enumerate(STRATEGIES)
    for network in ["vit_tiny" if strategy == "vera" else list(sizes)[at % len(sizes)]]
    if strategy not in OF_TEXTS and (strategy != "vera" or sizes is SMALL)
]


def test_there_are_strategies() -> None:
    assert len(STRATEGIES) >= 20


def test_vera_refuses_a_network_without_linear_layers() -> None:
    with pytest.raises(ValueError, match="no linear layer to adapt"):
        made.network("test_resnet", size=32, strategy=node_of("vera"))


def node_of(strategy: str) -> dict[str, Any]:
    """The strategy as configured; VeRA small, so that tiny networks are not all projections."""
    node: dict[str, Any] = yaml.safe_load((CONF / f"{strategy}.yaml").read_text())
    return {**node, "r": 8} if "r" in node else node


def stages_of(strategy: str, layout: Layout) -> tuple[Stage, ...]:
    made_stages: tuple[Stage, ...] = instantiate(Option.of(node_of(strategy)), layout)
    return made_stages


def frozen_state(net: nn.Module, trains: set[str]) -> dict[str, Tensor]:
    """Frozen parameters, and the buffers of modules none of whose parameters train."""
    state = {n: p.detach().clone() for n, p in net.named_parameters() if n not in trains}
    for name, module in net.named_modules():
        own = {f"{name}.{n}" for n, _ in module.named_parameters(recurse=False)}
        if own & trains:
            continue
        for buffer_name, buffer in module.named_buffers(recurse=False):
            state[f"{name}.{buffer_name}"] = buffer.detach().clone()
    return state


@pytest.mark.parametrize(("network", "strategy"), CASES)
def test_frozen_stays_and_trained_moves(network: str, strategy: str, tmp_path: Path) -> None:
    name, size, kwargs = NETWORKS[network]
    net, layout, _ = made.network(name, size=size, strategy=node_of(strategy), kwargs=kwargs)
    stages = stages_of(strategy, layout)
    trained = {n for stage in stages for n in stage.trains}
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    kept = frozen_state(net, trained)
    data = made.tensors(8, size)
    steps = max(6, 2 * len(stages))
    lr = RATES.get(network, 0.01)
    _, progress = made.train(net, layout, stages, data, tmp_path, steps=steps, lr=lr)
    assert progress.step == steps
    now = {**net.state_dict(), **dict(net.named_buffers(remove_duplicate=False))}
    changed = [n for n, value in kept.items() if not torch.equal(now[n], value)]
    assert not changed, changed[:5]
    still = [n for n in trained if torch.equal(now[n], before[n])]
    assert not still, still[:5]
    assert trained, "a strategy that trains nothing"


def test_each_trainable_parameter_is_in_one_group() -> None:
    for case in CASES:
        network, strategy = case.values
        if network not in SMALL:
            continue
        name, size, kwargs = NETWORKS[network]
        net, layout, _ = made.network(name, size=size, strategy=node_of(strategy), kwargs=kwargs)
        for stage in stages_of(strategy, layout):
            groups = freezing.param_groups(
                net, stage.trains, lr=0.1, weight_decay=0.01, no_decay=layout.no_decay
            )
            ids = [id(p) for group in groups for p in group["params"]]
            assert len(ids) == len(set(ids))
            names = dict(net.named_parameters())
            assert set(ids) == {id(names[n]) for n in stage.trains}
