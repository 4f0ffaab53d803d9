"""Exports load into plain timm and give the same logits."""

import json

import pytest
import timm as timm_lib
import torch
from timm.models._hub import save_for_hf
from torch import nn

from tlx.backbones.export.networks import ExportError, export, overlay
from tlx.backbones.timm.networks import timm

CLASSES = ("cat", "dog", "owl")


def trained(name, **options):
    """A backbone and the state of a network with tlx's linear head on it."""
    backbone = timm(**{"name": name, "init": "none", **options})
    linear = nn.Linear(backbone.dims["pooled"], len(CLASSES))
    state = {f"backbone.{n}": t for n, t in backbone.module.state_dict().items()}
    state |= {f"head.linear.{n}": t for n, t in linear.state_dict().items()}
    return backbone, linear, state


def write(backbone, state, folder, **options):
    return export(
        state,
        folder,
        facts=backbone.export,
        class_names=CLASSES,
        reads=backbone.reads,
        **options,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"image_size": 32}),
        ("vit_tiny_patch16_224", {"image_size": 32}),
        ("convnext_atto", {"image_size": 32}),
        ("mobilenetv2_100", {"image_size": 32}),
        ("vgg11_bn", {"image_size": 32, "kwargs": {"mlp_ratio": 0.02}}),
        pytest.param("densenet121", {"image_size": 32}, marks=pytest.mark.slow),
        pytest.param("inception_v3.tf_in1k", {"image_size": 75}, marks=pytest.mark.slow),
        ("test_resnet", {"image_size": 32, "in_chans": 1}),
        ("test_vit", {"kwargs": {"global_pool": "avg"}}),
        ("deit_tiny_distilled_patch16_224", {"image_size": 32}),  # two classifiers
        ("levit_128s", {}),  # two classifiers, a norm before each
        pytest.param("efficientformer_l1", {}, marks=pytest.mark.slow),
        pytest.param("repvit_m1", {"image_size": 64}, marks=pytest.mark.slow),
    ],
)
def test_plain_timm_gives_the_same_logits(tmp_path, name, options):
    backbone, linear, state = trained(name, **options)
    folder = write(backbone, state, tmp_path / "out")
    images = torch.randn(2, *backbone.reads.size)
    with torch.no_grad():
        expected = linear(backbone.features(backbone.module.eval(), images).pooled)
        plain = timm_lib.create_model(
            name,
            pretrained=True,
            num_classes=len(CLASSES),
            pretrained_cfg_overlay=overlay(folder),
            **backbone.export["kwargs"],
        ).eval()
        local = timm_lib.create_model(f"local-dir:{folder}", pretrained=True).eval()
        torch.testing.assert_close(plain(images), expected)
        torch.testing.assert_close(local(images), expected)
    data = timm_lib.data.resolve_model_data_config(local)
    assert tuple(data["mean"]) == backbone.reads.mean
    assert tuple(data["input_size"]) == backbone.reads.size
    assert tuple(local.pretrained_cfg["label_names"]) == CLASSES
    config = json.loads((folder / "config.json").read_text())
    assert config["num_classes"] == len(CLASSES)


def saved(folder, name, **options):
    """A network of timm's in a folder, as timm itself writes it."""
    folder.mkdir(parents=True)
    save_for_hf(
        timm_lib.create_model(name, num_classes=5, **options), folder, safe_serialization=True
    )
    return folder


def cached(root, name, **options):
    """A network in the hub's cache."""
    place = root / "models--own--net"
    saved(place / "snapshots" / "abc", name, **options)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    return "hf-hub:own/net"


SAME = {"pad_type": "same"}
WAYS = {
    "name": lambda at: {"name": "test_efficientnet", "init": "none", "image_size": 32},
    "kwargs": lambda at: {
        **{"name": "test_efficientnet", "init": "none", "image_size": 32, "kwargs": SAME},
    },
    "folder": lambda at: {
        **{"name": f"local-dir:{saved(at / 'net', 'test_efficientnet', **SAME)}", "image_size": 32},
    },
    "folder_vit": lambda at: {
        "name": f"local-dir:{saved(at / 'net', 'vit_tiny_patch16_224', img_size=48)}"
    },
    "folder_grey": lambda at: {
        **{"name": f"local-dir:{saved(at / 'net', 'test_resnet', in_chans=1)}", "in_chans": 1},
    },
    "folder_grey_as_rgb": lambda at: {
        **{"name": f"local-dir:{saved(at / 'net', 'test_resnet', in_chans=1)}", "init": "none"},
    },
    "folder_untrained": lambda at: {
        **{"name": f"local-dir:{saved(at / 'net', 'test_efficientnet', **SAME)}", "init": "none"},
    },
    "hub": lambda at: {"name": cached(at, "test_efficientnet", **SAME), "image_size": 32},
    "file": lambda at: {
        **{"name": "test_efficientnet", "image_size": 32},
        "init": str(saved(at / "net", "test_efficientnet", **SAME) / "model.safetensors"),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_exported_is_what_was_trained_wherever_it_came_from(way, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "in"))
    backbone, linear, state = trained(**{"init": "hub", **WAYS[way](tmp_path / "in")})
    folder = write(backbone, state, tmp_path / "out")
    monkeypatch.setattr("timm.models._hub.load_model_config_from_hf", None)  # stands by itself
    images = torch.randn(2, *backbone.reads.size)
    with torch.no_grad():
        expected = linear(backbone.features(backbone.module.eval(), images).pooled)
        local = timm_lib.create_model(f"local-dir:{folder}", pretrained=True).eval()
        torch.testing.assert_close(local(images), expected, rtol=0, atol=1e-6)
        code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        monkeypatch.chdir(folder)
        names = {}
        exec(code, names)
        torch.testing.assert_close(names["model"].eval()(images), expected, rtol=0, atol=1e-6)
    for model in (local, names["model"]):
        data = timm_lib.data.resolve_model_data_config(model)
        assert [tuple(data[k]) for k in ("mean", "std")] == [
            getattr(backbone.reads, k) for k in ("mean", "std")
        ]
    for path in folder.iterdir():
        assert str(tmp_path / "in").encode() not in path.read_bytes(), path.name


def test_the_readmes_code_runs(tmp_path, monkeypatch):
    backbone, linear, state = trained("test_vit", kwargs={"global_pool": "avg"})
    folder = write(backbone, state, tmp_path)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    images = torch.randn(2, *backbone.reads.size)
    with torch.no_grad():
        expected = linear(backbone.features(backbone.module.eval(), images).pooled)
        torch.testing.assert_close(names["model"].eval()(images), expected)


def test_what_timm_has_no_form_for_is_refused(tmp_path):
    with torch.device("meta"):
        backbone, _, state = trained("caformer_s18")
        assert any("tlx export will refuse this network" in note for note in backbone.notes)
        with pytest.raises(ExportError, match=r"'head\.fc\.norm' \(LayerNorm2?d?\)"):
            write(backbone, state, tmp_path)
    backbone, _, state = trained("test_resnet")
    with pytest.raises(ExportError, match=r"head\.0\.weight"):
        write(backbone, {**state, "head.0.weight": torch.zeros(1)}, tmp_path)
    del state["backbone.bn1.weight"]
    with pytest.raises(ExportError, match="bn1"):
        write(backbone, state, tmp_path)
    assert not list(tmp_path.iterdir())


def test_onnx_that_is_missing_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    backbone, _, state = trained("test_resnet")
    with pytest.raises(ExportError, match="pip install onnx onnxscript"):
        write(backbone, state, tmp_path, onnx=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("name", "size"), [("test_resnet", 32), ("test_vit", 160)])
def test_onnx_gives_the_same_logits_for_any_batch(tmp_path, name, size):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    backbone, linear, state = trained(name, image_size=size)
    folder = write(backbone, state, tmp_path, onnx=True)
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model)
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        expected = linear(backbone.features(backbone.module.eval(), images).pooled)
    run = onnx.reference.ReferenceEvaluator(model)
    (logits,) = run.run(["logits"], {"image": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_onnx_of_a_network_from_a_folder(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    backbone, linear, state = trained(**WAYS["folder_untrained"](tmp_path / "in"), image_size=32)
    folder = write(backbone, state, tmp_path / "out", onnx=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = linear(backbone.features(backbone.module.eval(), images).pooled)
    run = onnx.reference.ReferenceEvaluator(onnx.load(folder / "model.onnx"))
    (logits,) = run.run(["logits"], {"image": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-3, atol=1e-4)
