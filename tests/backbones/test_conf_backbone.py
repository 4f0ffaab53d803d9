"""Contract: everything in conf/backbone builds without weights, at its least size."""

import functools
from collections import Counter
from pathlib import Path

import pytest
import timm as timm_lib
import torch
import yaml

from tlx.backbones.timm.networks import least_image_size, timm
from tlx.backbones.transformers.sources import KNOWN
from tlx.data.images.spec import ImageSpec

FOLDER = Path(__file__).parents[2] / "conf" / "backbone"
ALL_FILES = sorted(FOLDER.glob("*.yaml"))
TARGETS = {path: yaml.safe_load(path.read_text())["_target_"] for path in ALL_FILES}
FILES = [path for path in ALL_FILES if TARGETS[path] == "tlx.backbones.timm.networks.timm"]
HUB_FILES = [path for path in ALL_FILES if TARGETS[path].endswith(".transformers")]
QUICK = {"resnet18", "resnet10t", "mobilenetv2_100", "inception_v3", "densenet121", "vit_tiny"}
QUICK |= {"swin_tiny", "vit_small_dinov2", "vit_small_dinov3"}


def options(path):
    config = yaml.safe_load(path.read_text())
    assert config.pop("_target_") == "tlx.backbones.timm.networks.timm"
    if config["name"] == "???":
        config["name"] = "test_resnet"
    return config | {"init": "none"}


least = functools.cache(least_image_size)


def smallest(path):
    config = options(path)
    config["image_size"] = least(config["name"])
    return config


@functools.cache
def built(path):
    """The backbone without memory for its weights."""
    with torch.device("meta"):
        return timm(**options(path))


def test_folder_is_not_empty():
    assert len(FILES) >= 20
    assert len(HUB_FILES) >= 13


@pytest.mark.parametrize("path", HUB_FILES, ids=lambda p: p.stem)
def test_file_of_a_text_network_names_one_that_mistyped_names_are_led_to(path):
    assert path.read_text().startswith("# ")
    config = yaml.safe_load(path.read_text())
    assert config["name"] == "???" or config["name"] in KNOWN
    assert config["init"] == "hub"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_begins_with_a_comment_and_names_real_weights(path):
    assert path.read_text().startswith("# ")
    name = yaml.safe_load(path.read_text())["name"]
    assert name == "???" or name in timm_lib.list_pretrained()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_groups_cover_each_parameter_once_in_order(path):
    backbone = built(path)
    names = [name for name, _ in backbone.module.named_parameters()]
    for groups in (backbone.groups, backbone.fine_groups):
        listed = Counter(name for group in groups for name in group.parameters)
        assert listed == Counter(names)
        levels = [group.level for group in groups]
        assert levels == sorted(set(levels))
        assert levels[0] == 0
        assert len({group.name for group in groups}) == len(groups)
    assert [group.level for group in backbone.groups] == list(range(len(backbone.groups)))
    assert backbone.groups[0].name == "stem"
    assert backbone.fine_groups[-1].level <= backbone.head_level
    for some in (backbone.neck, backbone.embeddings, backbone.no_decay):
        assert set(some) <= set(names)
    assert backbone.weights_id == "none"


@pytest.mark.parametrize("path", [p for p in FILES if p.stem in QUICK], ids=lambda p: p.stem)
def test_forward_at_the_least_size_visits_groups_in_order(path):
    backbone = timm(**smallest(path))
    module = backbone.module.eval()
    rank = {name: i for i, group in enumerate(backbone.groups) for name in group.parameters}
    visited = []

    def note(name):
        def hook(*_):
            visited.append(rank[name])

        return hook

    for name, layer in module.named_modules():
        own = [n for n, _ in layer.named_parameters(recurse=False)]
        if own and name:
            layer.register_forward_pre_hook(note(f"{name}.{own[0]}"))
    with torch.no_grad():
        features = backbone.features(module, torch.randn(2, *backbone.reads.size))
    assert features.pooled.shape == (2, backbone.dims["pooled"])
    assert torch.isfinite(features.pooled).all()
    assert visited == sorted(visited)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_it_reads_is_that_of_the_weights(path):
    config = options(path)
    spec = built(path).reads
    stated = timm_lib.models.get_pretrained_cfg(config["name"]).to_dict()
    data = timm_lib.data.resolve_data_config(pretrained_cfg=stated)
    assert isinstance(spec, ImageSpec)
    assert spec.mean == tuple(data["mean"])
    assert spec.std == tuple(data["std"])
    assert spec.interpolation == data["interpolation"]
    side = config.get("image_size") or data["input_size"][-1]
    assert spec.size == (3, side, side)
