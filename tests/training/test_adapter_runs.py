"""Runs with adapters: loaded, killed, gone on from, started from, exported."""

import peft
import pytest
import timm as timm_lib
import torch
from safetensors import safe_open

import launching
from tlx import cli
from tlx.backbones.adapters import peft as adapters
from tlx.backbones.export.networks import overlay
from tlx.config.compose import compose
from tlx.execution import execute, finished
from tlx.results import record
from tlx.training.engine import checkpoints
from tlx.use.evaluate import evaluate

BASE = [
    *("dataset=digits", "dataset.labels_per_class=8", "backbone=timm", "backbone.name=test_vit"),
    *("dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"),  # 27 images to test on
    *("backbone.init=none", "backbone.image_size=32", "trainer=cpu", "trainer.epochs=null"),
    *("trainer.steps=8", "trainer.batch_size=16", "trainer.eval_every_steps=4", "logger=[csv]"),
    *("trainer.checkpoint_every_steps=4", "optimizer.lr=0.01", "keep=checkpoints"),
]
KINDS = {
    "lora": ["freeze_strategy=lora", "freeze_strategy.dropout=0.1"],
    "dora": ["freeze_strategy=dora"],
    "ia3": ["freeze_strategy=ia3"],
    "vera": ["freeze_strategy=vera", "freeze_strategy.r=16"],
}


def run(runs_dir, *overrides):
    config = compose([*BASE, *overrides, f"runs_dir={runs_dir}"])
    return runs_dir / execute.run(config).run


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_gives_its_own_figures(kind, tmp_path):
    folder = run(tmp_path, *KINDS[kind])
    found = evaluate(folder, overrides=[])
    for split, report in found.items():
        was = record.read(folder).splits[split].metrics["loss"].value
        assert report["metrics"]["loss"]["value"] == pytest.approx(was, abs=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("lora", marks=pytest.mark.slow), "vera"])
def test_a_killed_run_goes_on_to_the_same_weights(kind, tmp_path):
    calm, killed = launching.calm_and_killed([*BASE, *KINDS[kind]], tmp_path, before=7)
    one, two = launching.weights(calm), launching.weights(killed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_goes_on_from_the_merged_weights_of_one_with_adapters(tmp_path):
    parent = run(tmp_path, *KINDS["lora"])
    init = f"backbone.init=run:{parent.name}"
    child = run(tmp_path, init, "freeze_strategy=linear_probe")
    _, made = finished.load(parent)
    adapters.merge(made.network)
    expected, found = made.network.state_dict(), launching.weights(child)
    trunk = [name for name in found if name.startswith("backbone.")]
    assert set(trunk) == {name for name in expected if name.startswith("backbone.")}
    assert all(torch.equal(found[name], expected[name]) for name in trunk)
    again = run(tmp_path, init, *KINDS["lora"])
    payload, _ = next(checkpoints.sound(again / "checkpoints", tag="last"), None)
    names = [name for name in payload["network"] if name.startswith("backbone.")]
    assert names
    assert all(adapters.is_adapter(name) for name in names)  # what never trains is left out
    with safe_open(again / "model.safetensors", framework="pt") as file:
        assert any("base_layer" in name for name in file.keys())  # noqa: SIM118


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_command_exports_merged_and_alone(tmp_path, capsys):
    parent = run(tmp_path, "freeze_strategy=linear_probe")
    folder = run(tmp_path, f"backbone.init=run:{parent.name}", *KINDS["lora"])
    for adapter in ("merge", "alone"):
        into = str(tmp_path / adapter)
        assert cli.main(["export", str(folder), "--adapter", adapter, "--into", into]) == 0
    assert cli.main(["export", str(parent), "--into", str(tmp_path / "parent")]) == 0
    assert "adapter_model.safetensors" in capsys.readouterr().out
    _, made = finished.load(folder)
    options = made.backbone.export["kwargs"]

    def loaded(name):
        return timm_lib.create_model(
            "test_vit",
            pretrained=True,
            num_classes=3,
            pretrained_cfg_overlay=overlay(tmp_path / name),
            **options,
        )

    images = torch.randn(4, *made.backbone.reads.size)
    with_adapters = peft.PeftModel.from_pretrained(loaded("parent"), tmp_path / "alone").eval()
    with torch.no_grad():
        expected = made.network(images)
        torch.testing.assert_close(loaded("merge").eval()(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(with_adapters(images), expected)
