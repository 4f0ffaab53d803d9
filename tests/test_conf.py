"""Every file of conf/: it composes, it checks clean, and a typo in any of its keys is refused."""

import copy
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml

from tlx.config import compose as compose_module
from tlx.config import places, schema
from tlx.config import source as source_module
from tlx.config.check import check, schema_signature
from tlx.config.compose import CheckError, compose
from tlx.config.modality import modality
from tlx.config.places import Library, conf_dir, targets_by_group
from tlx.config.signatures import OPAQUE, signature
from tlx.config.types import known

GROUPS = (*schema.TARGET_GROUPS, *schema.LIST_GROUPS, *schema.SCHEMA_GROUPS)
FILES = sorted(conf_dir().glob("*/*.yaml"))
OPTIONS = [(file.parent.name, file.stem) for file in FILES]
LISTED = {
    "task": {"image_classification", "multi_label_classification", "regression"},
    "backbone": {"vgg16_bn", "resnet18", "resnet50", "inception_v3", "densenet121", "timm"},
    "dataset": {"digits", "glyphs", "digits_shifted", "image_folder", "torchvision", "image_csv"},
    "freeze_strategy": {
        *("scratch", "full", "linear_probe", "last_layer", "last_k", "freeze_first_k", "surgical"),
        *("pattern", "norm_only", "bitfit", "lp_ft", "gradual", "chain_thaw", "freeze_unfreeze"),
        *("discriminative", "freezeout"),
    },
    "augmentation": {"none", "standard", "randaugment", "trivialaugment", "mixup", "cutmix"},
    "regularization": {"none", "weight_decay", "dropout", "l2_sp", "early_stopping", "ema"},
    "optimizer": {"adamw", "sgd", "adam", "lion", "timm", "lbfgs"},
    "schedule": {"constant", "cosine", "linear", "one_cycle", "slanted_triangular"},
    "trainer": {"cpu", "gpu", "ddp", "fsdp"},
    "logger": {"csv", "wandb", "tensorboard"},
    "executor": {"local", "slurm", "ray"},
    "search": {"tpe", "gp", "cmaes", "qmc", "random", "grid"},
}


NEEDED = {
    ("optimizer", "lbfgs"): ["freeze_strategy=linear_probe"],
    ("dataset", "text_csv"): [f"dataset.path={__file__}"],
    ("dataset", "conll"): ["dataset.root=null", f"dataset.train={__file__}"],
}
PARTNERS = {
    "text": {"dataset": "stdlib_docs", "backbone": "tfidf"},
    "audio": {"dataset": "vowels", "backbone": "acoustic_model"},
}


def loaded(path):
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def needed(group, option):
    """What an option goes with, beside the default: texts with texts, sound with sound."""
    stated = loaded(conf_dir() / group / f"{option}.yaml")
    target = (stated.get(option) if group in schema.LIST_GROUPS else stated) or {}
    own = group in {"dataset", "backbone", "augmentation"} and modality(target.get("_target_"))
    partners = PARTNERS.get(str(own), {})
    others = [f"{other}={name}" for other, name in partners.items() if other != group]
    return [*others, *NEEDED.get((group, option), [])]


@cache
def _composed(group, option):
    value = f"[{option}]" if group in schema.LIST_GROUPS else option
    return compose([f"{group}={value}", *needed(group, option)], check=False)


def composed(group, option):
    return copy.deepcopy(_composed(group, option))


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_its_options(group):
    assert LISTED[group] <= set(Library().options(group))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_checks(group, option):
    config = composed(group, option)
    if group not in schema.LIST_GROUPS or option != "none":
        assert config[group]
    for problem in check(config):
        key = problem.place.rpartition(".")[2]
        stated = loaded(conf_dir() / group / f"{option}.yaml")
        assert stated.get(key) == schema.MISSING, problem


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_option_file_has_the_common_shape(file):
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# "), "a comment first: what, and why one would choose it"
    assert len(lines) <= 25
    assert "@package" not in text
    content = {k: v for k, v in loaded(file).items() if k != "defaults"}
    group = file.parent.name
    if group in schema.LIST_GROUPS:
        assert list(content) == ([] if file.stem == "none" else [file.stem])
        content = content.get(file.stem, {"_target_": ""})
    if group not in schema.SCHEMA_GROUPS:
        assert next(iter(content)) == "_target_"


@pytest.mark.parametrize("target", sorted(set().union(*targets_by_group().values())))
def test_signature_can_be_read(target):
    found = signature(target)
    assert found is not None, f"{target} is not in the source"
    assert not found.catches_all, "no **kwargs: they hide typos"
    for parameter in found.parameters.values():
        assert known(parameter.annotation, found.aliases), f"{target}: {parameter.name}"
        assert parameter.default is not OPAQUE, f"{target}: {parameter.name}"


def test_schema_can_be_read():
    for name in ("Config", *schema.NODES.values()):
        found = schema_signature(name)
        for parameter in found.parameters.values():
            assert known(parameter.annotation, found.aliases), parameter.name
            assert parameter.default is not OPAQUE, parameter.name


def typos(key):
    """One letter exchanged, dropped, doubled, and two swapped."""
    middle = len(key) // 2
    changed = {
        key[:middle] + ("x" if key[middle] != "x" else "y") + key[middle + 1 :],
        key[:middle] + key[middle + 1 :],
        key[:middle] + key[middle] + key[middle:],
        key[:-2] + key[-1] + key[-2] if len(key) > 1 else key + key,
    }
    return sorted(changed - {key, ""})


def key_paths(node, prefix=()):
    """Paths of all keys, less those below a free mapping."""
    for key, value in node.items():
        yield (*prefix, key)
        if isinstance(value, dict) and key not in {"kwargs", "extra"}:
            yield from key_paths(value, (*prefix, key))


def with_typo(config, path, typo):
    changed = copy.deepcopy(config)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[typo] = node.pop(path[-1])
    return changed


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_typo_of_every_key_is_refused(file):
    group = file.parent.name
    config = composed(group, file.stem)
    before = set(check(config))
    content = {k: v for k, v in loaded(file).items() if k != "defaults"}
    for path in key_paths({group: content}):
        for typo in typos(path[-1]):
            found = set(check(with_typo(config, path, typo))) - before
            assert found, f"{'.'.join(path)} as {typo} passes"
            spelled = any(typo in problem.place for problem in found)
            assert spelled or path[-1] in {"_target_", group}, (path, typo, found)


@pytest.mark.parametrize("path", list(key_paths(loaded(conf_dir() / "config.yaml"))), ids=str)
def test_typo_in_the_primary_config_is_refused(path, tmp_path, monkeypatch):
    shutil.copytree(conf_dir(), tmp_path / "conf")
    primary = tmp_path / "conf" / "config.yaml"
    for typo in typos(path[-1]):
        primary.write_text(
            yaml.safe_dump(with_typo(loaded(conf_dir() / "config.yaml"), path, typo))
        )
        with monkeypatch.context() as patch:
            for module in (places, compose_module, source_module):
                patch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
            with pytest.raises(CheckError):
                compose([])


def test_typo_in_the_defaults_lists_is_refused(tmp_path, monkeypatch):
    """Of config.yaml, entry by entry, and of a dataset's `override /task`."""
    shutil.copytree(conf_dir(), tmp_path / "conf")
    primary = tmp_path / "conf" / "config.yaml"
    original = loaded(primary)
    for index, entry in enumerate(original["defaults"]):
        if not isinstance(entry, dict) or "experiment" in entry:
            continue
        changed = copy.deepcopy(original)
        (key, value) = next(iter(entry.items()))
        changed["defaults"][index] = {key[:-1]: value or ["none"]}
        primary.write_text(yaml.safe_dump(changed))
        with monkeypatch.context() as patch:
            for module in (places, compose_module, source_module):
                patch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
            with pytest.raises(CheckError):
                compose([])


@pytest.mark.parametrize("key", ["overide /task", "override /tsak", "override task", "/task"])
def test_typo_in_a_datasets_defaults_is_refused(key, tmp_path):
    mine = {
        "defaults": [{key: "image_classification"}, "_self_"],
        "_target_": "tlx.data.images.digits.digits",
    }
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    with pytest.raises(CheckError):
        compose(["dataset=mine"], tmp_path)
    mine["defaults"][0] = {"override /task": "image_classification"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert compose(["dataset=mine"], tmp_path)["dataset"]["_target_"].endswith("digits")


def test_every_experiment_composes():
    names = Library().options("experiment")
    assert names
    for name in names:
        for problem in check(compose([f"experiment={name}"], check=False)):
            assert "must be given" in problem.message, problem  # as the folder of one's own data


def test_the_package_finds_conf_beside_itself():
    assert (Path(conf_dir()) / "config.yaml").is_file()
