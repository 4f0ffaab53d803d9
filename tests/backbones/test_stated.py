"""What is stated beside weights decides how images are normalised, and the log says so."""

import json

import pytest
import safetensors.torch
import timm as timm_lib
import torch

from tlx.backbones.timm.networks import timm
from tlx.backbones.weights import stated

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
CFG = {"mean": MEAN, "std": STD}


def weights(folder, *, name="test_resnet", metadata=None, **options):
    """A weights file with these metadata."""
    state = timm_lib.create_model(name, **options).state_dict()
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(state, folder / "net.safetensors", metadata=metadata)
    return folder / "net.safetensors"


def beside(file, content):
    def write(folder):
        path = weights(folder)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def inside(**metadata):
    def write(folder):
        return weights(folder, metadata={key: json.dumps(v) for key, v in metadata.items()})

    return write


STATED = {
    "timm": beside("config.json", {"architecture": "test_resnet", "pretrained_cfg": CFG}),
    "timm_old": beside("config.json", {"architecture": "test_resnet", **CFG}),
    "transformers": beside("preprocessor_config.json", {"image_mean": MEAN, "image_std": STD}),
    "metadata": inside(**CFG),
    "metadata_cfg": inside(pretrained_cfg=CFG),
    "run": inside(tlx={"input_spec": {"kind": "image", "size": [3, 8, 8], **CFG}}),
}


@pytest.mark.parametrize("way", STATED)
def test_what_is_stated_beside_a_file_normalises(way, tmp_path):
    path = STATED[way](tmp_path / "in")
    backbone = timm(name="test_resnet", init=str(path))
    assert (backbone.reads.mean, backbone.reads.std) == (tuple(MEAN), tuple(STD))
    (note,) = backbone.notes
    assert "mean 0.1, 0.2, 0.3; std 0.4, 0.5, 0.6 (of " in note
    assert str(tmp_path / "in") in note


def test_of_no_statement_the_names_own_is_used(tmp_path):
    path = weights(tmp_path / "in")
    (tmp_path / "in" / "config.json").write_text("no JSON")
    backbone = timm(name="test_resnet", init=str(path))
    plain = timm(name="test_resnet", init="none")
    assert backbone.reads == plain.reads
    assert "(of timm's test_resnet)" in backbone.notes[0]


def test_the_keys_win(tmp_path):
    path = STATED["timm"](tmp_path / "in")
    backbone = timm(name="test_resnet", init=str(path), mean=[0.0, 0.0, 0.5])
    assert (backbone.reads.mean, backbone.reads.std) == ((0.0, 0.0, 0.5), tuple(STD))
    assert "mean 0, 0, 0.5 (of backbone.mean); std" in backbone.notes[0]


def test_other_channels_take_the_mean_of_what_is_stated(tmp_path):
    path = STATED["timm"](tmp_path / "in")
    backbone = timm(name="test_resnet", init=str(path), in_chans=1)
    assert backbone.reads.mean == (pytest.approx(0.2),)


def test_arguments_beside_a_file_shape_the_network(tmp_path):
    path = weights(tmp_path / "in", name="mobilenetv2_100")
    args = {"pad_type": "same", "drop_rate": 0.5, "img_size": 9, "num_classes": 3, "in_chans": 3}
    config = {"architecture": "mobilenetv2_100", "model_args": args, "pretrained_cfg": {}}
    (path.parent / "config.json").write_text(json.dumps(config))
    backbone = timm(name="mobilenetv2_100", init=str(path))
    assert backbone.export["kwargs"] == {"pad_type": "same"}
    assert "pad_type='same' (of " in backbone.notes[1]
    again = timm(name="mobilenetv2_100", init=str(path), kwargs={"pad_type": ""})
    assert again.export["kwargs"] == {"pad_type": ""}
    config["architecture"] = "mobilenetv2_120d"
    (path.parent / "config.json").write_text(json.dumps(config))
    assert timm(name="mobilenetv2_100", init=str(path)).export["kwargs"] == {}


def test_a_run_s_network_is_that_of_its_child(tmp_path):
    network = {"name": "mobilenetv2_100.ra_in1k", "kwargs": {"pad_type": "same", "img_size": 9}}
    run = {"input_spec": {"kind": "image", **CFG}, "network": network}
    path = weights(tmp_path / "in", name="mobilenetv2_100", metadata={"tlx": json.dumps(run)})
    child = timm(name="mobilenetv2_100", init=str(path))
    assert child.export["kwargs"] == {"pad_type": "same"}
    assert child.reads.mean == tuple(MEAN)


def test_a_folder_that_states_no_normalisation_is_said_to(tmp_path):
    config = {"architecture": "test_resnet", "pretrained_cfg": {"num_classes": 5}}
    path = weights(tmp_path / "in", num_classes=5)
    (path.parent / "config.json").write_text(json.dumps(config))
    (note,) = timm(name=f"local-dir:{path.parent}").notes
    assert "timm's default, local-dir:" in note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mean": [123.675, 116.28, 103.53]}, r"backbone.mean.*0 or more and at most 1.*255"),
        ({"std": [0.0, 0.1, 0.1]}, r"backbone.std.*above 0"),
        ({"mean": [float("nan"), 0.1, 0.1]}, r"backbone.mean"),
        ({"mean": [0.5]}, r"1 values.*each of the 3 channels"),
        ({"std": [0.5] * 3, "in_chans": 1}, r"3 values.*each of the 1 channels"),
    ],
)
def test_wrong_keys_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        timm(name="test_resnet", init="none", **arguments)


def test_a_statement_in_other_units_is_refused_with_its_place(tmp_path):
    wrong = {"image_mean": [123.675, 116.28, 103.53], "image_std": [1.0] * 3}
    path = beside("preprocessor_config.json", wrong)(tmp_path / "in")
    with pytest.raises(ValueError, match=r"preprocessor_config.json: mean.*give backbone.mean"):
        timm(name="test_resnet", init=str(path))
    mended = timm(name="test_resnet", init=str(path), mean=MEAN)
    assert mended.reads.mean == tuple(MEAN)


def test_a_folder_whose_weights_do_not_fit_is_refused(tmp_path):
    config = {"architecture": "test_resnet", "pretrained_cfg": {"num_classes": 5}}
    path = weights(tmp_path / "in", name="test_vit")
    (path.parent / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit test_resnet"):
        timm(name=f"local-dir:{path.parent}")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no weights in the folder"):
        timm(name=f"local-dir:{path.parent}")


def test_what_a_preprocessor_leaves_as_it_is(tmp_path):
    path = beside("preprocessor_config.json", {"do_normalize": False})(tmp_path / "in")
    assert stated.of_file(path).mean == (0.0, 0.0, 0.0)
    assert torch.tensor(stated.of_file(path).std).eq(1).all()
