"""Contract: every option of every group trains, the way `tlx train` goes.

That each composes and checks is shown in test_conf.
"""

import csv
import functools
import importlib.util
import itertools
import json
import math
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import tiny
from texts import alternating
from tlx.backbones.timm.networks import least_image_size
from tlx.building import budgets
from tlx.building.calls import regularization, splits
from tlx.building.networks import model
from tlx.config import schema
from tlx.config.check import check
from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.config.places import conf_dir
from tlx.config.run import typed
from tlx.execution import execute, runs
from tlx.training.engine.module import TransferModule

GROUPS = (*schema.TARGET_GROUPS, *schema.LIST_GROUPS, *schema.SCHEMA_GROUPS)
STEPS = 3
# Enough for two steps in each stage of any strategy on this network.
LONG = 14
STAGED = {"chain_thaw", "freeze_unfreeze", "freezeout", "gradual", "lp_ft"}
TRAINER = [
    *("trainer=cpu", "trainer.epochs=null", f"trainer.steps={STEPS}", "trainer.batch_size=4"),
    *("trainer.log_every_steps=1", f"trainer.eval_every_steps={STEPS}", "final_weights=last"),
]
NETWORK = [
    *("backbone=timm", "backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"),
    *TRAINER,
]
FAKE = (
    "dataset.name=FakeData",
    "dataset.kwargs={size:24,image_size:[3,40,36],num_classes:2}",
    "dataset.labels_per_class=null",
)
# 24 items to test on: on the hundreds of digits a run spends a third of its time
BASE = ["dataset=torchvision", *FAKE, *NETWORK]
DOWNLOADED = ("cifar10", "cifar100", "dtd", "eurosat", "flowers102", "food101", "pets")
NO_RUN = {
    **dict.fromkeys(DOWNLOADED, "is not here"),
    **{"image_csv": "in test_task", "torchvision": "in all others"},
    "conll": "tests/data/test_conll_run.py",
    **dict.fromkeys(("text_csv", "text_file", "text_folder"), "tests/data/test_text_runs.py"),
    **dict.fromkeys(("text_lines", "stdlib_docs"), "tests/data/test_text_runs.py"),
    **dict.fromkeys(("audio_folder", "audio_csv", "vowels"), "tests/test_audio_runs.py"),
}
PROMPTS = {"prompt", "prefix"}  # virtual tokens before a text
OF_TEXTS = {"word_dropout", "word_swap", "token_cutoff"}
OF_SOUND = {"random_part", "gain", "shift", "speed", "noise", "spec_augment"}
OTHER_MACHINES = {"gpu", "ddp", "fsdp"}  # two ranks: tests/training/test_distributed.py
HEAVY = {
    *("vgg16_bn", "vit_base", "vit_base_dinov2", "vit_base_dinov3"),
    *("clip_vit_base", "siglip_vit_base", "convnext_tiny", "resnet50", "swin_tiny"),
    *("efficientnetv2_s", "vit_small", "vit_small_dinov2", "vit_small_dinov3"),
}


def options(group):
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One folder of downloads and tokens for all tests."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch, tmp_path, cache):
    """A run sets torch's determinism; it reads who is logged in; its folder may be large."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("XDG_CACHE_HOME", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, cache)
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(before, warn_only=warned)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)


@pytest.fixture
def train(tmp_path):
    """Trains the base with overrides; looks at the figures and at the weights."""

    def trained(*overrides, base=BASE):
        config = compose([*base, *overrides, f"runs_dir={tmp_path / 'runs'}"])
        assert check(config) == []
        found = execute.run(config)
        folder = tmp_path / "runs" / run_id(normalise(config))
        assert found.status == "finished"
        assert found.used_steps >= 1
        losses = [float(row["train/loss"]) for row in metrics(folder) if row.get("train/loss")]
        assert losses
        assert all(map(math.isfinite, losses)), losses
        for split in ("val", "test"):
            assert found.splits[split].n
            assert all(math.isfinite(v.value) for v in found.splits[split].metrics.values())
        moved_and_stayed(normalise(config), folder)
        return found, folder

    return trained


@pytest.fixture(scope="module")
def final_weights(tmp_path_factory):
    """Final weights of the base with overrides, trained once for all who compare with them."""
    runs_dir = tmp_path_factory.mktemp("bases")

    @functools.cache
    def weights(*overrides):
        done = execute.run(compose([*BASE, *overrides, f"runs_dir={runs_dir}"]))
        return load_file(runs_dir / done.run / runs.WEIGHTS)

    return weights


def differ(folder, others):
    """Whether a run has other weights than those: what set it apart from their run has an effect.

    An option that is read, checked and then forgotten gives the very same.
    """
    own = load_file(folder / runs.WEIGHTS)
    return own.keys() != others.keys() or any(
        not torch.equal(tensor, others[name]) for name, tensor in own.items()
    )


def metrics(folder):
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def moved_and_stayed(config, folder):
    """In each stage something that trains has moved; what no stage trains is as it was."""
    before, stages = start(json.dumps({key: config[key] for key in OF_THE_START}))
    now = load_file(folder / runs.WEIGHTS)
    assert all(torch.isfinite(value).all() for value in now.values())
    for stage in stages:
        assert stage.trains
        assert any(not torch.equal(now[name], before[name]) for name in stage.trains), stage.name
    frozen = before.keys() - {name for stage in stages for name in stage.trains}
    assert all(torch.equal(now[name], before[name]) for name in frozen)


# What says what the network is before training, and which of it trains in what stages.
OF_THE_START = (
    *("seed", "task", "dataset", "backbone", "freeze_strategy", "regularization", "frozen"),
)


@functools.lru_cache(maxsize=16)
def start(nodes):
    """Parameters before the first step, and stages, of runs that have these nodes in common."""
    run = typed({**normalise(compose(BASE)), **json.loads(nodes)})
    data = splits(run.dataset)
    effects = regularization(run)
    corpus = partial(data.inputs.corpus, data.train)
    made = model(run, data.labels, effects=effects, corpus=corpus, init="none")
    return dict(made.network.named_parameters()), budgets.stages(run, made.layout)


def pictures(folder, names):
    """Small random images, in files."""
    random = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


def table(folder, label):
    """A table of 30 images; `label` gives the label of the i-th."""
    names = [f"images/{i:02d}.png" for i in range(30)]
    pictures(folder, names)
    lines = [f"{name},{label(i)}" for i, name in enumerate(names)]
    path = folder / "table.csv"
    path.write_text("path,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_folder_is_covered_and_none_is_empty():
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert folders == set(GROUPS)
    assert all(options(group) for group in GROUPS)
    assert set(options("dataset")) >= NO_RUN.keys()
    assert set(options("trainer")) >= OTHER_MACHINES
    assert len(options("executor")) >= len(HERE)  # so that each trainer is with one
    assert set(IMAGES) > HEAVY


# -- one option of a group at a time ------------------------------------------------------------


STRATEGY_NEEDS = {"vera": ["backbone.name=test_vit"]}  # which has linear layers


def budget(strategy):
    """Steps enough for its stages."""
    return [f"trainer.steps={LONG}"] if strategy in STAGED else []


@pytest.mark.parametrize("option", options("freeze_strategy"))
def test_freeze_strategy(option, train, final_weights):
    if option in PROMPTS:
        with pytest.raises(ValueError, match="no text network of transformers"):
            train(f"freeze_strategy={option}")
        return
    own = [f"freeze_strategy={option}", *STRATEGY_NEEDS.get(option, []), *budget(option)]
    found, folder = train(*own)
    assert found.stages
    assert all(stage.end > stage.start for stage in found.stages)
    assert differ(folder, final_weights("freeze_strategy=full")) or option in {"full", "scratch"}


@pytest.mark.parametrize("option", options("augmentation"))
def test_augmentation(option, train, final_weights):
    if option in OF_TEXTS:
        pytest.skip("for texts: tests/data/test_text_augment.py")
    if option in OF_SOUND:
        pytest.skip("for sound: tests/data/test_audio_inputs.py")
    _, folder = train(f"augmentation=[{option}]")
    assert differ(folder, final_weights("augmentation=[]")) or option == "none"


@pytest.mark.parametrize("option", options("regularization"))
def test_regularization(option, train, final_weights):
    if option == "neftune":
        with pytest.raises(ValueError, match="noise on token embeddings"):
            train("regularization=[neftune]")
        return
    _, folder = train(f"regularization=[{option}]")
    still = {"none", "early_stopping"}  # which has nothing to stop after one validation
    assert differ(folder, final_weights("regularization=[]")) or option in still


OPTIMIZER_NEEDS = {
    "timm": ["optimizer.name=nadamw"],
    "lbfgs": ["freeze_strategy=linear_probe", "final_weights=best"],
}


@pytest.mark.parametrize("option", options("optimizer"))
def test_optimizer(option, train, final_weights):
    _, folder = train(f"optimizer={option}", *OPTIMIZER_NEEDS.get(option, []))
    assert differ(folder, final_weights("optimizer=adamw")) or option == "adamw"


@pytest.mark.parametrize(
    ("option", "scope"), [*((each, "stage") for each in options("schedule")), ("cosine", "run")]
)
def test_schedule(option, scope, train, final_weights):
    own = ["freeze_strategy=lp_ft", f"schedule.scope={scope}", "trainer.steps=8"]
    _, folder = train(f"schedule={option}", *own)
    assert differ(folder, final_weights("schedule=constant", *own)) or option == "constant"


LEFT = {
    "csv": "metrics.csv",
    "tensorboard": "**/events.out.tfevents.*",
    "wandb": "wandb/offline-run-*/run-*.wandb",
}


@pytest.mark.parametrize("option", options("logger"))
def test_logger(option, train):
    if option == "tensorboard":
        pytest.importorskip("tensorboard")
    _, folder = train(f"logger=[{','.join(sorted({'csv', option}))}]")
    assert list(folder.glob(LEFT[option]))


HERE = [option for option in options("trainer") if option not in OTHER_MACHINES]


@pytest.mark.parametrize(
    ("executor", "trainer"), list(zip(options("executor"), itertools.cycle(HERE), strict=False))
)
def test_executor_and_trainer(executor, trainer, train):
    train(f"executor={executor}", f"trainer={trainer}")


@pytest.mark.parametrize("option", options("task"))
def test_task(option, train, tmp_path):
    labels = {
        "image_classification": ("single", lambda i: "abc"[i % 3]),
        "multi_label_classification": ("multi", lambda i: ("a", "b", "a|b")[i % 3]),
        "regression": ("real", lambda i: i / 10),
    }
    if option == "audio_classification":
        pytest.skip("a run: tests/test_audio_runs.py")
    if option in TEXT_TASKS:
        found, _ = train(*texts(tmp_path, TEXT_TASKS[option]), f"task={option}", base=TRAINER)
        assert found.task == option.removeprefix("text_").removeprefix("masked_")
        return
    kind, label = labels[option]
    path = table(tmp_path, label)
    few = ["dataset=image_csv", "dataset.labels_per_class=null", f"dataset.path={path}"]
    found, _ = train(*few, f"dataset.kind={kind}", f"task={option}", base=NETWORK)
    assert found.task == option.removeprefix("image_")


TEXT_TASKS = {
    "text_classification": ("table", "bert"),
    "token_classification": ("columns", "bert"),
    "language_modeling": ("lines", "gpt2"),
    "masked_language_modeling": ("lines", "bert"),
}


def network(kind):
    """Overrides for a tiny random text network of a kind."""
    if kind == "awd_lstm":
        sizes = ("backbone.embedding=8", "backbone.width=12", "backbone.layers=2")
        return ["backbone=word_lm", *sizes]
    return tiny.overrides(kind)


def texts(folder, wanted):
    """Overrides for data of a form, and a network of a kind."""
    form, kind = wanted
    lines = [f"the {['good', 'bad'][i % 2]} cat number {i} sat there" for i in range(40)]
    if form == "table":
        data = alternating(folder, lines)
    elif form == "columns":
        path = folder / "train.conll"
        tagged = [[f"{w} {'B-x' if w == 'cat' else 'O'}" for w in line.split()] for line in lines]
        path.write_text("\n\n".join(map("\n".join, tagged)), encoding="utf-8")
        data = ["dataset=conll", f"dataset.root={folder}"]
    else:
        path = folder / "lines.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        data = ["dataset=text_lines", f"dataset.path={path}", "task.block=12"]
    return [*data, *network(kind)]


KINDS = [*tiny.ALL, "awd_lstm"]
# Each strategy once, each kind twice or so; from the third on, no pair is one that is refused.
# What each strategy trains on each kind: tests/methods/test_strategies_on_networks.py.
PAIRS = zip(itertools.cycle(KINDS[2:] + KINDS[:2]), options("freeze_strategy"), strict=False)


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        pytest.param(*pair, marks=[] if pair[1] in {"gradual", "lora"} else pytest.mark.slow)
        for pair in PAIRS
        if pair[1] != "scratch"  # it is full, from random weights
    ],
)
def test_strategy_on_texts(kind, strategy, train, tmp_path):
    own = [f"freeze_strategy={strategy}", *budget(strategy)]
    train(*texts(tmp_path, ("table", kind)), *own, base=TRAINER)


FEW = ["dataset.labels_per_class=4"]


@pytest.mark.parametrize("option", [each for each in options("dataset") if each not in NO_RUN])
def test_dataset(option, train, tmp_path):
    given = {
        "digits": lambda: ["dataset.classes=[3,8]", *FEW],
        "digits_shifted": lambda: FEW,
        "glyphs": lambda: ["dataset.images_per_class=10", *FEW],
        "image_folder": lambda: [f"dataset.root={folder_of_classes(tmp_path / 'tree')}"],
        "huggingface": lambda: [f"dataset.path={saved_for_huggingface(tmp_path / 'saved')}"],
    }
    train(f"dataset={option}", *given[option](), base=NETWORK)


def folder_of_classes(root):
    pictures(root, [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(15)])
    return root


def saved_for_huggingface(root):
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("datasets is not installed")
    import datasets

    names = [f"{i:02d}.png" for i in range(30)]
    pictures(root / "images", names)
    columns = {
        "image": [str(root / "images" / name) for name in names],
        "label": [i % 2 for i in range(30)],
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    made.save_to_disk(str(root / "set"))
    return root / "set"


IMAGES = [
    option
    for option in options("backbone")
    if "timm.networks.timm\n" in (conf_dir() / "backbone" / f"{option}.yaml").read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("option", [each for each in IMAGES if each not in HEAVY])
def test_backbone(option, train):
    """Without weights, at its least input size: one step on two images.

    That the heavy ones are built, and know their layers, shows tests/backbones/test_conf_backbone.
    """
    stated = yaml.safe_load((conf_dir() / "backbone" / f"{option}.yaml").read_text())["name"]
    name = "test_vit" if stated == schema.MISSING else stated
    start = [f"backbone={option}", f"backbone.name={name}"]
    side = least_image_size(name)
    # Batch norm over two maps of one pixel has gradients of up to 1e17: without clipping, one step
    # makes weights whose outputs overflow.
    plain = ["optimizer=sgd", "optimizer.momentum=0", "regularization=[grad_clip]"]
    few = ["trainer.steps=1", "trainer.batch_size=2", "schedule=constant"]
    found, folder = train(*start, f"backbone.image_size={side}", *plain, *few)
    assert found.used_steps == 1
    assert runs.read_config(folder)["backbone"]["name"] == name


# -- knobs --------------------------------------------------------------------------------------

# Of the store (cache, cache_gb, frozen.views, stored_as, dropout): tests/training/test_reuse.py.
KNOBS = {
    # how it is computed; each is proved to change nothing where it is told of
    "computed": [
        *("trainer.accumulate=2", "trainer.channels_last=true", "trainer.deterministic=false"),
        *("trainer.workers=2", "trainer.eval_batch_size=7"),
    ],
    "bf16": ["trainer.precision=bf16-mixed", "regularization=[grad_clip]"],
    "looked_at": [
        *("trainer.steps=8", "trainer.eval_every_steps=null", "trainer.eval_every_epochs=1"),
        *("trainer.checkpoint_every_steps=2", "monitor=val/macro_f1"),
    ],
    "epochs": ["trainer.epochs=2", "trainer.steps=null", "trainer.eval_every_steps=null"],
    "best_of_the_run": ["final_weights=best", "select_from=run", "freeze_strategy=lp_ft"],
    "order_seed": ["order_seed=3"],
    "layer_decay": ["optimizer.layer_decay=0.7"],
    "layer_decay_coarse": ["optimizer.layer_decay=0.7", "optimizer.layer_decay_groups=coarse"],
    "carry_none": ["optimizer.carry=none", "freeze_strategy=lp_ft", "trainer.steps=8"],
    # the head trains in the first stage and in the last: the one before knows nothing of it
    "carry_all": [*("optimizer.carry=all", "freeze_strategy=chain_thaw", f"trainer.steps={LONG}")],
    "norm_affine_freeze": ["frozen.norm_affine=freeze"],
    "norm_affine_train": ["frozen.norm_affine=train", "freeze_strategy=linear_probe"],
    "norm_stats_freeze": ["frozen.norm_stats=freeze"],
    "norm_stats_train": ["frozen.norm_stats=train", "freeze_strategy=linear_probe"],
    "norm_stats_recalibrate": ["frozen.norm_stats=recalibrate", "freeze_strategy=linear_probe"],
    "embeddings_freeze": ["frozen.embeddings=freeze", "backbone.name=test_vit"],
    "embeddings_train": [
        *("frozen.embeddings=train", "backbone.name=test_vit", "freeze_strategy=linear_probe")
    ],
    "everything": [
        "regularization=[weight_decay,dropout,label_smoothing,l2_sp,grad_clip,early_stopping,ema]",
        "augmentation=[standard,randaugment,color,random_erasing,mixup,cutmix]",
    ],
    "compile": ["trainer.compile=true", "trainer.steps=2", "trainer.eval_every_steps=2"],
}


# They say how it is computed, when it is looked at and what is kept, not what is learnt.
STILL = {"computed", "compile", "looked_at", "best_of_the_run"}


@pytest.mark.parametrize(
    "knob",
    [pytest.param(k, marks=[pytest.mark.slow] if k in ("compile", "bf16") else []) for k in KNOBS],
)
def test_knob(knob, train, final_weights):
    if knob == "compile" and shutil.which("g++") is None:
        pytest.skip("no C++ compiler for torch.compile on the CPU")
    turned, *needs = KNOBS[knob]
    _, folder = train(turned, *needs)
    if knob not in STILL:
        needs = [] if knob in {"everything", "epochs"} else needs
        assert differ(folder, final_weights(*needs))


def test_metrics_are_written_at_the_steps_that_the_config_says(train):
    _, folder = train("trainer.steps=5", "trainer.eval_every_steps=2")
    evaluated = [int(row["step"]) for row in metrics(folder) if row.get("val/accuracy")]
    assert evaluated == [2, 4, 5]
    assert Path(folder / "predictions" / "test.csv").is_file()


UNLEARNING = 10


@pytest.fixture
def _unlearns(monkeypatch):
    """Training that climbs the loss from its middle on: its last weights are never its best."""
    set_lr = TransferModule.set_lr

    def up_again(module):
        set_lr(module)
        if module.step >= UNLEARNING // 2:
            for group in module.trainer.optimizers[0].param_groups:
                group["lr"] *= -3

    monkeypatch.setattr(TransferModule, "set_lr", up_again)


@pytest.mark.usefixtures("_unlearns")
@pytest.mark.parametrize("final", ["best", "last"])
def test_what_validation_says_is_said_of_the_weights_that_are_kept(final, train):
    found, folder = train(
        *(f"trainer.steps={UNLEARNING}", "trainer.eval_every_steps=1", "trainer.batch_size=8"),
        *(f"final_weights={final}", "monitor=val/loss"),
        *("optimizer=sgd", "optimizer.lr=0.02", "optimizer.momentum=0.0", "schedule=constant"),
    )
    values = [float(row["val/loss"]) for row in metrics(folder) if row.get("val/loss")]
    assert values[-1] > min(values)
    assert found.selected.value == pytest.approx(min(values) if final == "best" else values[-1])
    assert found.selected.value == pytest.approx(found.splits["val"].metrics["loss"].value)
    assert (found.selected.step == UNLEARNING) is (final == "last")
