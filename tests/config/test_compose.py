"""Composing: grammar, groups of one's own, everything at once, and what it leaves behind."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import version
from hydra.core.global_hydra import GlobalHydra

from tlx.config.compose import CheckError, compose

ROOT = Path(__file__).resolve().parents[2]


def refused(overrides, config_dir=None):
    with pytest.raises(CheckError) as caught:
        compose(overrides, config_dir)
    return {p.place: p for p in caught.value.problems}


def test_the_result_is_plain_and_complete():
    config = compose([])
    assert type(config) is dict
    assert {"seed", "trainer", "frozen", "optimizer", "augmentation", "logger"} <= set(config)
    assert type(config["optimizer"]["betas"]) is list
    assert config["trainer"]["eval_batch_size"] > 0


def test_a_key_left_at_its_default_needs_no_plus():
    assert compose(["optimizer.eps=1e-6"])["optimizer"]["eps"] == 1e-6


def test_lists_of_options():
    assert list(compose(["regularization=[l2_sp,ema]"])["regularization"]) == ["l2_sp", "ema"]
    assert list(compose(["regularization=ema"])["regularization"]) == ["ema"]
    for nothing in ("regularization=[]", "regularization=none", "regularization=null"):
        assert compose([nothing])["regularization"] == {}


def test_one_option_of_a_list_can_be_taken_away():
    config = compose(["regularization=[l2_sp,ema]", "~regularization.ema"])
    assert list(config["regularization"]) == ["l2_sp"]


def test_a_dataset_implies_its_task_and_the_command_line_overrides_it():
    assert compose(["dataset=digits"])["task"]["_target_"].endswith("classification")
    assert compose(["dataset=digits", "task=regression"])["task"]["_target_"].endswith("regression")
    assert compose(["task=regression", "dataset=digits"])["task"]["_target_"].endswith("regression")


def test_words_that_yaml_reads_otherwise():
    config = compose(["trainer.precision=32", "frozen.dropout=off"])
    assert config["trainer"]["precision"] == "32"
    assert config["frozen"]["dropout"] == "off"
    assert compose(["frozen.dropout=false"])["frozen"]["dropout"] == "off"


def test_scratch_means_no_weights():
    assert compose(["freeze_strategy=scratch", "backbone.init=hub"])["backbone"]["init"] == "none"


def test_everything_wrong_is_told_at_once():
    places = refused(["sede=1", "backbone=resnet81", "optimizer.lrr=1", "trainer.epochs=0", "what"])
    assert set(places) == {"sede", "backbone", "optimizer.lrr", "trainer.epochs", "what"}


def test_missing_values_are_named():
    assert "dataset.root" in refused(["dataset=image_folder"])


def test_own_groups_and_experiments(tmp_path, monkeypatch):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "slow.yaml").write_text(
        "_target_: tlx.training.optimizers.sgd\nlr: 1e-4\n"
    )
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "defaults:\n  - override /optimizer: slow\n\nseed: 7\nstudy:\n"
        "  arms: {a: [], b: [freeze_strategy=scratch]}\n  seeds: [0, 1]\n  baseline: b\n"
    )
    monkeypatch.chdir(tmp_path)
    config = compose(["experiment=mine"], tmp_path)
    assert (config["optimizer"]["lr"], config["seed"], config["dataset"]["seed"]) == (1e-4, 7, 7)
    assert config["study"]["arms"] == {"a": [], "b": ["freeze_strategy=scratch"]}
    assert compose(["experiment=mine", "seed=8"], tmp_path)["seed"] == 8
    assert compose(["experiment=mine", "optimizer=adamw"], tmp_path)["optimizer"]["lr"] != 1e-4
    assert refused(["experiment=mien"], tmp_path)["experiment"].suggestion == "mine"


def test_own_option_may_not_hide_one_of_tlx(tmp_path):
    (tmp_path / "optimizer").mkdir()
    file = tmp_path / "optimizer" / "adamw.yaml"
    file.write_text("_target_: tlx.training.optimizers.sgd\nlr: 1\n")
    assert str(file) in refused([], tmp_path)


def test_own_folder_with_a_wrong_group(tmp_path):
    (tmp_path / "backbon").mkdir()
    assert refused([], tmp_path)[str(tmp_path / "backbon")].suggestion == "backbone"


def test_files_that_are_not_yaml_or_hold_objects(tmp_path):
    (tmp_path / "optimizer").mkdir()
    for text in ("a: [", "a: 1\na: 2\n", "a: !!python/object/apply:os.system ['touch ran']\n"):
        (tmp_path / "optimizer" / "bad.yaml").write_text(text)
        (place,) = refused(["optimizer=bad"], tmp_path)
        assert place.endswith("bad.yaml")
    assert not Path("ran").exists()


def test_it_leaves_nothing_behind():
    handlers, base, cwd = list(logging.root.handlers), version.getbase(), Path.cwd()
    compose([])
    refused(["backbone=nothing"])
    assert logging.root.handlers == handlers
    assert version.getbase() is base
    assert Path.cwd() == cwd
    assert not GlobalHydra.instance().is_initialized()


def test_it_works_inside_a_hydra_program(tmp_path):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    (tmp_path / "main.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose(["seed=3"])["seed"] == 3
        assert hydra_compose("main").x == 1


def test_a_fresh_process_does_not_need_torch(tmp_path):
    code = (
        "import sys, tlx; tlx.compose([])\n"
        "assert not {'torch', 'pytorch_lightning', 'timm', 'wandb'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
