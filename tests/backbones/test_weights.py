"""Weights: every key accounted for, nothing executed, identities of content."""

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import timm as timm_lib
import torch
from safetensors import safe_open

from tlx.backbones.timm.networks import timm
from tlx.backbones.weights import files as weights

REAL = Path(os.environ.get("TLX_REAL_DATA", "/nowhere")) / "mobilenetv2_100_in1k"


def network(name="test_resnet", **kwargs):
    return timm_lib.create_model(name, num_classes=0, **kwargs)


def full_state(name="test_resnet", **kwargs):
    return timm_lib.create_model(name, **kwargs).state_dict()


def same(module, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".th", ".pth.tar", ""])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.module.", "network.backbone.", "model."]
)
def test_prefixes_and_suffixes(tmp_path, suffix, prefix):
    state = full_state()
    path = tmp_path / f"weights{suffix}"
    renamed = {prefix + name: tensor for name, tensor in state.items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(renamed, path)
    else:
        torch.save(renamed, path)
    module = network()
    report = weights.load(module, path)
    assert same(module, state)
    assert report.prefix == prefix
    assert set(report.loaded) == set(module.state_dict())
    assert set(report.dropped) == {f"{prefix}fc.weight", f"{prefix}fc.bias"}
    assert not report.adapted
    assert not report.renamed


@pytest.mark.parametrize("container", ["state_dict", "model", "model_ema", "state_dict_ema"])
def test_containers(tmp_path, container):
    state = full_state()
    torch.save({"epoch": 3, container: state, "optimizer": {"lr": 1.0}}, tmp_path / "a.pth")
    module = network()
    assert weights.load(module, tmp_path / "a.pth").container == container
    assert same(module, state)


def test_averaged_weights_are_preferred(tmp_path):
    state, other = full_state(), full_state()
    torch.save({"state_dict": other, "state_dict_ema": state}, tmp_path / "a.pth")
    module = network()
    weights.load(module, tmp_path / "a.pth")
    assert same(module, state)


def test_head_beside_the_trunk_is_dropped_and_reported(tmp_path):
    state = network().state_dict()
    whole = {f"network.backbone.{n}": t for n, t in state.items()}
    whole |= {"network.head.linear.weight": torch.zeros(3, 4)}
    torch.save({"state_dict": whole}, tmp_path / "a.ckpt")
    module = network()
    report = weights.load(module, tmp_path / "a.ckpt")
    assert report.dropped == ("network.head.linear.weight",)
    assert same(module, state)


def test_all_mismatches_are_listed_with_the_nearest_names(tmp_path):
    state = full_state()
    state["layer1.0.conv9.weight"] = state.pop("layer1.0.conv1.weight")
    state["layer2.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    state["decoder.weight"] = torch.zeros(2)
    del state["layer3.0.bn1.running_mean"]
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    module = network()
    before = weights.content_id(module)
    with pytest.raises(weights.WeightsError) as error:
        weights.load(module, tmp_path / "a.safetensors")
    text = str(error.value)
    assert "2 missing, 2 unexpected, 1 of another shape" in text
    assert "missing: layer1.0.conv1.weight (nearest in the file: layer1.0.conv9.weight)" in text
    assert "missing: layer3.0.bn1.running_mean" in text
    assert "unexpected: decoder.weight" in text
    assert "layer2.0.conv1.weight: file [1, 2, 3, 3]" in text
    assert weights.content_id(module) == before


def test_another_network_is_refused(tmp_path):
    torch.save(full_state("test_vit"), tmp_path / "a.pth")
    with pytest.raises(weights.WeightsError, match="does not fit test_resnet"):
        weights.load(network(), tmp_path / "a.pth")


def test_missing_batch_counters_are_kept_and_reported(tmp_path):
    state = {n: t for n, t in full_state().items() if "num_batches" not in n}
    torch.save(state, tmp_path / "a.pth")
    module = network()
    report = weights.load(module, tmp_path / "a.pth")
    assert report.defaulted
    assert all(name.endswith("num_batches_tracked") for name in report.defaulted)


def test_first_layer_is_fitted_to_the_channels_as_timm_does(tmp_path):
    state = full_state()
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    module = network(in_chans=1)
    report = weights.load(module, tmp_path / "a.safetensors")
    reference = timm_lib.create_model(
        "test_resnet",
        num_classes=0,
        in_chans=1,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "a.safetensors")},
    )
    assert len(report.adapted) == 1
    assert same(module, reference.state_dict())


def test_position_embeddings_are_fitted_as_timm_does(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(full_state("vit_tiny_patch16_224"), path)
    module = network("vit_tiny_patch16_224", img_size=96)
    report = weights.load(module, path)
    reference = timm_lib.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        img_size=96,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path)},
    )
    assert report.adapted == ("pos_embed",)
    assert same(module, reference.state_dict())


def test_older_names_go_through_timms_filter(tmp_path):
    state = full_state("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): tensor
        for name, tensor in state.items()
        if "num_batches" not in name
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet.pth")
    module = network("densenet121")
    report = weights.load(module, tmp_path / "densenet.pth")
    assert report.renamed
    assert set(report.dropped) == {"classifier.weight", "classifier.bias"}
    assert same(module, state)


class Trap:
    def __reduce__(self):
        return (os.system, (f"touch {os.environ['TLX_TRAP']}",))


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_with_code_is_refused_and_nothing_executed(tmp_path, monkeypatch, suffix, plain):
    trap = tmp_path / "sprung"
    monkeypatch.setenv("TLX_TRAP", str(trap))
    content = {"state_dict": {**full_state(), "x": Trap()}}
    path = tmp_path / f"a{suffix}"
    if plain:
        path.write_bytes(pickle.dumps({"x": Trap()}))
    else:
        torch.save(content, path)
    with pytest.raises(weights.WeightsError, match=r"refused, nothing was executed"):
        timm(name="test_resnet", init=str(path))
    assert not trap.exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("content", [b"", b"garbage garbage garbage"])
def test_broken_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(weights.WeightsError, match=name):
        weights.load(network(), tmp_path / name)


def test_other_suffixes_and_contents_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"x")
    with pytest.raises(weights.WeightsError, match="safetensors"):
        weights.load(network(), tmp_path / "a.npz")
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(weights.WeightsError, match="no plain mapping"):
        weights.load(network(), tmp_path / "a.pth")


def test_trunks_go_round_and_keep_their_identity(tmp_path):
    first = timm(name="test_resnet", init="none")
    path = tmp_path / "sub" / "trunk.safetensors"
    weights.save_trunk(first.module, path, metadata=first.export)
    second = timm(name="test_resnet", init=str(path))
    assert same(second.module, first.module.state_dict())
    assert second.weights_id == weights.content_id(path) == weights.content_id(first.module)
    with safe_open(str(path), framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts == {"source": "timm", "name": "test_resnet", "kwargs": {}}
    assert [p.name for p in path.parent.iterdir()] == ["trunk.safetensors"]
    with pytest.raises(weights.WeightsError, match=r"'test_resnet'.*'test_vit'"):
        timm(name="test_vit", init=str(path))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "trunk.safetensors"
    weights.save_trunk(network(), path, metadata={})
    before = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save_trunk(network(), path, metadata={})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trunk.safetensors"]


def test_content_id_sees_names_values_and_types():
    state = network().state_dict()
    ids = set()
    for change in (lambda t: t, lambda t: t + 1, lambda t: t.half()):
        module = network()
        module.load_state_dict(state)
        module.bn1.weight.data = change(module.bn1.weight.data)
        ids.add(weights.content_id(module))
    assert len(ids) == 3
    assert weights.content_id(torch.nn.Linear(1, 1).bfloat16())


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs TLX_REAL_DATA")
def test_real_weights_equal_timms_own_loading():
    path = REAL / "model.safetensors"
    ours = timm(name="mobilenetv2_100", init=str(path), image_size=96)
    reference = timm_lib.create_model(
        "mobilenetv2_100", pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    ).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        pooled = ours.features(ours.module.eval(), images).pooled
        expected = reference(images)
        torch.testing.assert_close(reference.classifier(pooled), expected, rtol=0, atol=0)
    report = weights.load(ours.module, path)
    assert set(report.dropped) == {"classifier.weight", "classifier.bias"}
    assert ours.weights_id == weights.content_id(ours.module) != "none"
