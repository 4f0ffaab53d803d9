"""Runs with virtual tokens before their texts: killed, loaded, exported, not merged."""

from functools import partial

import pytest
import torch

import launching
import tiny
from texts import alternating
from tlx import cli
from tlx.backbones.adapters import peft as adapters
from tlx.building.calls import regularization, splits
from tlx.building.networks import model
from tlx.config.compose import compose
from tlx.execution import execute, runs
from tlx.results import record
from tlx.use.evaluate import evaluate

KINDS = ("prompt", "prefix")
SIZES = ",".join(f"{key}:{value}" for key, value in tiny.ALL["bert"].items())
BASE = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=8", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=4", "trainer.checkpoint_every_steps=2", "optimizer.lr=0.05"),
    *("backbone=transformers", "backbone.name=bert", "backbone.init=none", "logger=[csv]"),
    *(f"backbone.kwargs={{{SIZES}}}", "freeze_strategy.tokens=4"),
]


@pytest.fixture
def given(tmp_path):
    """Overrides for short texts of two classes."""
    lines = [f"the {['good', 'bad'][i % 2]} cat number {i} sat there" for i in range(60)]
    return [*alternating(tmp_path, lines), *BASE]


def run(given, folder, *overrides):
    config = compose([*overrides, *given, f"runs_dir={folder / 'runs'}"])
    return folder / "runs" / execute.run(config).run


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_gives_its_own_figures(kind, given, tmp_path):
    folder = run(given, tmp_path, f"freeze_strategy={kind}")
    made = record.read(folder)
    # virtual tokens join the embedded text, keys and values only what reads it
    assert made.cached == (kind == "prefix")
    assert 0 < made.parameters.trainable < 1000
    for split, report in evaluate(folder, overrides=[]).items():
        was = made.splits[split].metrics["loss"].value
        assert report["metrics"]["loss"]["value"] == pytest.approx(was, abs=1e-6)
    state = launching.weights(folder)
    moved = [name for name in state if adapters.is_adapter(name)]
    assert len(moved) == 1
    assert not torch.equal(state[moved[0]], _fresh(folder)[moved[0]])


def _fresh(folder):
    """The run's network before it was trained."""
    run = runs.read_run(folder)
    data = splits(run.dataset)
    effects = regularization(run)
    corpus = partial(data.inputs.corpus, data.train)
    made = model(run, data.labels, effects=effects, corpus=corpus, init="none")
    return made.network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_same_weights(kind, given, tmp_path):
    words = [f"freeze_strategy={kind}", *given]
    calm, killed = launching.calm_and_killed(words, tmp_path, before=6)
    one, two = launching.weights(calm), launching.weights(killed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_nothing_is_merged(given, tmp_path, capsys):
    folder = run(given, tmp_path, "freeze_strategy=prefix")
    into = ["--into", str(tmp_path / "merged")]
    assert cli.main(["export", str(folder), *into]) != 0
    assert "--adapter alone" in capsys.readouterr().err
    alone = ["--adapter", "alone", "--into", str(tmp_path / "alone")]
    assert cli.main(["export", str(folder), *alone]) == 0
    assert (tmp_path / "alone" / "adapter_model.safetensors").is_file()
    rest = [word for word in given if not word.startswith(("freeze_strategy", "backbone.init"))]
    with pytest.raises(ValueError, match=r"virtual tokens \(freeze_strategy=prefix\)"):
        run(rest, tmp_path, f"backbone.init=run:{folder.name}")


def test_half_precision_trains_a_prefix(given, tmp_path):
    folder = run(given, tmp_path, "freeze_strategy=prefix", "trainer.precision=bf16-mixed")
    assert record.read(folder).splits["test"].metrics["loss"].value < 5
