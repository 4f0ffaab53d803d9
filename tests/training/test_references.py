"""Penalties that compare with a frozen network, made here: what it gives, how often it is asked."""

import csv
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import launching
from tlx.base.ends import Interrupted
from tlx.config import signatures
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.execution import execute
from tlx.execution.rehearsal import rehearse
from tlx.results import record
from tlx.training.engine.module import TransferModule
from tlx.training.reuse.references import FrozenNetwork

MODULE = '''
"""Options of a project: distances to a frozen network."""
from pathlib import Path
import torch
from tlx.execution import finished
from tlx.training.effects import Effects, Penalty, Reference

def network(folder):
    return finished.load(Path(folder))[1].network.eval()

def distance(step, outputs):
    return (step.outputs - outputs).square().mean()

def to_outputs(*, of: str, look: bool = False) -> Effects:
    """Of a finished run; looks whether they are what that gives for the inputs of the step."""
    teacher = network(of) if look else None
    def penalty(step):
        if teacher is not None:
            with torch.no_grad():
                torch.testing.assert_close(step.reference.outputs, teacher(step.batch["input"]))
        return distance(step, step.reference.outputs)
    return Effects(Penalty(penalty), Reference(of))

def by_hand(*, of: str) -> Effects:
    """The same, with the run's network asked in each step."""
    teacher = network(of)
    def penalty(step):
        with torch.no_grad():
            outputs = teacher(step.batch["input"])
        return distance(step, outputs)
    return Effects(Penalty(penalty, reads_inputs=True))

def to_features(*, of: str = "start", reads: str = "pooled") -> Effects:
    """Of the start, which is where the run is at its first step; or of other weights."""
    def penalty(step):
        pooled = step.reference.features.pooled
        assert step.reference.outputs is None
        if of == "start" and step.global_step == 0:
            torch.testing.assert_close(step.features.pooled, pooled)
        return (step.features.pooled - pooled).square().mean()
    return Effects(Penalty(penalty), Reference(of, reads=(reads,)))
'''
BASE = [
    *("dataset=digits", "dataset.labels_per_class=6", "backbone=timm", "backbone.init=none"),
    *("backbone.image_size=32", "backbone.name=test_resnet", "trainer=cpu", "trainer.epochs=null"),
    *("trainer.steps=12", "trainer.batch_size=16", "trainer.eval_every_steps=6", "logger=[csv]"),
    *("optimizer=sgd", "optimizer.lr=0.05", "frozen.norm_stats=freeze", "augmentation=[]"),
]
ITEMS, PROBE = 60, 2


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of another seed, and the project of the options beside it."""
    root = tmp_path_factory.mktemp("project")
    (root / "tlx.toml").write_text('allow_targets = ["comparing.*"]\n')
    (root / "comparing.py").write_text(MODULE)
    for option in ("to_outputs", "by_hand", "to_features"):
        file = root / "conf" / "regularization" / f"{option}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        keys = "" if option == "to_features" else "  of: ''\n"
        file.write_text(f"# A distance.\n{option}:\n  _target_: comparing.{option}\n{keys}")
    done = execute.run(compose([*BASE, "seed=7", f"runs_dir={root / 'runs'}"]))
    return root / "runs" / done.run


@pytest.fixture(autouse=True)
def _in_the_project(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TLX_PROJECT", str(teacher.parent.parent))
    monkeypatch.syspath_prepend(str(teacher.parent.parent))
    signatures.forget()
    yield
    signatures.forget()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items the frozen network was asked for, each time."""
    counts: list[int] = []
    plain = FrozenNetwork.of

    def spy(self: FrozenNetwork, inputs: Any) -> Any:
        counts.append(len(inputs))
        return plain(self, inputs)

    monkeypatch.setattr(FrozenNetwork, "of", spy)
    return counts


def run(runs_dir: Path, *overrides: str) -> Path:
    done = execute.run(compose([*BASE, *overrides, f"runs_dir={runs_dir}"]))
    return runs_dir / done.run


def option(name: str, of: Path | str, **keys: Any) -> list[str]:
    pairs = {"of": of, **keys}.items()
    return [f"regularization=[{name}]", *(f"regularization.{name}.{k}={v}" for k, v in pairs)]


STORED: dict[str, list[str]] = {
    "plain": [],
    "views_in_parts": ["augmentation=[standard]", "frozen.views=2", "trainer.accumulate=2"],
}
LIVE = {
    "augmented": ["augmentation=[standard]"],
    "mixed_in_parts": ["augmentation=[mixup]", "trainer.accumulate=2"],
    "too_few_steps": ["trainer.steps=3"],
}


@pytest.mark.parametrize("case", [*STORED, *LIVE])
def test_outputs_are_those_of_the_run_for_the_inputs_of_each_step(
    case: str, teacher: Path, asked: list[int], tmp_path: Path
) -> None:
    """Looked at in each step by the penalty; where inputs repeat, an item is asked for once."""
    run(tmp_path, *option("to_outputs", teacher, look=True), *(STORED | LIVE)[case])
    items = ITEMS * (2 if case == "views_in_parts" else 1)
    steps = 3 if case == "too_few_steps" else 12
    assert sum(asked) == (PROBE + items if case in STORED else steps * 16)
    if case == "plain":
        asked.clear()
        run(tmp_path, *option("to_outputs", teacher), "optimizer.lr=0.01")
        assert sum(asked) == PROBE  # runs share what is stored


def test_a_run_on_stored_activations_is_that_of_the_network_asked_in_each_step(
    teacher: Path, tmp_path: Path
) -> None:
    strategy = "freeze_strategy=linear_probe"
    stored = run(tmp_path, *option("to_outputs", teacher), strategy)
    direct = run(tmp_path, *option("by_hand", teacher), strategy)
    assert record.read(stored).stages[0].boundary == "backbone"
    assert record.read(direct).stages[0].boundary == "input"
    one, two = launching.weights(stored), launching.weights(direct)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-5, rtol=1e-4)
    with (stored / "metrics.csv").open() as file:
        values = [float(row["train/to_outputs"] or 1) for row in csv.DictReader(file)]
    assert min(values) > 1e-3


@pytest.mark.parametrize("case", ["views_in_parts", "augmented"])
def test_a_run_that_is_stopped_goes_on_bit_identically(
    case: str, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*option("to_outputs", teacher), *(STORED | LIVE)[case]]
    calm = run(tmp_path / "calm", *more)
    plain = TransferModule.training_step

    def stopping(self: TransferModule, batch: Any, batch_idx: int) -> Any:
        if self.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(TransferModule, "training_step", stopping)
    with pytest.raises(Interrupted, match="step 9"):
        run(tmp_path / "stopped", *more)
    monkeypatch.setattr(TransferModule, "training_step", plain)
    stopped = run(tmp_path / "stopped", *more)
    one, two = launching.weights(calm), launching.weights(stopped)
    assert all(torch.equal(one[name], two[name]) for name in one)


@dataclass(frozen=True)
class InProject:
    """No sabotage: tells a fresh process which project it is in."""

    root: Path

    def __call__(self) -> None:
        os.environ["TLX_PROJECT"] = str(self.root)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "augmented"])
def test_two_ranks_are_as_one(case: str, teacher: Path, tmp_path: Path) -> None:
    more = [*BASE, *option("to_outputs", teacher), *(STORED | LIVE)[case]]
    project = InProject(teacher.parent.parent)
    weights = []
    for ranks in (1, 2):
        folder = launching.freeze(
            [*more, f"trainer.devices={ranks}"], runs_dir=tmp_path / f"of_{ranks}"
        )
        codes = launching.run(folder, world=ranks, sabotage=dict.fromkeys(range(ranks), project))
        assert codes == [0] * ranks, launching.log(folder)
        weights.append(launching.weights(folder))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("of", ["start", "weights"])
def test_features_are_of_the_start_or_of_other_weights(
    of: str, teacher: Path, asked: list[int], tmp_path: Path
) -> None:
    other = [f"regularization.to_features.of={teacher / 'model.safetensors'}"]
    run(tmp_path, "regularization=[to_features]", *(other if of == "weights" else []))
    assert sum(asked) == PROBE + ITEMS


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["backbone.image_size=48"], "to_outputs compares with .*reads other inputs: size"),
        (["dataset=glyphs"], "to_outputs compares with .*other labels"),
        (["augmentation=[feature_mixup]"], "to_outputs and augmentation.feature_mixup do not go"),
    ],
)
def test_what_does_not_fit_is_refused(
    more: list[str], message: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, *option("to_outputs", teacher), *more)


def test_an_init_has_no_outputs(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no head and so no outputs"):
        run(tmp_path, *option("to_outputs", teacher / "model.safetensors"))


def test_check_says_that_a_run_is_missing(tmp_path: Path) -> None:
    config = compose([*BASE, *option("to_outputs", "run:nowhere"), f"runs_dir={tmp_path}"])
    with pytest.raises(ValueError, match=r"to_outputs compares with a run: .*nowhere"):
        rehearse([("", typed(config))])
