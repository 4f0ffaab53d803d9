"""Broken configs: all refused, with the nearest right name; nothing is executed or imported."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Case:
    overrides: list
    place: str
    suggestion: str | None = None
    own: bool = False  # composed with the user's own folder


FOLDER = ["dataset=image_folder"]
TYPOS = [
    # in an override
    Case(["sede=1"], "sede", "seed"),
    Case(["trainer.epoch=3"], "trainer.epoch", "epochs"),
    Case(["trainer.batchsize=8"], "trainer.batchsize", "batch_size"),
    Case(["trianer.epochs=3"], "trianer", "trainer"),
    Case(["optimiser.lr=0.1"], "optimiser", "optimizer"),
    Case(["lr=0.1"], "lr", "optimizer.lr"),
    Case(["frozen.norm_stat=train"], "frozen.norm_stat", "norm_stats"),
    Case(["regularization.wieght_decay.value=0.1"], "regularization.wieght_decay", "weight_decay"),
    Case(["++optimizer.lrr=0.1"], "optimizer.lrr", "lr"),
    Case(["+trainer.acumulate=2"], "trainer.acumulate", "accumulate"),
    # of an option, an experiment, a group
    Case(["backbone=resnet81"], "backbone", "resnet18"),
    Case(["optimizer=adamW2"], "optimizer", "adamw"),
    Case(["freeze_strategy=ful"], "freeze_strategy", "full"),
    Case(["regularization=[weight_decay,l2sp]"], "regularization", "l2_sp"),
    Case(["logger=[wandbb]"], "logger", "wandb"),
    Case(["dataset=digit"], "dataset", "digits"),
    Case(["bakbone=resnet18"], "bakbone", "backbone"),
    Case(["experiment=mine_too"], "experiment", "mine_two", own=True),
    # in a group file, and in an experiment's file
    Case(["backbone=typo_key"], "backbone.image_siez", "image_size", own=True),
    Case(
        ["optimizer=typo_target"], "optimizer._target_", "tlx.training.optimizers.adamw", own=True
    ),
    Case(["experiment=typo_inside"], "trainer.epohcs", "epochs", own=True),
    # in a target's argument
    Case(["optimizer.beta=[0.9,0.99]"], "optimizer.beta", "betas"),
    Case(["backbone.drop_path=0.1"], "backbone.drop_path", "drop_path_rate"),
    Case(["dataset.label_per_class=5"], "dataset.label_per_class", "labels_per_class"),
    Case(
        ["regularization=[ema]", "regularization.ema.dcay=0.9"], "regularization.ema.dcay", "decay"
    ),
    # bad types and choices
    Case(["optimizer.lr=fast"], "optimizer.lr"),
    Case(["trainer.epochs=2.5"], "trainer.epochs"),
    Case(["trainer.compile=ture"], "trainer.compile", "true"),
    Case(["trainer.precision=bf16"], "trainer.precision", "bf16-mixed"),
    Case(["optimizer.carry=previuos"], "optimizer.carry", "previous"),
    Case(["final_weights=bset"], "final_weights", "best"),
    Case(["seed=[1,2]"], "seed"),
    # ranges and rules between values
    Case(["optimizer.lr=-0.1"], "optimizer.lr"),
    Case(["regularization=[dropout]", "regularization.dropout.p=1.5"], "regularization.dropout.p"),
    Case(["trainer.steps=100", "trainer.epochs=3"], "trainer.steps", "trainer.epochs=null"),
    Case(["trainer.batch_size=32", "trainer.devices=3"], "trainer.batch_size", "33"),
    Case(["dataset.labels_per_class=0"], "dataset.labels_per_class"),
    Case(["dataset.fraction=2"], "dataset.fraction"),
    Case(["trainer=fsdp", "trainer.devices=1"], "trainer.strategy", "auto"),
    Case(["freeze_strategy=pattern", "freeze_strategy.patterns=['(']"], "freeze_strategy.patterns"),
    Case(
        ["freeze_strategy=lp_ft", "freeze_strategy.head_epochs=1", "freeze_strategy.head_steps=9"],
        "freeze_strategy.head_steps",
    ),
    # missing values, files and folders
    Case(FOLDER, "dataset.root"),
    Case([*FOLDER, "dataset.root={tmp}/imagse"], "dataset.root", "{tmp}/images"),
    Case([*FOLDER, "dataset.root={tmp}/images/only"], "dataset.root"),
    Case(["backbone.init={tmp}/wieghts.safetensors"], "backbone.init", "{tmp}/weights.safetensors"),
    Case(["backbone.init=hbu"], "backbone.init", "hub"),
    Case(["backbone.init={tmp}/evil.pth"], "backbone.init"),
    Case(["backbone.init={tmp}/stack.pth"], "backbone.init"),
    # what selection looks at
    Case(["monitor=test/accuracy"], "monitor", "val/accuracy"),
    Case(["monitor=val/acuracy"], "monitor", "val/accuracy"),
    # code
    Case(["optimizer._target_=os.system"], "optimizer._target_"),
    Case(["backbone._target_=torch.os.system"], "backbone._target_"),
    Case(["backbone._target_=torch.hub.load"], "backbone._target_"),
    Case(["backbone._target_=torch.load"], "backbone._target_"),
    Case(["task._target_=torch.utils.cpp_extension.load"], "task._target_"),
    Case(["task._target_=tlx.training.optimizers.adamw"], "task._target_"),
    Case(
        ["++backbone.kwargs.x={{_target_:os.system,command:'touch {tmp}/ran'}}"],
        "backbone.kwargs.x._target_",
    ),
    Case(["+optimizer._partial_=true"], "optimizer._partial_"),
    Case(["++backbone.kwargs.trust_remote_code=true"], "backbone.kwargs.trust_remote_code"),
    Case(["backbone=runs_code"], "backbone._target_", own=True),
    # grammar
    Case(["resnet18"], "resnet18"),
    Case(["backbone=resnet18,resnet50"], "backbone"),
    Case(["name=${{seeed}}"], "name", "seed"),
    Case(["~regularization.ema"], "regularization.ema"),
]

PROBE = """
import json, sys
from tlx.config.compose import CheckError, compose
answers = []
for overrides, own in json.load(sys.stdin):
    try:
        compose(overrides, own)
        answers.append(None)
    except CheckError as error:
        answers.append([[p.place, p.message, p.suggestion] for p in error.problems])
heavy = ("torch", "pytorch_lightning", "timm", "transformers", "wandb")
loaded = [module for module in heavy if module in sys.modules]
print(json.dumps({"answers": answers, "loaded": loaded}))
"""


class Runs:
    """Executes a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def write_world(tmp):
    for name in ("a", "b"):
        (tmp / "images" / "train" / name).mkdir(parents=True)
    (tmp / "images" / "only" / "one").mkdir(parents=True)
    (tmp / "weights.safetensors").write_bytes(b"")
    (tmp / "evil.pth").write_bytes(pickle.dumps(Runs(f"touch {tmp}/ran"), protocol=2))
    (tmp / "stack.pth").write_bytes(pickle.dumps(Runs(f"touch {tmp}/ran"), protocol=4))
    own = {
        "backbone/typo_key.yaml": (
            "_target_: tlx.backbones.timm.networks.timm\nname: resnet18\nimage_siez: 32\n"
        ),
        "backbone/runs_code.yaml": f"_target_: os.system\ncommand: touch {tmp}/ran\n",
        "optimizer/typo_target.yaml": "_target_: tlx.training.optimizers.adanw\nlr: 0.1\n",
        "experiment/mine_two.yaml": "seed: 2\n",
        "experiment/typo_inside.yaml": "trainer:\n  epohcs: 3\n",
    }
    for name, text in own.items():
        file = tmp / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """All cases composed in one fresh process; the answers, the modules it loaded, the folder."""
    tmp = tmp_path_factory.mktemp("world")
    write_world(tmp)
    questions = [
        ([o.format(tmp=tmp) for o in case.overrides], str(tmp / "own") if case.own else None)
        for case in TYPOS
    ]
    environment = {**os.environ, "TLX_SETTINGS": str(tmp / "none.toml")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    return {**json.loads(done.stdout), "tmp": tmp}


def test_there_are_enough_cases():
    assert len(TYPOS) >= 40


@pytest.mark.parametrize("index", range(len(TYPOS)), ids=lambda i: " ".join(TYPOS[i].overrides))
def test_broken_config_is_refused_at_its_place(asked, index):
    case, answer = TYPOS[index], asked["answers"][index]
    assert answer is not None, "it passed"
    assert case.place in {place for place, _, _ in answer}, answer


def test_one_mistake_is_one_problem(asked):
    crowded = {
        " ".join(case.overrides): answer
        for case, answer in zip(TYPOS, asked["answers"], strict=True)
        if len({message for _, message, _ in answer}) > 1 and "_target_" not in str(answer)
    }
    assert not crowded


def test_suggestions_are_right(asked):
    wanted = [
        (case, answer)
        for case, answer in zip(TYPOS, asked["answers"], strict=True)
        if case.suggestion
    ]
    wrong = [
        (case.overrides, case.suggestion, answer)
        for case, answer in wanted
        if case.suggestion.format(tmp=asked["tmp"])
        not in {suggestion for _, _, suggestion in answer}
    ]
    assert len(wanted) >= 36
    assert not wrong


def test_nothing_was_executed_and_nothing_heavy_imported(asked):
    assert not (asked["tmp"] / "ran").exists()
    assert asked["loaded"] == []
