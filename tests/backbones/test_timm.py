"""timm backbones: groups, levels, sizes, errors."""

import pytest
import timm as timm_lib
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from tlx.backbones.timm.grouping import layer_groups
from tlx.backbones.timm.networks import least_image_size, timm
from tlx.backbones.weights.files import content_id

DECAYED = (
    "resnet18",
    "resnet50",
    "vit_tiny_patch16_224",
    "vit_base_patch16_clip_224.openai",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_siglip_224.v2_webli",
    "convnext_atto",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "mobilenetv2_100",
    "densenet121",
    "vgg11_bn",
    "inception_v3",
)


@pytest.mark.parametrize("name", DECAYED)
def test_levels_scale_as_timms_layer_decay_on_the_full_model(name):
    with torch.device("meta"):
        backbone = timm(name=name, init="none")
        full = timm_lib.create_model(name, num_classes=10)
    timms = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(full, layer_decay=0.75)
        for parameter in group["params"]
    }
    expected = {name: timms[id(parameter)] for name, parameter in full.named_parameters()}
    ours = {
        parameter: 0.75 ** (backbone.head_level - group.level)
        for group in backbone.fine_groups
        for parameter in group.parameters
    }
    heads = expected.keys() - ours.keys()
    assert len(heads) == 2
    assert all(expected[head] == 1 for head in heads)
    assert ours == {name: pytest.approx(expected[name]) for name in ours}


@pytest.mark.parametrize(
    ("name", "coarse", "neck"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"], set()),
        ("resnet10t", ["stem", "layer1", "layer2", "layer3", "layer4"], set()),
        ("vit_tiny_patch16_224", ["stem", *(f"blocks.{i}" for i in range(12))], {"norm"}),
        ("convnext_atto", ["stem", *(f"stages.{i}" for i in range(4)), "neck"], {"head.norm"}),
        (
            "swin_tiny_patch4_window7_224",
            ["stem", *(f"layers.{i}" for i in range(4)), "neck"],
            {"norm"},
        ),
        ("mobilenetv2_100", ["stem", *(f"blocks.{i}" for i in range(7))], {"conv_head", "bn2"}),
        (
            "densenet121",
            ["stem", *(f"features.denseblock{i}" for i in range(1, 5)), "neck"],
            {"features.norm5"},
        ),
    ],
)
def test_groups_have_names_that_a_person_would_use(name, coarse, neck):
    with torch.device("meta"):
        backbone = timm(name=name, init="none")
    assert [group.name for group in backbone.groups] == coarse
    assert {parameter.rpartition(".")[0] for parameter in backbone.neck} == neck


def test_vgg_joins_each_batch_norm_with_its_convolution():
    with torch.device("meta"):
        backbone = timm(name="vgg11_bn", init="none")
    assert len(backbone.groups) == 9
    assert backbone.groups[-1].name == "neck"
    assert {n.split(".")[0] for n in backbone.neck} == {"pre_logits"}
    assert {n.split(".")[1] for n in backbone.groups[1].parameters} == {"4", "5"}


def test_a_network_without_a_matcher_has_the_groups_of_its_structure(caplog):
    with torch.device("meta"):
        backbone = timm(name="poolformer_s12", init="none")
    stages = [f"stages.{i}" for i in range(4)]
    assert [group.name for group in backbone.groups] == ["stem", *stages, "neck"]
    assert [group.level for group in backbone.fine_groups] == [*range(14)]
    assert backbone.head_level == 13  # of the neck too
    assert "no group_matcher" not in caplog.text


def test_a_network_without_any_structure_is_one_group_and_says_so(caplog):
    network = nn.Linear(2, 2)
    groups, fine, head_level, _ = layer_groups(network, network)
    assert len(groups) == len(fine) == 1
    assert head_level == 1
    assert "no group_matcher" in caplog.text


def test_embeddings_and_no_decay():
    with torch.device("meta"):
        backbone = timm(name="vit_tiny_patch16_224", init="none")
    assert {n.split(".")[0] for n in backbone.embeddings} == {
        "cls_token",
        "pos_embed",
        "patch_embed",
    }
    assert backbone.no_decay == {"cls_token", "pos_embed"}


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vgg11_bn", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050"],
)
def test_features_are_what_timms_classifier_sees(name):
    kwargs = {"mlp_ratio": 0.02} if name == "vgg11_bn" else {}
    backbone = timm(name=name, init="none", image_size=32, kwargs=kwargs)
    full = timm_lib.create_model(name, num_classes=3, **backbone.export["kwargs"]).eval()
    full.load_state_dict(backbone.module.state_dict(), strict=False)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = full.forward_head(full.forward_features(images), pre_logits=True)
        ours = backbone.features(backbone.module.eval(), images).pooled
    torch.testing.assert_close(ours, expected)


def test_least_sizes():
    assert least_image_size("inception_v3") == 75
    assert least_image_size("resnet18") == 32
    assert least_image_size("vit_tiny_patch16_224") == 32
    assert least_image_size("vit_small_patch14_dinov2") == 28


def test_building_draws_the_same_random_numbers_as_timm_alone():
    torch.manual_seed(1)
    expected = timm_lib.create_model("test_resnet", num_classes=0).state_dict()
    torch.manual_seed(1)
    ours = timm(name="test_resnet", init="none").module.state_dict()
    assert all(torch.equal(expected[name], ours[name]) for name in expected)


def test_other_channels():
    backbone = timm(name="test_resnet", init="none", in_chans=1, image_size=32)
    assert backbone.reads.size == (1, 32, 32)
    assert len(backbone.reads.mean) == len(backbone.reads.std) == 1
    out = backbone.features(backbone.module, torch.randn(2, 1, 32, 32)).pooled
    assert out.shape == (2, backbone.dims["pooled"])


def test_drop_path_reaches_the_network():
    backbone = timm(name="vit_tiny_patch16_224", init="none", image_size=32, drop_path_rate=0.5)
    images = torch.randn(2, 3, 32, 32)
    out = [backbone.features(backbone.module.train(), images).pooled for _ in range(2)]
    assert not torch.equal(*out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet81"}, ["resnet81", "resnet18"]),
        ({"name": "resnet18.tv_in2k"}, ["tv_in2k", "resnet18.tv_in1k"]),
        ({"name": "resnet18", "kwargs": {"num_classes": 3}}, ["num_classes"]),
        ({"name": "resnet18", "kwargs": {"widht": 3}}, ["widht"]),
        ({"name": "vgg11_bn", "drop_path_rate": 0.1}, ["drop_path_rate", "vgg11_bn"]),
        ({"name": "resnet18", "drop_rate": 1.5}, ["drop_rate=1.5", "[0, 1)"]),
        ({"name": "resnet18", "in_chans": 0}, ["in_chans=0"]),
        ({"name": "resnet18", "image_size": -1}, ["image_size=-1"]),
        ({"name": "inception_v3", "image_size": 64}, ["image_size=64", "75", "299"]),
        ({"name": "vit_tiny_patch16_224", "image_size": 100}, ["100", "16", "96", "112"]),
        ({"name": "resnet18", "kwargs": {"global_pool": ""}}, ["global_pool"]),
        ({"name": "resnet18", "init": "run:abc"}, ["run:abc"]),
    ],
)
def test_errors_name_the_argument_and_the_fix(arguments, words):
    with pytest.raises(ValueError, match="backbone") as error:
        timm(**{"init": "none"} | arguments)
    for word in words:
        assert word in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no/where\.pth.*hub, none"):
        timm(name="test_resnet", init="no/where.pth")


def test_a_network_without_weights_on_the_hub_says_so():
    with pytest.raises(ValueError, match="no pretrained weights"):
        timm(name="vit_small_patch16_18x2_224")


def test_without_network_the_error_names_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError) as error:
        timm(name="resnet18.tv_in1k", init="hub")
    for word in ("resnet18.tv_in1k", "backbone.init=<path>", "backbone.init=none", "HF_HOME"):
        assert word in str(error.value)


def test_weights_from_the_hub_are_loaded_and_identified(monkeypatch):
    state = timm_lib.create_model("test_resnet").state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(state)
    )
    backbone = timm(name="test_resnet.r160_in1k", init="hub")
    ours = backbone.module.state_dict()
    assert all(torch.equal(ours[name], state[name]) for name in ours)
    assert backbone.weights_id == content_id(backbone.module)
