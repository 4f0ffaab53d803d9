"""Every file of conf/: it composes, it checks clean, and a typo in any of its keys is refused."""

import copy
import itertools
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


def overridden(group, option):
    """Groups whose option the file itself chooses."""
    entries = loaded(conf_dir() / group / f"{option}.yaml").get("defaults", [])
    keys = [key for entry in entries if isinstance(entry, dict) for key in entry]
    return [key.rpartition("/")[2] for key in keys]


def lines_of_options():
    """Overrides that choose every option once: of several groups where no file sees another.

    A dataset chooses the task, so that each stands in a line of its own beside the other's.
    """
    named = {g: [option for group, option in OPTIONS if group == g] for g in GROUPS}
    columns = [[(g, option) for option in named[g]] for g in GROUPS if g not in schema.LIST_GROUPS]
    columns[:] = [c for c in columns if c[0][0] not in {"dataset", "task"}]
    columns.append([(g, option) for g in ("dataset", "task") for option in named[g]])
    for g in schema.LIST_GROUPS:
        columns.append([(g, option) for option in named[g]])
    choosing = [(g, o) for g, o in OPTIONS if g != "dataset" and overridden(g, o)]
    rest = [[each for each in column if each not in choosing] for column in columns]
    rows = [[each for each in row if each] for row in itertools.zip_longest(*rest)]
    return [*rows, *([each] for each in choosing)]


LINES = {each: tuple(line) for line in lines_of_options() for each in line}


@cache
def composed_by(overrides):
    return compose(list(overrides), check=False)


def composed(group, option):
    """The default config, or that of texts, with an option, as a line gives it that chooses it."""
    beside = [line for line in needed(group, option) if not line.startswith(f"{group}.")]
    config = copy.deepcopy(composed_by(tuple(beside)))
    values = []
    for g, o in LINES[group, option]:
        values.append(f"{g}=[{o}]" if g in schema.LIST_GROUPS else f"{g}={o}")
        values += [line for line in NEEDED.get((g, o), []) if line.startswith(f"{g}.")]
    chosen = copy.deepcopy(composed_by(tuple(values)))
    return {**config, **{key: chosen[key] for key in [group, *overridden(group, option)]}}


def test_each_option_stands_in_one_line():
    assert sorted(LINES) == sorted(OPTIONS)
    assert all(len({group for group, _ in line}) == len(line) for line in LINES.values())


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


def with_all_typos(config, paths):
    """Every key in every wrong spelling at once; those that hold others stay as well."""
    changed = copy.deepcopy(config)
    paths = list(paths)
    for path in sorted(paths, key=len, reverse=True):
        node = changed
        for key in path[:-1]:
            node = node[key]
        node.update(dict.fromkeys(typos(path[-1]), node[path[-1]]))
        if not any(other[:-1] == path for other in paths):
            del node[path[-1]]
    return changed


def spelled(problems, paths):
    """Typos that no problem is about."""
    places = {problem.place for problem in problems}
    wrong = [".".join((*path[:-1], typo)) for path in paths for typo in typos(path[-1])]
    return [place for place in wrong if place not in places]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_typo_of_every_key_is_refused(file):
    """What a config lacks without `_target_` hides what else is wrong: that key goes alone."""
    group = file.parent.name
    config = composed(group, file.stem)
    before = set(check(config))
    content = {k: v for k, v in loaded(file).items() if k != "defaults"}
    paths = list(key_paths({group: content}))
    alone = [path for path in paths if path[-1] in {"_target_", group}]
    others = [path for path in paths if path not in alone]
    assert not spelled(set(check(with_all_typos(config, others))) - before, others)
    for index, path in enumerate(alone, start=FILES.index(file)):
        typo = typos(path[-1])[index % len(typos(path[-1]))]
        found = set(check(with_typo(config, path, typo))) - before
        assert found, f"{'.'.join(path)} as {typo} passes"


@pytest.fixture
def primary(tmp_path, monkeypatch):
    """The file config.yaml of a copy of conf/ that is the one in use."""
    shutil.copytree(conf_dir(), tmp_path / "conf")
    for module in (places, compose_module, source_module):
        monkeypatch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
    return tmp_path / "conf" / "config.yaml"


def test_typo_in_the_primary_config_is_refused(primary):
    original = loaded(primary)
    paths = [path for path in key_paths(original) if path != ("defaults",)]
    primary.write_text(yaml.safe_dump(with_all_typos(original, paths)))
    with pytest.raises(CheckError) as caught:
        compose([])
    assert not spelled(caught.value.problems, paths)
    for typo in typos("defaults"):
        primary.write_text(yaml.safe_dump(with_typo(original, ("defaults",), typo)))
        with pytest.raises(CheckError):
            compose([])


def test_typo_in_the_defaults_lists_is_refused(primary):
    """Of config.yaml, entry by entry, and of a dataset's `override /task`."""
    original = loaded(primary)
    for index, entry in enumerate(original["defaults"]):
        if not isinstance(entry, dict) or "experiment" in entry:
            continue
        changed = copy.deepcopy(original)
        (key, value) = next(iter(entry.items()))
        changed["defaults"][index] = {key[:-1]: value or ["none"]}
        primary.write_text(yaml.safe_dump(changed))
        with pytest.raises(CheckError):
            compose([])


def test_typo_in_a_datasets_defaults_is_refused(tmp_path):
    mine = {
        "defaults": [{"override /task": "image_classification"}, "_self_"],
        "_target_": "tlx.data.images.digits.digits",
    }
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert compose(["dataset=mine"], tmp_path)["dataset"]["_target_"].endswith("digits")
    for key in ("overide /task", "override /tsak", "override task", "/task"):
        mine["defaults"][0] = {key: "image_classification"}
        (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
        with pytest.raises(CheckError):
            compose(["dataset=mine"], tmp_path)


def test_every_experiment_composes():
    names = Library().options("experiment")
    assert names
    for name in names:
        for problem in check(compose([f"experiment={name}"], check=False)):
            assert "must be given" in problem.message, problem  # as the folder of one's own data


def test_the_package_finds_conf_beside_itself():
    assert (Path(conf_dir()) / "config.yaml").is_file()
