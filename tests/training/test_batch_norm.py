"""Parts of one item are refused, by their keys, where batch norm would train on one value."""

from typing import Any

import pytest
import torch
from torch import nn

import made
from tlx.backbones.backbone import Features
from tlx.building import plans
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.config.schema import Trainer
from tlx.data.images.spec import ImageSpec
from tlx.methods import freezing, strategies
from tlx.methods.stages import layout_of
from tlx.tasks.task import Network
from tlx.training.engine import batch_norm

ALONE = Trainer(batch_size=1, eval_batch_size=8)
DIGITS = [
    *("dataset=digits", "dataset.labels_per_class=2", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu", "trainer.epochs=1"),
]


def refused(name: str, size: int, strategy: Any, norm_stats: str) -> bool:
    with torch.device("meta"):
        network, layout, _ = made.network(name, size=size)
    reads = ImageSpec((3, size, size), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    try:
        batch_norm.check(
            network, strategy(layout), reads=reads, trainer=ALONE, norm_stats=norm_stats
        )
    except ValueError:
        return True
    return False


def fails(name: str, size: int, strategy: Any, norm_stats: str) -> bool:
    """Whether torch itself refuses one item in some stage."""
    network, layout, _ = made.network(name, size=size)
    for stage in strategy(layout):
        freezing.apply(network, stage.trains)
        freezing.set_modes(network.train(), norm_stats=norm_stats)
        try:
            network(torch.zeros(1, 3, size, size))
        except ValueError:
            return True
    return False


@pytest.mark.parametrize("norm_stats", ["follow", "freeze", "train"])
@pytest.mark.parametrize("strategy", [strategies.full, strategies.linear_probe, strategies.lp_ft])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_what_is_refused_is_what_torch_refuses(name: str, strategy: Any, norm_stats: str) -> None:
    for size in (32, 64):
        expected = fails(name, size, strategy, norm_stats)
        assert refused(name, size, strategy, norm_stats) is expected


def test_there_are_both_kinds() -> None:
    assert fails("test_resnet", 32, strategies.full, "follow")
    assert not fails("test_resnet", 64, strategies.full, "follow")
    assert not fails("test_resnet", 32, strategies.linear_probe, "follow")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["trainer.batch_size=1"], r"trainer\.batch_size=1; raise trainer\.batch_size to 2 or mo"),
        (
            ["trainer.batch_size=8", "trainer.accumulate=4", "trainer.devices=2"],
            r"=8 in trainer\.accumulate=4 × trainer\.devices=2 parts; lower trainer\.accumulate or "
            r"trainer\.devices, or raise trainer\.batch_size to 16 or more, or .*norm_stats=freeze",
        ),
        (  # 20 items
            ["trainer.batch_size=64", "trainer.accumulate=16"],
            r"the training split has 20 items in trainer\.accumulate=16 parts; lower trainer\.acc",
        ),
        (
            ["trainer.eval_batch_size=1", "frozen.norm_stats=recalibrate"],
            r"trainer\.eval_batch_size=1 makes each of one item: raise it to 2",
        ),
    ],
)
def test_the_keys_are_named_before_training(overrides: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plans.plan(typed(compose([*DIGITS, *overrides])), init="none")


@pytest.mark.parametrize(
    "overrides",
    [["frozen.norm_stats=freeze"], ["freeze_strategy=linear_probe"], ["backbone.image_size=64"]],
)
def test_one_item_is_enough_where_no_variance_is_taken_of_one_value(overrides: list[str]) -> None:
    plans.plan(typed(compose([*DIGITS, "trainer.batch_size=1", *overrides])), init="none")


def test_a_network_that_is_told_by_its_first_step_names_the_keys(tmp_path: Any) -> None:
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3))
    head = nn.Module()
    head.linear = nn.Linear(3, made.CLASSES)
    head.forward = lambda features: head.linear(features.pooled)
    network = Network(trunk, head, lambda module, inputs: Features(pooled=module(inputs)))
    layout = layout_of({"stem": ["backbone.2.weight"], "head": ["head.linear.weight"]})
    with pytest.raises(ValueError, match=r"trainer\.batch_size over trainer\.accumulate.*freeze"):
        made.train(
            network, layout, strategies.full(layout), made.tensors(6, 4), tmp_path,
            steps=2, batch_size=1,
        )  # fmt: skip
