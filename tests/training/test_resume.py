"""The gate: killed runs that go on end with the weights of runs that nobody disturbed."""

import csv
from pathlib import Path

import pytest
import torch

import launching
import tiny
from launching import KillAt
from tlx.results import record

# Twelve labels a class are 120 images: 7 steps an epoch at batch 16; 63 steps, three stages.
BASE = [
    "dataset=digits",
    "dataset.labels_per_class=12",
    "backbone=timm",
    "backbone.init=none",
    "backbone.image_size=32",
    "augmentation=[standard]",
    "trainer=cpu",
    "trainer.epochs=null",
    "trainer.steps=63",
    "trainer.batch_size=16",
    "trainer.eval_every_steps=9",
    "trainer.checkpoint_every_steps=4",
    "logger=[csv]",
]
GRADUAL = ["freeze_strategy=gradual", "freeze_strategy.stages=3", "freeze_strategy.every_steps=21"]

MODULE = "tlx.training.engine.module:TransferModule"
CONDUCTOR = "tlx.training.engine.fit:Conductor"


def same(first: Path, second: Path) -> None:
    """Every tensor bit-identical."""
    one, two = launching.weights(first), launching.weights(second)
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different, different[:5]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-rank run without an accident."""
    folder = launching.freeze(
        [*BASE, *GRADUAL, "backbone.name=test_resnet", "regularization=[dropout]"],
        runs_dir=tmp_path_factory.mktemp("undisturbed"),
    )
    assert launching.run(folder) == [0], launching.log(folder)
    return folder


KILLS = {
    "training": KillAt(MODULE, "training_step", 31),
    "validation": KillAt(MODULE, "validation_step", 3),
    "stage_edge": KillAt(CONDUCTOR, "enter_stage", 2),
    "stage_left": KillAt(CONDUCTOR, "leave_stage", 1, after=True),
    "save": KillAt("tlx.training.engine.checkpoints", "_write_some", 60),
    "rename": KillAt("os", "replace", 12),
}


USUAL = {("training", 0), ("validation", 2), ("stage_edge", 0), ("stage_left", 2), ("save", 2)}


@pytest.mark.parametrize(
    ("kill", "workers"),
    [
        pytest.param(kill, workers, marks=[] if (kill, workers) in USUAL else pytest.mark.slow)
        for kill in KILLS
        for workers in (0, 2)
    ],
)
def test_killed_run_goes_on_to_the_same_weights(
    kill: str, workers: int, undisturbed: Path, tmp_path: Path
) -> None:
    folder = launching.freeze(
        [
            *BASE,
            *GRADUAL,
            "backbone.name=test_resnet",
            "regularization=[dropout]",
            f"trainer.workers={workers}",
        ],
        runs_dir=tmp_path,
    )
    assert launching.run(folder, sabotage={0: KILLS[kill]}) == [-9], launching.log(folder)
    assert not (folder / "model.safetensors").exists()
    assert launching.run(folder) == [0], launching.log(folder)
    same(undisturbed, folder)


# -- texts --------------------------------------------------------------------------------------

TEXTS = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=36", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=12", "trainer.checkpoint_every_steps=4"),
    *("trainer.log_every_steps=3", "logger=[csv]", "final_weights=last"),
]
VOCABULARY = "backbone.vocabulary_size=500"
TEXT_RUNS = {
    "classes-bert": [*tiny.overrides("bert"), VOCABULARY, *GRADUAL[:2]],
    "language-lstm": ["backbone=char_lm", "backbone.embedding=8", "backbone.width=12"],
    "language-gpt2": [*tiny.overrides("gpt2"), VOCABULARY],
    "language-bert": ["task=masked_language_modeling", *tiny.overrides("bert"), VOCABULARY],
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=pytest.mark.slow if c.startswith("language-") else [])
        for c in TEXT_RUNS
    ],
)
def test_killed_run_on_texts_goes_on_to_the_same(
    case: str, texts_in_files: dict[str, list[str]], tmp_path: Path
) -> None:
    """In the midst of a stage and of an epoch, with dropout, batches made by length."""
    given = [*TEXTS, *texts_in_files[case.partition("-")[0]], *TEXT_RUNS[case]]
    calm, killed = launching.calm_and_killed(given, tmp_path, before=18)
    assert "resumed at step 16" in launching.log(killed)
    same(calm, killed)
    assert figures(calm) == figures(killed)


def figures(folder: Path) -> tuple[list[dict[str, str]], dict[str, record.SplitRecord]]:
    """What training and evaluation have shown, without what tells of time."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 12
    for row in rows:
        del row["train/samples_per_s"]
    return rows, dict(record.read(folder).splits)
