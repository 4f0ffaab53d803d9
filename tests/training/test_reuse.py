"""A run that trains from stored activations is the run that computes them in each step."""

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import launching
from launching import KillAt
from tlx.config.compose import compose
from tlx.data.images import digits as embedded
from tlx.data.images.inputs import ImageInputs
from tlx.execution import execute
from tlx.results import record
from tlx.results.record import Record
from tlx.training.reuse import source as reuse
from tlx.training.reuse import transform

BASE = [
    *("dataset=digits", "dataset.labels_per_class=6", "backbone=timm", "backbone.init=none"),
    *("backbone.image_size=32", "trainer=cpu", "trainer.epochs=null", "trainer.steps=24"),
    *("trainer.batch_size=16", "trainer.eval_every_steps=8", "logger=[csv]", "optimizer=sgd"),
    *("optimizer.lr=0.05", "keep=weights"),
]
STRATEGIES = {
    "linear_probe": ["freeze_strategy=linear_probe"],
    "last_1": ["freeze_strategy=last_k", "freeze_strategy.k=1"],
    "last_2": ["freeze_strategy=last_k", "freeze_strategy.k=2"],
    "last_3": ["freeze_strategy=last_k", "freeze_strategy.k=3"],
    "lp_ft": ["freeze_strategy=lp_ft"],
    "gradual": ["freeze_strategy=gradual", "freeze_strategy.stages=3"],
    "bitfit": ["freeze_strategy=bitfit"],
    "lora": ["freeze_strategy=lora", "freeze_strategy.layers=1"],
}
TINY = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"]
FAMILIES = {
    **{name: 32 for name in ("vgg11_bn", "resnet18", "densenet121", "convnext_atto")},
    **{name: 32 for name in ("mobilenetv2_100", "efficientnet_b0")},
    **{"inception_v3": 75, "vit_tiny_patch16_224": 32, "swin_tiny_patch4_window7_224": 56},
}
NEEDS = {"vgg11_bn": ["backbone.kwargs={mlp_ratio:0.05}"]}  # not 100 million weights in its head


def run(runs_dir: Path, *overrides: str) -> tuple[Path, Record]:
    """Trains a run in this process."""
    config = compose([*BASE, *overrides, f"runs_dir={runs_dir}"])
    done = execute.run(config)
    return runs_dir / done.run, done


def same(first: Path, second: Path, *, tolerance: float = 1e-4) -> None:
    """Weights and metrics equal up to rounding; figures of calibration follow from the weights."""
    one, two = launching.weights(first), launching.weights(second)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=tolerance, msg=name)
    mine, theirs = record.read(first), record.read(second)
    for name, split in mine.splits.items():
        other = theirs.splits[name].metrics
        assert split.metrics["loss"].value == pytest.approx(other["loss"].value, abs=1e-4)
        assert split.metrics["accuracy"].value == other["accuracy"].value
    assert mine.selected == theirs.selected or (
        mine.selected is not None
        and theirs.selected is not None
        and mine.selected.step == theirs.selected.step
    )
    assert [stage.end for stage in mine.stages] == [stage.end for stage in theirs.stages]


# Where a network is cut is proved for every family and boundary in tests/frozen/test_cut; here are
# whole runs: each network with four strategies, each strategy on two networks; usual is one a
# network, with what stays below it, what is thawed, what is put beside it, and a head alone.
USUAL = {
    ("test_resnet", "linear_probe"),
    ("test_vit", "last_1"),
    ("test_convnext", "last_2"),
    ("test_vit", "gradual"),
    ("test_efficientnet", "lora"),
}


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        pytest.param(name, strategy, marks=[] if (name, strategy) in USUAL else [pytest.mark.slow])
        for row, name in enumerate(TINY)
        for column, strategy in enumerate(STRATEGIES)
        if row in (column % len(TINY), (column + column // len(TINY) + 1) % len(TINY))
    ],
)
def test_stored_equals_computed(name, strategy, tmp_path):
    own = [f"backbone.name={name}", *STRATEGIES[strategy], "frozen.norm_stats=freeze"]
    plain, without = run(tmp_path / "plain", *own, "cache=off")
    stored, with_ = run(tmp_path / "stored", *own)
    assert not without.cached
    assert with_.cached or strategy == "bitfit"  # biases in the stem leave nothing below them
    same(plain, stored)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy"), list(zip(FAMILIES, itertools.cycle(["last_1", "gradual"]), strict=False))
)
def test_stored_equals_computed_in_every_family(name, strategy, tmp_path):
    own = [
        *(f"backbone.name={name}", f"backbone.image_size={FAMILIES[name]}", "trainer.steps=6"),
        # random weights: without statistics of their own, deep networks explode
        *("trainer.eval_every_steps=3", "optimizer.lr=0.001", "frozen.norm_stats=recalibrate"),
        # efficientnet_b0 still does once it trains as a whole, and rounding grows with its loss of
        # 36; so the best of the run is compared, of the stage in which it has not
        *("select_from=run", "dataset.labels_per_class=2", *STRATEGIES[strategy]),
        *NEEDS.get(name, []),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, _ = run(tmp_path / "plain", *own, "cache=off")
        stored, with_ = run(tmp_path / "stored", *own)
    assert with_.cached or strategy in {"bitfit", "gradual", "lp_ft"}
    same(plain, stored)


PROBE = ["backbone.name=test_resnet", "freeze_strategy=linear_probe"]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A folder with the store of a probe, and the probe's record."""
    runs_dir = tmp_path_factory.mktemp("probed")
    return runs_dir, run(runs_dir, *PROBE)[1]


def test_the_record_tells_what_was_computed_and_reused(probed):
    runs_dir, first = probed
    _, second = run(runs_dir, *PROBE, "optimizer.lr=0.01")
    items = first.splits["val"].n + 60
    assert (first.stages[0].boundary, second.stages[0].boundary) == ("backbone", "backbone")
    assert (first.stages[0].computed, first.stages[0].reused) == (items, 0)
    assert (second.stages[0].computed, second.stages[0].reused) == (0, items)
    assert second.stages[0].saved_s > 0


def test_runs_share_the_items_that_they_have_in_common(probed):
    _, more = run(probed[0], *PROBE, "dataset.labels_per_class=9")
    few, many = 60 + 60, 90 + 90  # train and val are limited alike
    assert more.stages[0].computed + more.stages[0].reused == many
    assert more.stages[0].reused >= few // 2


CHANGES = {
    "weights": ["seed=1", "dataset.seed=0"],
    "transform": ["backbone.image_size=40"],
    "precision": ["trainer.precision=bf16-mixed"],
    "type": ["frozen.stored_as=float16"],
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_change_finds_no_stale_activation(change, probed):
    _, other = run(probed[0], *PROBE, *CHANGES[change])
    assert other.stages[0].reused == 0
    assert other.stages[0].computed > 0


def test_a_changed_encoder_finds_no_stale_activation(probed, monkeypatch):
    monkeypatch.setattr(transform, "source_of", lambda kind: "another source")
    _, other = run(probed[0], *PROBE, "optimizer.lr=0.02")
    assert other.stages[0].reused == 0


class Plain(ImageInputs):
    """Images by an encoder that says nothing of itself."""

    def encoder(self, spec, augmentations, *, train):
        encode = super().encoder(spec, augmentations, train=train)
        return lambda sample: encode(sample)


def test_what_a_plain_function_encodes_is_computed_each_time(tmp_path, monkeypatch, capsys):
    original = embedded.assemble

    def plainly(*args, **options):
        made = original(*args, **options)
        return replace(made, inputs=Plain())

    own = ["backbone.name=test_resnet", "freeze_strategy=linear_probe"]
    expected, _ = run(tmp_path / "plain", *own, "cache=off")
    monkeypatch.setattr(embedded, "assemble", plainly)
    folder, done = run(tmp_path / "function", *own)
    assert not done.cached
    assert "encoder '<lambda>' does not say what its outputs depend on" in capsys.readouterr().out
    one, two = launching.weights(expected), launching.weights(folder)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_data_s_flips_find_no_stale_activation(tmp_path):
    own = ["backbone.name=test_resnet", "augmentation=[standard]", "frozen.views=2"]
    own += ["freeze_strategy=linear_probe", *pictured(tmp_path / "images")]
    _, mirrored = run(tmp_path, *own, "dataset.flips=true")
    _, upright = run(tmp_path, *own, "dataset.flips=false")
    items = upright.splits["val"].n
    assert mirrored.stages[0].computed > items
    assert upright.stages[0].reused == items  # what validation sees is the same


def pictured(folder: Path) -> list[str]:
    """The overrides of a run on a few images in folders."""
    pixels = torch.randint(256, (40, 9, 9, 3), generator=torch.Generator().manual_seed(0))
    for i, each in enumerate(pixels.to(torch.uint8).numpy()):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(path)
    return ["dataset=image_folder", "dataset.labels_per_class=null", f"dataset.root={folder}"]


NOTHING_STORED = {
    "full": ["freeze_strategy=full"],
    "augmentation": ["augmentation=[standard]"],
    "mixing": ["augmentation=[mixup]"],
    "train_statistics": ["frozen.norm_stats=train"],
    "dropout_below": ["frozen.dropout=on", "backbone.drop_path_rate=0.2"],
}


@pytest.mark.parametrize("case", list(NOTHING_STORED))
def test_what_changes_in_each_step_is_not_stored(case, tmp_path, capsys):
    name = "test_vit" if case == "dropout_below" else "test_resnet"
    own = [f"backbone.name={name}", "freeze_strategy=linear_probe", *NOTHING_STORED[case]]
    _, done = run(tmp_path, *own)
    boundary = done.stages[0].boundary
    if case in {"dropout_below", "train_statistics"}:  # only what lies below the first of them
        assert boundary is not None
        assert boundary != "backbone"
    else:
        assert boundary == (None if case == "augmentation" else "input")
        assert "no activations are stored: " in capsys.readouterr().out


@pytest.mark.parametrize("augmentation", ["[]", "[mixup]"])
def test_stored_inputs_are_the_inputs(augmentation, tmp_path):
    own = ["backbone.name=test_resnet", f"augmentation={augmentation}"]
    plain, _ = run(tmp_path / "plain", *own, "cache=off")
    stored, done = run(tmp_path / "stored", *own)
    assert (done.stages[0].boundary, done.stages[0].computed) == ("input", 120)
    one, two = launching.weights(plain), launching.weights(stored)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_slower_to_read_than_to_compute_is_not_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reuse, "read_s_per_byte", lambda folder: 1.0)
    own = ["backbone.name=test_resnet", "freeze_strategy=linear_probe"]
    _, done = run(tmp_path / "small", *own)
    assert done.cached  # in memory, the disk does not matter
    original = reuse.Store.__init__

    def small(self, folder, **options):
        original(self, folder, **options, resident_bytes=0)

    monkeypatch.setattr(reuse.Store, "__init__", small)
    _, done = run(tmp_path / "large", *own)
    assert not done.cached
    assert "reading an activation takes" in capsys.readouterr().out


def test_views_repeat_and_are_stored(tmp_path):
    own = [
        *("backbone.name=test_resnet", "freeze_strategy=linear_probe", "augmentation=[standard]"),
        *("trainer.steps=null", "trainer.epochs=8", "frozen.views=2"),
        "trainer.eval_every_steps=12",
    ]
    plain, _ = run(tmp_path / "plain", *own, "cache=off")
    stored, done = run(tmp_path / "stored", *own)
    assert done.stages[0].computed == 2 * 60 + done.splits["val"].n
    same(plain, stored)
    fresh, _ = run(tmp_path / "fresh", *[each for each in own if "views" not in each])
    with pytest.raises(AssertionError):  # so that the views are seen to matter
        same(plain, fresh)


def test_half_precision_states_its_error(tmp_path):
    own = ["backbone.name=test_resnet", "freeze_strategy=linear_probe"]
    whole, _ = run(tmp_path, *own)
    half, done = run(tmp_path, *own, "frozen.stored_as=bfloat16")
    assert done.stages[0].boundary == "backbone"
    same(whole, half, tolerance=0.05)
    with pytest.raises(AssertionError):
        same(whole, half, tolerance=1e-6)
    told = [json.loads(path.read_text()) for path in (tmp_path / ".cache").glob("*/*.json")]
    assert any(segment.get("rounding", {}).get("largest", 0) > 0 for segment in told), told[0]


def test_a_budget_that_is_too_small_stores_nothing(tmp_path, capsys):
    own = ["backbone.name=test_resnet", "freeze_strategy=linear_probe", "cache_gb=1e-6"]
    _, done = run(tmp_path, *own)
    assert not done.cached
    assert "nothing is stored" in capsys.readouterr().out


def test_evaluation_notices_other_weights(tmp_path):
    # chain-thaw's best weights may come from a stage with another frozen part
    own = ["backbone.name=test_resnet", "freeze_strategy=chain_thaw", "frozen.norm_stats=freeze"]
    plain, _ = run(tmp_path / "plain", *own, "cache=off")
    stored, _ = run(tmp_path / "stored", *own)
    same(plain, stored)


def frozen(runs_dir: Path, *overrides: str) -> Path:
    own = ["backbone.name=test_resnet", "freeze_strategy=gradual", "freeze_strategy.stages=3"]
    return launching.freeze([*BASE, *own, *overrides], runs_dir=runs_dir)


@pytest.mark.parametrize(
    "kill",
    [
        KillAt("tlx.training.engine.module:TransferModule", "training_step", 13),
        pytest.param(
            KillAt("tlx.training.engine.fit:Conductor", "enter_stage", 2, after=True),
            marks=pytest.mark.slow,
        ),
        pytest.param(KillAt("tlx.frozen.segments:Writer", "finish", 2), marks=pytest.mark.slow),
    ],
    ids=["training", "stage_edge", "writing"],
)
def test_a_killed_run_goes_on_from_the_store_bit_identically(kill, tmp_path):
    calm, killed = frozen(tmp_path / "calm"), frozen(tmp_path / "killed")
    assert launching.run(calm) == [0], launching.log(calm)
    assert launching.run(killed, sabotage={0: kill}) == [-9], launching.log(killed)
    assert launching.run(killed) == [0], launching.log(killed)
    one, two = launching.weights(calm), launching.weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert record.read(killed).cached


@pytest.mark.slow
def test_two_ranks_train_from_one_store(tmp_path):
    own = ["frozen.norm_stats=freeze", "trainer.devices=2", "trainer.strategy=ddp"]
    plain = frozen(tmp_path / "plain", *own, "cache=off")
    stored = frozen(tmp_path / "stored", *own)
    assert launching.run(plain, world=2) == [0, 0], launching.log(plain)
    assert launching.run(stored, world=2) == [0, 0], launching.log(stored)
    assert record.read(stored).cached
    same(plain, stored)
