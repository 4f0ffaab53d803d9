"""A modality of somebody's own: three files outside of tlx, and everything works.

Signals of several lengths, which batches pad: they train, are stored and reused with their padding,
go on after a kill, are evaluated, predicted, compared and shown.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import launching
from tlx.backbones.export.networks import ExportError
from tlx.cli import main
from tlx.config import signatures
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.execution import execute
from tlx.execution.finished import load
from tlx.results import record
from tlx.use.evaluate import evaluate
from tlx.use.export import export
from tlx.use.predict import Predictor

FILES = ("signal_inputs", "signal_data", "signal_network")
RUN = [
    *("dataset=waves", "backbone=mixer", "freeze_strategy=last_k", "freeze_strategy.k=1"),
    *("trainer.epochs=null", "trainer.steps=24", "trainer.batch_size=8", "logger=[csv]"),
    *("trainer.accelerator=cpu", "trainer.workers=0", "optimizer.lr=0.01", "augmentation=[]"),
]


@dataclass(frozen=True)
class InProject:
    """No sabotage: tells a fresh process which project it is in."""

    root: Path

    def __call__(self) -> None:
        os.environ["TLX_PROJECT"] = str(self.root)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the three files and the options that name them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TLX_SETTINGS", str(tmp_path / "none.toml"))
    allowed = ", ".join(f'"{name}.*"' for name in FILES)
    (tmp_path / "tlx.toml").write_text(f"allow_targets = [{allowed}]\n")
    for group, option, target in (
        ("dataset", "waves", "signal_data.waves"),
        ("backbone", "mixer", "signal_network.mixer"),
    ):
        path = tmp_path / "conf" / group / f"{option}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"# Signals.\n_target_: {target}\n")
    for name in FILES:
        shutil.copyfile(Path(__file__).parent / "signals" / f"{name}.py", tmp_path / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    signatures.forget()
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name, None)
    signatures.forget()


def run(*more, runs_dir="runs"):
    config = compose([*RUN, *more, f"runs_dir={runs_dir}"])
    done = execute.run(config)
    return Path(runs_dir) / done.run, done


def test_it_trains_from_stored_activations_as_without(project):
    plain, _ = run("cache=off", runs_dir="plain")
    folder, done = run()
    assert done.cached
    assert done.stages[0].boundary.startswith("backbone.layers.")
    one, two = launching.weights(plain), launching.weights(folder)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    _, again = run("optimizer.lr=0.02")
    assert again.stages[0].computed == 0
    _, other = run("backbone.scale=2.0")
    assert other.stages[0].reused == 0
    _, other = run("dataset.noise=0.2")
    assert other.stages[0].reused == 0


def test_nothing_is_stored_where_nothing_is_frozen_and_inputs_are_no_tensor(project):
    _, done = run("~freeze_strategy.k", "freeze_strategy=full", "cache=auto")
    assert not done.cached


def test_a_finished_run_is_evaluated_and_predicts(project):
    folder, done = run()
    report = evaluate(folder, overrides=[])
    told = done.splits["test"].metrics["accuracy"].value
    assert report["test"]["metrics"]["accuracy"]["value"] == told
    for name, values in {"slow": range(7), "fast": range(0, 42, 6)}.items():
        signal = (torch.tensor([float(v) for v in values]) * 0.25).sin().tolist()
        (project / f"{name}.wave").write_text("\n".join(map(str, signal)))
    rows = Predictor(folder).predict(["slow.wave", "fast.wave"])
    assert [(row["path"], row["file"]) for row in rows] == [
        ("slow.wave", "slow.wave"),
        ("fast.wave", "fast.wave"),
    ]
    assert all(row["prediction"] in ("slow", "fast") for row in rows)
    with pytest.raises(ValueError, match=r"1 files cannot be read:\n  nothing.wave: is no signal"):
        Predictor(folder).predict(["slow.wave", "nothing.wave"])


def test_a_finished_run_is_exported_for_its_own_code(project):
    folder, _ = run()
    export(folder, into=project / "out")
    inputs = {"signal": torch.randn(2, 9), "real": torch.ones(2, 9, dtype=torch.bool)}
    readme = (project / "out" / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0].replace("'model.saf", "'out/model.saf")
    names = {"inputs": inputs}
    exec(code, names)
    _, made = load(folder)
    assert torch.equal(names["outputs"], made.network(inputs))
    with pytest.raises(ExportError, match=r"does not know signal_network\.mixer; leave --onnx out"):
        export(folder, into=project / "onnx", onnx=True)


def test_a_study_of_it_has_a_report(project):
    assert main(["train", "-m", *RUN, "seed=0,1"]) == 0
    (folder,) = (project / "runs" / "studies").iterdir()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "accuracy" in page
    (path, *_) = (path.parent for path in (project / "runs").glob("*/record.json"))
    assert record.read(path).status == "finished"
    assert "samples" in (path / "predictions" / "test.csv").read_text().splitlines()[1]


def test_data_of_another_kind_is_refused_before_anything_starts(project):
    with pytest.raises(CheckError, match="reads signal, and the data is images"):
        compose([*RUN, "dataset=digits"])
    with pytest.raises(CheckError, match="is for texts, and the data is signal"):
        compose([*RUN, "augmentation=[word_swap]"])


@pytest.mark.slow
def test_it_goes_on_after_a_kill(project):
    calm, killed = (launching.freeze(RUN, runs_dir=project / name) for name in ("calm", "killed"))
    here = InProject(project)
    assert launching.run(calm, sabotage={0: here}) == [0], launching.log(calm)
    kill = launching.KillAt("tlx.training.engine.module:TransferModule", "training_step", 15)
    codes = launching.run(killed, sabotage={0: launching.All(here, kill)})
    assert codes == [-9], launching.log(killed)
    assert launching.run(killed, sabotage={0: here}) == [0], launching.log(killed)
    one, two = launching.weights(calm), launching.weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)
