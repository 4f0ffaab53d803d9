"""Weights as people publish them: any suffix, wrapped, with heads and keys of other names."""

import functools
import re

import pytest
import safetensors.torch
import timm as timm_lib
import torch
from torch import nn

import tlx
from tlx.backbones.timm.networks import timm
from tlx.backbones.weights import files as weights
from tlx.backbones.weights import kinds as weight_kinds
from tlx.backbones.weights.key_rules import KeyRules, renamed
from tlx.building.calls import regularization
from tlx.building.networks import model
from tlx.config.check import CheckError
from tlx.config.run import typed
from tlx.data.splits import Labels

NAME = "test_resnet"
RULES = KeyRules(width=96)


@functools.cache
def _state():
    torch.manual_seed(1)
    return timm_lib.create_model(NAME, num_classes=7).state_dict()


def full_state():
    return {name: tensor.clone() for name, tensor in _state().items()}


def trunk_of(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def network():
    return timm_lib.create_model(NAME, num_classes=0)


def loaded(path, rules=RULES):
    module = network()
    report = weights.load(module, path, rules=rules)
    assert all(torch.equal(t, _state()[n]) for n, t in module.state_dict().items())
    return report


def written(folder, state, name="net.th"):
    torch.save(state, folder / name)
    return folder / name


def test_width_is_that_of_the_network():
    assert timm(name=NAME, init="none").dims["pooled"] == RULES.width


# -- kinds of files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.th", "a.bin", "a.pth.tar", "a.model", "a", "a.safetensors"])
@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_content_says_what_a_file_is(kind, name, tmp_path):
    path, state = tmp_path / name, full_state()
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert set(loaded(path).dropped) == {"fc.weight", "fc.bias"}
    tlx.compose(["backbone=timm", f"backbone.name={NAME}", f"backbone.init={path}"])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "page of the web"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03", "GGUF"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\x93NUMPY", "NumPy"),
        (b"a" * 257 + b"ustar", "tar archive"),
        (b'{"weight_map": {}}', "JSON"),
        (b"\x08\x07\x12", "begins with"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_weights_file_is_told(content, why, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    if name.endswith("tensors") and why == "begins with":
        why = "no intact safetensors"
    with pytest.raises(weights.WeightsError, match=f"{name}.*{why}"):
        weights.load(network(), path)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_archives_that_are_not_torchs_are_told(tmp_path):
    import numpy as np

    np.savez(tmp_path / "a.npz", x=np.ones(2))
    assert "NumPy" in weight_kinds.refusal(tmp_path / "a.npz")
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "a.pt")
    assert "TorchScript" in weight_kinds.refusal(tmp_path / "a.pt")


# -- containers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (lambda s: {"model": {"state_dict": s}}, "model.state_dict"),
        (lambda s: {"student": dict(s), "teacher": s}, "teacher"),
        (lambda s: {"epoch": 1, "best": 0.5, **s}, ""),
        (lambda s: {"net": s, "optimizer": {"m": torch.ones(1)}}, "net"),
    ],
)
def test_weights_are_found_in_a_checkpoint(content, container, tmp_path):
    assert loaded(written(tmp_path, content(full_state()))).container == container


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: (t * 100).to(torch.int8), "is int8"),
        (lambda t: t.to(torch.complex64), "is complex64"),
        (lambda t: t * float("nan"), "no numbers"),
    ],
)
def test_weights_that_are_no_floats_are_not_copied(change, why, tmp_path):
    state = {n: change(t) if t.is_floating_point() else t for n, t in full_state().items()}
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(weights.WeightsError, match=f"conv1.*{why}"):
        weights.load(module, written(tmp_path, state))
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())


def test_weights_in_half_precision_are_read(tmp_path):
    state = {n: t.half() if t.is_floating_point() else t for n, t in full_state().items()}
    assert len(weights.load(network(), written(tmp_path, state)).loaded) == len(trunk_of(state))


def test_several_sets_of_weights_are_not_chosen_from(tmp_path):
    path = written(tmp_path, {"net_a": full_state(), "net_b": full_state()})
    with pytest.raises(weights.WeightsError, match=r"net_a, net_b.*by itself"):
        weights.load(network(), path)


# -- heads -----------------------------------------------------------------------------------

HEADS = {
    "linear": {"linear.weight": (7, 96), "linear.bias": (7,)},
    "without a bias": {"cosine.weight": (7, 96)},
    "as a convolution": {"last.weight": (7, 96, 1, 1), "last.bias": (7,)},
    "several layers": {
        **{"projector.0.weight": (64, 96), "projector.1.weight": (64,)},
        **{"projector.1.running_mean": (64,), "projector.3.weight": (32, 64)},
    },
    "prototypes on a projection": {
        **{"projection_head.0.weight": (32, 96), "projection_head.0.bias": (32,)},
        "prototypes.weight": (300, 32),
    },
}


@pytest.mark.parametrize("prefix", ["", "module.", "network.backbone."])
@pytest.mark.parametrize("head", HEADS)
def test_heads_are_known_by_their_shape(head, prefix, tmp_path):
    beside = "network." if "network" in prefix else prefix
    extra = {f"{beside}{name}": torch.ones(shape) for name, shape in HEADS[head].items()}
    state = {f"{prefix}{n}": t for n, t in trunk_of(full_state()).items()} | extra
    report = loaded(written(tmp_path, {"state_dict": state}))
    assert set(report.dropped) == set(extra)
    assert {report.reasons[name] for name in extra} == {
        "a head by its shape: it reads the network's features"
    }


@pytest.mark.parametrize(
    "extra",
    [
        {"other.weight": (7, 95)},  # reads something else
        {"decoder.0.weight": (8, 96, 3, 3)},
        {"layer9.0.fc.weight": (96,)},
        {"layer4.7.fc.weight": (96, 96)},  # a layer too many of the network's own
    ],
)
def test_what_is_no_head_is_not_left_out(extra, tmp_path):
    state = trunk_of(full_state()) | {n: torch.ones(shape) for n, shape in extra.items()}
    with pytest.raises(weights.WeightsError, match="1 unexpected") as error:
        weights.load(network(), written(tmp_path, state), rules=RULES)
    assert "backbone.rename" in str(error.value)
    assert "backbone.head_names" in str(error.value)


def test_a_second_network_is_not_left_out_as_a_head(tmp_path):
    state = full_state()
    both = {f"encoder_q.{n}": t for n, t in state.items()}
    both |= {f"encoder_k.{n}": t for n, t in state.items()} | {"queue": torch.ones(96, 5)}
    path = written(tmp_path, both)
    with pytest.raises(weights.WeightsError, match=r"unexpected: encoder_k\.conv1"):
        weights.load(network(), path, rules=RULES)
    report = loaded(path, KeyRules({r"^encoder_k\.": None, "^queue$": None}, width=96))
    assert len(report.dropped) == len(state) + 3
    assert report.account["dropped"]["backbone.rename '^queue$'"] == ["queue"]


def test_heads_can_be_named(tmp_path):
    state = trunk_of(full_state()) | {"decoder.0.weight": torch.ones(8, 5, 3, 3)}
    path = written(tmp_path, state)
    report = loaded(path, KeyRules(heads=("decoder",)))
    assert report.reasons == {"decoder.0.weight": "backbone.head_names"}
    with pytest.raises(weights.WeightsError, match=r"no 'decodr'.*mean 'decoder.0'"):
        weights.load(network(), path, rules=KeyRules(heads=("decoder", "decodr")))
    with pytest.raises(weights.WeightsError, match="'layer4' is no head, the network needs"):
        weights.load(network(), path, rules=KeyRules(heads=("decoder", "layer4")))


# -- renaming --------------------------------------------------------------------------------


def test_every_key_is_accounted_for(tmp_path):
    state = {f"enc.{n.replace('layer', 'stage')}": t for n, t in trunk_of(full_state()).items()}
    extra = {"enc.linear.weight": torch.ones(7, 96), "enc.step": torch.ones(())}
    path = written(tmp_path, {"ema": state | extra})
    with pytest.raises(weights.WeightsError, match="does not fit"):
        weights.load(network(), path, rules=RULES)
    rename = {r"\bstage(\d)": r"layer\1", r"step$": None}
    report = loaded(path, KeyRules(rename, width=96))
    account = report.account
    assert account["container"] == "ema"
    assert account["prefix"] == "enc."
    assert account["loaded"] == len(network().state_dict())
    assert account["renamed"]["enc.stage1.0.conv1.weight"] == "enc.layer1.0.conv1.weight"
    assert account["dropped"] == {
        "backbone.rename 'step$'": ["enc.step"],
        "a head by its shape: it reads the network's features": ["enc.linear.weight"],
    }
    assert len(report.loaded) + len(report.dropped) == len(state | extra)


@pytest.mark.parametrize(
    ("rename", "why"),
    [
        ({"nothing": ""}, "'nothing' matches no name; names look like"),
        ({"a|b": "c"}, "'a' and 'b' both become 'c'"),
        ({"^a$": ""}, "nothing is left of the name 'a'"),
    ],
)
def test_rules_that_cannot_hold_are_refused(rename, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        renamed({"a": torch.ones(1), "b": torch.ones(1)}, rename)


@pytest.mark.parametrize("rule", [{"(": ""}, {"a": r"\1"}])
def test_a_rule_that_is_none_is_refused_before_anything_is_read(rule):
    with pytest.raises(ValueError, match=r"backbone\.rename.*no regular expression"):
        timm(name=NAME, init="none", rename=rule)


def test_rules_without_a_file_are_refused():
    for key in ("backbone.rename={a:b}", "backbone.head_names=[fc]"):
        for init in ("hub", "none"):
            with pytest.raises(CheckError, match=f"init={init} reads none"):
                tlx.compose(["backbone=resnet18", f"backbone.init={init}", key])
    with pytest.raises(CheckError, match="init_head: keep takes the head of a file"):
        tlx.compose(["backbone=resnet18", "init_head=keep"])


# -- the head that is kept -------------------------------------------------------------------


def kept(path, *more, classes=7):
    config = tlx.compose(
        ["backbone=timm", f"backbone.name={NAME}", f"backbone.init={path}", "init_head=keep", *more]
    )
    run = typed(config)
    effects = regularization(run)
    labels = Labels("single", tuple("abcdefghij"[:classes]))
    return model(run, labels, effects=effects, init=str(path))


@pytest.mark.parametrize("name", ["fc", "linear", "module.fc"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_published_files_head_is_kept(name, suffix, tmp_path):
    state, prefix = full_state(), name.rpartition("fc")[0] if "fc" in name else ""
    owner = name.rpartition(".")[2]
    named = {f"{prefix}{n.replace('fc.', f'{owner}.')}": t for n, t in state.items()}
    path = tmp_path / f"a{suffix}"
    safetensors.torch.save_file(named, path) if suffix != ".pth" else torch.save(named, path)
    made = kept(path)
    reference = timm_lib.create_model(NAME, num_classes=7).eval()
    reference.load_state_dict(state)
    images = torch.randn(2, *made.backbone.reads.size)
    with torch.no_grad():
        assert torch.equal(made.network.eval()(images), reference(images))


def test_a_head_that_cannot_be_kept_is_told(tmp_path):
    state = full_state()
    path = written(tmp_path, state)
    with pytest.raises(ValueError, match=r"\[5, 96\].*fc \[7, 96\].*use init_head=new"):
        kept(path, classes=5)
    path = written(tmp_path, state | {"other.weight": torch.ones(7, 96)})
    with pytest.raises(ValueError, match=r"2 layers of that shape.*backbone\.head_names"):
        kept(path)
    state = kept(path, "backbone.head_names=[other]").network.state_dict()
    assert torch.equal(state["head.linear.weight"], torch.ones(7, 96))
    assert not state["head.linear.bias"].any()
    path = written(tmp_path, trunk_of(full_state()))
    with pytest.raises(ValueError, match=r"none of that shape; of heads it has none"):
        kept(path)
