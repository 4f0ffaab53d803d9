"""A run's id: the same for the same experiment, another for another."""

import copy
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.config import identity, signatures
from tlx.config.compose import compose
from tlx.config.identity import EXCLUDED, essence, normalise, run_id

BASE = compose(["regularization=[weight_decay,ema]", "augmentation=[]"])
OTHER = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2 + 0.01}


def leaves(node, prefix=()):
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def changed(config, path, value):
    copied = copy.deepcopy(config)
    node = copied
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return copied


def other(value):
    return OTHER[type(value)](value) if type(value) in OTHER else f"{value}x"


def excluded(path):
    return ".".join(path) in EXCLUDED or path[0] in EXCLUDED


def shuffled(node, generator):
    if not isinstance(node, dict):
        return node
    keys = list(node)
    generator.shuffle(keys)
    return {key: shuffled(node[key], generator) for key in keys}


def test_an_id_can_be_read_and_is_safe_in_file_names_and_overrides():
    assert re.fullmatch(r"digits-resnet10t-full-s0-[0-9a-f]{10}", run_id(BASE))
    odd = changed(BASE, ("backbone", "name"), "vit=B/16 (x).tag")
    assert re.fullmatch(r"[a-z0-9_-]+", run_id(odd))


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(generator: random.Random):
    assert run_id(shuffled(BASE, generator)) == run_id(BASE)


INCLUDED = [path for path, _ in leaves(BASE) if not excluded(path)]


@pytest.mark.parametrize("path", INCLUDED, ids=".".join)
def test_each_included_key_counts(path):
    value = dict(leaves(BASE))[path]
    if path[-1] == "_target_":
        moved = changed(BASE, path, f"{value}_other")
    elif path == ("trainer", "precision"):
        moved = changed(BASE, path, "bf16-mixed")
    else:
        moved = changed(BASE, path, other(value))
    assert run_id(moved).rpartition("-")[2] != run_id(BASE).rpartition("-")[2]


def test_what_must_count_counts():
    names = {".".join(path) for path in INCLUDED}
    for unit in ("precision", "batch_size", "accumulate", "compile", "deterministic", "epochs"):
        assert f"trainer.{unit}" in names


@pytest.mark.parametrize("place", EXCLUDED)
def test_excluded_keys_do_not_matter(place):
    path = tuple(place.split("."))
    value = {"x": {"y": 1}} if path[0] in {"logger", "executor", "study"} else "other"
    assert run_id(changed(BASE, path, value)) == run_id(BASE)


def test_every_excluded_key_exists():
    known = (
        {".".join(path) for path, _ in leaves(BASE)}
        | set(BASE)
        | {"study", "search", "identity_version"}
    )
    assert set(EXCLUDED) <= known


@pytest.mark.parametrize("spelling", ["0.001", "1e-3", "0.1e-2"])
def test_numbers_have_one_spelling(spelling):
    assert run_id(compose([f"optimizer.lr={spelling}"])) == run_id(compose([]))


def test_one_is_one_however_it_is_written():
    spelt = {run_id(changed(BASE, ("optimizer", "layer_decay"), v)) for v in (1, 1.0, 1e0)}
    assert spelt == {run_id(BASE)}
    spelt = {run_id(changed(BASE, ("optimizer", "lr"), v)) for v in (1, 1.0, 1e0)}
    assert len(spelt) == 1
    spelt = {run_id(changed(BASE, ("trainer", "precision"), v)) for v in (32, "32")}
    assert spelt == {run_id(BASE)}


def test_a_default_written_out_or_left_out_is_the_same():
    bare = copy.deepcopy(BASE)
    for key in ("eps", "betas", "carry", "fused"):
        del bare["optimizer"][key]
    for key in ("compile", "workers", "steps"):
        del bare["trainer"][key]
    del bare["frozen"]
    assert run_id(bare) == run_id(BASE)


def test_a_new_option_keeps_old_ids(monkeypatch):
    """An option that is added with a default, to a target and to the schema."""
    before = run_id(BASE)
    read = signatures.signature

    def with_new(target):
        found = read(target)
        new = signatures.Parameter("brand_new", None, 0.5)
        return signatures.Signature(
            {**found.parameters, "brand_new": new}, found.supplied, False, found.aliases
        )

    monkeypatch.setattr(identity, "signature", with_new)
    monkeypatch.setattr(identity, "schema_signature", lambda n: with_new(f"tlx.config.schema.{n}"))
    full = normalise(BASE)
    assert full["optimizer"]["brand_new"] == full["trainer"]["brand_new"] == 0.5
    assert run_id(full) == run_id(BASE) == before
    assert run_id(changed(full, ("optimizer", "brand_new"), 0.6)) != before


def test_the_version_counts(monkeypatch):
    before = run_id(BASE)
    monkeypatch.setattr(identity, "IDENTITY_VERSION", identity.IDENTITY_VERSION + 1)
    assert run_id(BASE) != before


def test_normalising_twice_changes_nothing_and_the_argument_stays():
    config = copy.deepcopy(BASE)
    assert normalise(normalise(config)) == normalise(config) == BASE
    assert config == BASE


def test_normalising_leaves_what_does_not_fit():
    for broken in ({}, {"trainer": 3}, {"optimizer": {"_target_": "no.where", "lr": "x"}}):
        for key, value in broken.items():
            assert normalise(broken)[key] == value


def test_scratch_is_scratch_whatever_the_weights():
    ids = {
        run_id(compose(["freeze_strategy=scratch", f"backbone.init={init}"]))
        for init in ("hub", "none")
    }
    assert len(ids) == 1


def test_the_parent_run_counts():
    ids = {run_id(changed(BASE, ("backbone", "init"), f"run:{name}")) for name in "ab"}
    assert len(ids) == 2


def test_the_same_run_in_two_studies_is_one_run():
    study = {"arms": {"a": []}, "seeds": [0]}
    assert run_id({**BASE, "study": study, "name": "x"}) == run_id(BASE)
    assert "study" not in essence({**BASE, "study": study})


def test_an_id_names_the_last_part_of_a_local_folder(tmp_path):
    folder = tmp_path / "deep" / "my.encoder"
    config = compose(["dataset=stdlib_docs", "backbone=transformers", f"backbone.name={folder}"])
    assert run_id(config).split("-")[1] == "my"
