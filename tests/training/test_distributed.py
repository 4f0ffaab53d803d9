"""Two gloo ranks: through thawing stages, through kill -9, and against one rank."""

from pathlib import Path

import pytest
import torch

import launching
import tiny
from launching import All, KillAt, dump_samples, dump_weights, no_all_reduce
from tlx.results import record

BASE = [
    "dataset=digits",
    "dataset.labels_per_class=16",
    *("dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"),  # 27 images to test on
    "backbone=timm",
    "backbone.init=none",
    "backbone.image_size=32",
    "augmentation=[standard]",
    "trainer=cpu",
    "trainer.epochs=null",
    "trainer.steps=24",
    "trainer.batch_size=16",
    "trainer.eval_every_steps=5",
    "trainer.checkpoint_every_steps=4",
    "logger=[csv]",
    "final_weights=last",  # each rank keeps its own: the best would be read from one file
    "freeze_strategy=gradual",
    "freeze_strategy.stages=3",
    "freeze_strategy.every_steps=8",
]
# Without a norm that counts over the batch; convolutional, so that no gradient is zero but for
# rounding (a key's bias in attention is, and Adam would make a full step of the rounding).
CONVNEXT = ["backbone.name=test_convnext"]
RESNET = ["backbone.name=test_resnet", "frozen.norm_stats=freeze"]
SGD = ["optimizer=sgd", "optimizer.lr=0.02"]
ADAMW = ["optimizer=adamw", "optimizer.lr=0.0003"]


def two_ranks(overrides: list[str], runs_dir: Path) -> Path:
    return launching.freeze([*BASE, *overrides, "trainer.devices=2"], runs_dir=runs_dir)


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[n].double() - second[n].double()).abs().max()) for n in first)


def test_killed_in_stage_two_two_ranks_end_bit_identical(tmp_path: Path) -> None:
    calm = two_ranks(["backbone.name=test_resnet"], tmp_path / "calm")
    assert launching.run(calm, world=2, sabotage={0: dump_weights, 1: dump_weights}) == [0, 0]
    killed = two_ranks(["backbone.name=test_resnet"], tmp_path / "killed")
    kill = KillAt("tlx.training.engine.module:TransferModule", "training_step", 15)
    assert launching.run(killed, world=2, sabotage={0: kill, 1: kill}) == [-9, -9]
    codes = launching.run(killed, world=2, sabotage={0: dump_weights, 1: dump_weights})
    assert codes == [0, 0], launching.log(killed)
    assert "resumed at step 12" in launching.log(killed)
    one, two = launching.weights(calm), launching.weights(killed)
    assert all(torch.equal(one[n], two[n]) for n in one)
    for folder in (calm, killed):
        ranks = [launching.rank_weights(folder, rank) for rank in range(2)]
        trained = dict(ranks[0])
        # Running statistics are each rank's own until DDP hands out rank 0's at a step's start.
        for name in [n for n in trained if "running_" in n or "num_batches" in n]:
            del trained[name]
        assert all(torch.equal(trained[n], ranks[1][n]) for n in trained)


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(SGD, id="sgd"), pytest.param(ADAMW, id="adamw", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "network",
    [
        pytest.param(CONVNEXT, id="convnext", marks=pytest.mark.slow),
        pytest.param(RESNET, id="resnet"),
    ],
)
def test_two_ranks_equal_one(network: list[str], optimizer: list[str], tmp_path: Path) -> None:
    one = launching.freeze([*BASE, *network, *optimizer], runs_dir=tmp_path / "one")
    two = two_ranks([*network, *optimizer], tmp_path / "two")
    assert one.name == two.name, "the number of ranks must not change a run's id"
    assert launching.run(one, sabotage={0: All(dump_weights, dump_samples)}) == [0]
    both = All(dump_weights, dump_samples)
    assert launching.run(two, world=2, sabotage={0: both, 1: both}) == [0, 0], launching.log(two)
    single = launching.rank_weights(one, 0)
    for rank in range(2):
        assert largest_difference(single, launching.rank_weights(two, rank)) <= 1e-4
    assert_shares(one, two, steps=24)


def assert_shares(one: Path, two: Path, *, steps: int) -> None:
    """At every step the ranks see different samples, together those that one rank sees."""

    def items_of(path: Path) -> list[list[str]]:
        return [line.split()[1:] for line in path.read_text().splitlines()]

    whole = items_of(one / "samples-0.txt")
    parts = [items_of(two / f"samples-{rank}.txt") for rank in range(2)]
    assert len(whole) == len(parts[0]) == len(parts[1]) == steps
    for step, items in enumerate(whole):
        left, right = parts[0][step], parts[1][step]
        assert not set(left) & set(right)
        assert sorted(left + right) == sorted(items)


@pytest.mark.slow
def test_without_all_reduce_two_ranks_do_not_equal_one(tmp_path: Path) -> None:
    """The comparison notices what it is there for."""
    one = launching.freeze([*BASE, *CONVNEXT, *SGD], runs_dir=tmp_path / "one")
    two = two_ranks([*CONVNEXT, *SGD], tmp_path / "two")
    assert launching.run(one, sabotage={0: dump_weights}) == [0]
    cut = All(no_all_reduce, dump_weights)
    assert launching.run(two, world=2, sabotage={0: cut, 1: cut}) == [0, 0]
    single = launching.rank_weights(one, 0)
    ranks = [launching.rank_weights(two, rank) for rank in range(2)]
    assert max(largest_difference(single, rank) for rank in ranks) > 1e-4
    assert largest_difference(*ranks) > 1e-4


@pytest.mark.slow
def test_fully_sharded_ranks_equal_one_and_resume(tmp_path: Path) -> None:
    """Lightning's own FSDP2 strategy, on a CPU mesh: stages, best weights, kill and resume."""
    sharded = [*CONVNEXT, *ADAMW, "final_weights=best"]
    one = launching.freeze([*BASE, *sharded], runs_dir=tmp_path / "one")
    two = two_ranks([*sharded, "trainer.strategy=fsdp"], tmp_path / "two")
    assert launching.run(one) == [0]
    kill = KillAt("tlx.training.engine.module:TransferModule", "training_step", 15)
    assert launching.run(two, world=2, sabotage={0: kill, 1: kill}) == [-9, -9]
    assert launching.run(two, world=2) == [0, 0], launching.logs(two)
    assert "resumed at step 12" in launching.log(two)
    assert largest_difference(launching.weights(one), launching.weights(two)) <= 1e-4


def test_ranks_with_different_configs_end_at_once(tmp_path: Path) -> None:
    """Two ranks of a run always train the same config: its hash is compared when they start."""
    folder = two_ranks(["backbone.name=test_resnet"], tmp_path)
    codes = launching.run(folder, world=2, sabotage={1: launching.another_config})
    assert all(codes), codes
    for rank in range(2):
        assert "ranks disagree on the config" in launching.log(folder, rank)
    assert not list(folder.glob("checkpoints/*"))
    assert launching.run(folder, world=2) == [0, 0], launching.log(folder)


# -- texts --------------------------------------------------------------------------------------

TEXTS = [
    *("trainer=cpu", "trainer.epochs=null", "trainer.steps=16", "trainer.batch_size=8"),
    *("trainer.eval_every_steps=8", "logger=[csv]", "final_weights=last"),
]
# Without dropout, whose draws are each rank's own.
TRANSFORMER = ["backbone.vocabulary_size=500", "backbone.dropout=0"]
TEXT_RUNS = {
    "classes-bert": [
        *(*tiny.overrides("bert"), *TRANSFORMER),
        *("freeze_strategy=gradual", "freeze_strategy.stages=3"),
    ],
    "language-gpt2": [*tiny.overrides("gpt2"), *TRANSFORMER],
    "language-lstm": [
        *("backbone=char_lm", "backbone.embedding=8", "backbone.width=12"),
        "backbone.dropout_scale=0",
    ],
}


FAST = {"sgd": ["optimizer=sgd", "optimizer.lr=0.1"], "adamw": ["optimizer.lr=0.003"]}
USUAL = {("language-gpt2", "sgd")}


@pytest.mark.parametrize(
    ("case", "optimizer"),
    [
        pytest.param(case, name, marks=[] if (case, name) in USUAL else pytest.mark.slow)
        for case in TEXT_RUNS
        for name in FAST
    ],
)
def test_two_ranks_equal_one_on_texts(
    case: str, optimizer: str, texts_in_files: dict[str, list[str]], tmp_path: Path
) -> None:
    """Batches are made by length: the ranks' halves differ in tokens, and so in what they weigh."""
    data = texts_in_files[case.partition("-")[0]]
    given = [*TEXTS, *data, *TEXT_RUNS[case], *FAST[optimizer]]
    one = launching.freeze(given, runs_dir=tmp_path / "one")
    two = launching.freeze([*given, "trainer.devices=2"], runs_dir=tmp_path / "two")
    both = All(dump_weights, dump_samples)
    assert launching.run(one, sabotage={0: both}) == [0], launching.log(one)
    assert launching.run(two, world=2, sabotage={0: both, 1: both}) == [0, 0], launching.log(two)
    single = launching.rank_weights(one, 0)
    for rank in range(2):
        assert largest_difference(single, launching.rank_weights(two, rank)) <= 1e-4
    assert_shares(one, two, steps=16)
    mine, theirs = (record.read(folder).splits for folder in (one, two))
    for split in ("val", "test"):
        assert mine[split].n == theirs[split].n
        loss = mine[split].metrics["loss"].value
        assert theirs[split].metrics["loss"].value == pytest.approx(loss, abs=1e-4)


@pytest.mark.slow
def test_parts_over_two_ranks_equal_a_batch_in_one_piece(
    texts_in_files: dict[str, list[str]], tmp_path: Path
) -> None:
    given = [*TEXTS, *texts_in_files["language"], *TEXT_RUNS["language-gpt2"], *FAST["sgd"]]
    one = launching.freeze(given, runs_dir=tmp_path / "one")
    parts = [*given, "trainer.devices=2", "trainer.accumulate=2"]
    two = launching.freeze(parts, runs_dir=tmp_path / "two")
    assert launching.run(one, sabotage={0: dump_weights}) == [0], launching.log(one)
    both = {0: dump_weights, 1: dump_weights}
    assert launching.run(two, world=2, sabotage=both) == [0, 0], launching.log(two)
    single = launching.rank_weights(one, 0)
    for rank in range(2):
        assert largest_difference(single, launching.rank_weights(two, rank)) <= 1e-4
