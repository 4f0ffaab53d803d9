"""Every freeze strategy on every kind of network: the parameters that it trains, by their modules.

What a strategy makes of a layout is told of in test_strategies, and that training moves these and
no others in tests/training/test_freeze_contract. Nothing is computed here.
"""

from pathlib import Path

import pytest
import torch
import yaml

import made
import tiny
from tlx.backbones.text.recurrent import awd_lstm
from tlx.backbones.timm.networks import timm
from tlx.building.calls import instantiate
from tlx.config.run import Option

CONF = Path(__file__).parents[2] / "conf" / "freeze_strategy"
STRATEGIES = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
IMAGES = {
    "vit_tiny_patch16_224": (32, {"depth": 4}),
    "swin_tiny_patch4_window7_224": (56, {}),
    "convnext_atto": (32, {}),
    "mobilenetv2_100": (32, {}),
    "efficientnet_b0": (32, {}),
    "resnet18": (32, {}),
    "vgg11_bn": (32, {"mlp_ratio": 0.05}),
    "densenet121": (32, {"block_config": (2, 2, 2, 2)}),
    "test_efficientnet": (32, {}),
    "inception_v3": (75, {}),
}
TEXTS = [*tiny.ALL, "awd_lstm"]
WITH_LINEAR = {"vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", *tiny.ALL}
ADAPTERS = {"lora", "dora", "ia3", "vera"}
PROMPTS = {"prompt", "prefix"}
NO_KEYS = {"distilbert", "deberta-v2", "modernbert"}
NO_BIASES = {"modernbert", "qwen3", "llama"}


def refusal(name, strategy):
    """What is said of a strategy that a network cannot have; None where it can."""
    if strategy in PROMPTS and name not in tiny.ALL:
        return "no text network of transformers"
    if strategy == "prefix" and name in NO_KEYS:
        return "takes no keys and values"
    if strategy in ADAPTERS and (name == "awd_lstm" or strategy == "vera"):
        return None if name in WITH_LINEAR else "no linear layer"  # others adapt convolutions too
    if strategy == "bitfit" and name in NO_BIASES:
        return "has no biases"
    if strategy == "pattern" and name in NO_BIASES - {"modernbert"}:
        return "matches no parameter"  # the heads of decoders have none either
    if strategy == "norm_only" and name == "awd_lstm":
        return "no normalisation parameters"
    return None


def backbone_of(name):
    """A random trunk, of images without memory for its weights."""
    if name in IMAGES:
        size, kwargs = IMAGES[name]
        return timm(name=name, init="none", image_size=size, kwargs=kwargs)
    if name == "awd_lstm":
        sizes = {"embedding": 8, "width": 12, "layers": 2, "vocabulary_size": 60}
        return awd_lstm(tiny.reading({}), init="none", **sizes)
    return tiny.tiny(name)


def stages_of(name, strategy):
    """Of a network with what a strategy adds to it: names, layout, stages, and what was added."""
    node = STRATEGIES[strategy] | ({"r": 2} if "r" in STRATEGIES[strategy] else {})
    backbone = backbone_of(name)
    before = {parameter for parameter, _ in backbone.module.named_parameters()}
    network, layout, _ = made.headed(backbone, strategy=node)
    now = {parameter for parameter, _ in backbone.module.named_parameters()}
    added = {each for each in now if each.replace(".base_layer", "") not in before}
    stages = instantiate(Option.of(node), layout)
    return network, layout, stages, {f"backbone.{n}" for n in added}


def plain(network, layout):
    """Strategy that adds nothing to the names that each of its stages trains."""
    every = {name for name, _ in network.named_parameters()}
    head = {name for name in every if name.startswith("head.")}
    norms = {
        f"{place}.{name}"
        for place, module in network.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters(recurse=False)
    }
    biases = {name for name in every if name.rpartition(".")[2].startswith("bias")}
    groups = [set(group.parameters) for group in layout.groups]
    top = groups[-2] | (groups[-3] if groups[-2] <= set(layout.neck) else set())
    return {
        "full": [every],
        "scratch": [every],
        "discriminative": [every],
        "linear_probe": [head],
        "last_layer": [set(layout.neck) | head],
        "last_k": [top | head],
        "freeze_first_k": [every - groups[0]],
        "surgical": [groups[0] | head],
        "norm_only": [norms | head],
        "bitfit": [biases | head],
        "pattern": [{name for name in biases if name.endswith(".bias")} | head],
        "lp_ft": [head, every],
        "freeze_unfreeze": [norms | head, every],
        "gradual": [set().union(*groups[-1 - n :]) for n in range(len(groups))],
        "freezeout": [set().union(*groups[n:]) for n in range(len(groups))],
        "chain_thaw": [head, *groups[:-1], every],
    }


def trained(stages):
    return [set(stage.trains) for stage in stages]


# of their families the small ones are usual
LARGE = ("mobilenetv2_100", "efficientnet_b0", "inception_v3", "swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in [*IMAGES, *TEXTS]
    ],
)
def test_each_strategy_trains_what_it_says(name):
    with torch.device("meta" if name in IMAGES else "cpu"):
        network, layout, _, _ = stages_of(name, "full")
        names = [parameter for parameter, _ in network.named_parameters()]
        assert sorted(layout.names) == sorted(names)
        expected = plain(network, layout)
        assert {*expected, *ADAPTERS, *PROMPTS} == set(STRATEGIES)
        for strategy, node in STRATEGIES.items():
            if reason := refusal(name, strategy):
                with pytest.raises(ValueError, match=reason):
                    stages_of(name, strategy)
            elif strategy in expected:
                assert trained(instantiate(Option.of(node), layout)) == expected[strategy], strategy
            else:
                _, its, stages, added = stages_of(name, strategy)
                assert added
                assert trained(stages) == [added | set(its.head.parameters)], strategy
