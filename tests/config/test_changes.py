"""Changed meanings: only the configs that a change concerns get another id."""

import importlib
import json
from dataclasses import replace

import pytest
import yaml

from tlx.config import changes, identity
from tlx.config.changes import Change
from tlx.config.compose import Composer, compose
from tlx.config.places import conf_dir
from tlx.config.run import typed
from tlx.execution import execute, preparing, runs
from tlx.methods.stages import layout_of
from tlx.results import record

OLD = compose(["trainer.accumulate=2"])
OTHER = compose([])
CHANGE = Change(
    mark="parts",
    since="9.9",
    what="was one thing; is another",
    concerns=lambda config: config["trainer"]["accumulate"] > 1,
    old="trainer.accumulate=1",
)


def test_only_the_configs_concerned_get_a_new_id(monkeypatch):
    before = identity.run_id(OLD), identity.run_id(OTHER)
    monkeypatch.setattr(changes, "CHANGES", (*changes.CHANGES, CHANGE))
    assert identity.run_id(OLD) != before[0]
    assert identity.run_id(OTHER) == before[1]


def test_marks_are_unique_and_documented():
    marks = [change.mark for change in changes.CHANGES]
    assert len(set(marks)) == len(marks)
    docs = (conf_dir().parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [mark for mark in marks if f"| `{mark}` |" not in docs] == []


def test_a_run_of_before_is_not_taken_up_under_the_new_meaning(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "CHANGES", (*changes.CHANGES, CHANGE))
    folder = tmp_path / "run"
    runs.write_json(folder / preparing.PROVENANCE, {"code": {"sha": "abc123"}})
    with pytest.raises(runs.RunError, match=r"(?s)parts.*since tlx 9.9.*accumulate=1.*abc123"):
        preparing.refuse_changed(typed(OLD), folder)
    preparing.refuse_changed(typed(OTHER), folder)
    facts = {"changes": changes.marks(identity.normalise(OLD))}
    (folder / preparing.PROVENANCE).write_text(json.dumps(facts), encoding="utf-8")
    preparing.refuse_changed(typed(OLD), folder)


def test_a_job_of_before_is_not_trained_under_the_new_meaning(tmp_path):
    """It waited in a queue, say, while tlx was brought up to date."""
    config = identity.normalise(compose(["freeze_strategy=lp_ft"]))
    folder = tmp_path / "run"
    runs.write_config(folder, {key: config[key] for key in config if key != "select_from"})
    runs.write_json(folder / preparing.PROVENANCE, {"code": {"sha": "abc123"}, "init": "none"})
    with pytest.raises(runs.RunError, match="best_of_last_stage"):
        execute.run_folder(folder)
    failed = record.read(folder)
    assert failed.status == "failed"
    assert "abc123" in failed.error


# -- the best of the last stage -----------------------------------------------------------------

# ids of commit 6d35975
OF_BEFORE = {
    ("freeze_strategy=lp_ft",): "digits-resnet10t-lp_ft-s0-672182fe7e",
    ("freeze_strategy=chain_thaw",): "digits-resnet10t-chain_thaw-s0-e1e62a9dc8",
    ("freeze_strategy=freezeout",): "digits-resnet10t-freezeout-s0-82bfa08c39",
    (
        "freeze_strategy=gradual",
        "freeze_strategy.restore_best=true",
        "final_weights=last",
    ): "digits-resnet10t-gradual-s0-2fe0dcd59c",
    ("freeze_strategy=full",): "digits-resnet10t-full-s0-a538052d40",
    ("freeze_strategy=lora",): "digits-resnet10t-lora-s0-072490e390",
    (
        "freeze_strategy=freezeout",
        "final_weights=last",
    ): "digits-resnet10t-freezeout-s0-2d7624cf28",
    (
        "freeze_strategy=gradual",
        "freeze_strategy.stages=2",
        "freeze_strategy.restore_best=true",
        "final_weights=last",
    ): "digits-resnet10t-gradual-s0-573dacaf80",
}
UNCONCERNED = list(OF_BEFORE)[4:]


def test_only_what_selects_among_stages_has_another_id_than_before():
    composer = Composer(None)
    for line, before in OF_BEFORE.items():
        config = composer.compose([*line])
        assert (identity.run_id(config) == before) is (line in UNCONCERNED), line
        assert identity.run_id({**config, "select_from": "run"}) == before
        assert config["select_from"] == "last_stage"


def test_somebodys_own_strategy_may_have_several_stages():
    config = identity.normalise(compose([]))
    config["freeze_strategy"] = {"_target_": "mycode.strategies.top_half"}
    assert changes.marks(config) == ["best_of_last_stage"]
    assert changes.marks({**config, "select_from": "run"}) == []


def test_the_strategies_of_several_stages_are_those_that_are_listed():
    """Held against what every option gives on a network of three layer groups."""
    groups = {name: [f"{name}.weight", f"{name}.bias"] for name in ("stem", "top", "neck", "head")}
    layout = replace(layout_of(groups), norms=("top.weight",), adapters=("top.bias",))
    several = set()
    options = sorted((conf_dir() / "freeze_strategy").glob("*.yaml"))
    assert options
    for path in options:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        module, _, name = node.pop("_target_").rpartition(".")
        if len(getattr(importlib.import_module(module), name)(layout, **node)) > 1:
            several.add(name)
    assert several == changes.SEVERAL_STAGES


LM = ["task=language_modeling", "dataset=text_file", "dataset.path=a.txt"]
NAMED = ["backbone=transformers", "backbone.init=none"]


@pytest.mark.parametrize(
    ("overrides", "concerned"),
    [
        ([*LM, *NAMED, "backbone.name=/some/llama"], True),
        ([*LM, "backbone=transformers", "backbone.name=meta-llama/Llama-3.2-1B"], True),
        ([*LM, "backbone=transformers", "backbone.name=folder"], True),
        ([*LM, *NAMED, "backbone.name=llama"], False),  # its vocabulary is learnt
        ([*LM, "backbone=gpt2"], False),
        ([*LM, "backbone=qwen3"], False),
        ([*LM, "backbone=smollm"], False),
        ([*LM, "backbone=char_lm"], False),
        (["task=masked_language_modeling", *LM[1:], *NAMED, "backbone.name=/some/bert"], False),
        (["dataset=stdlib_docs", "backbone=transformers", "backbone.name=/some/llama"], False),
    ],
)
def test_beginnings_concern_language_models_whose_tokenizer_may_have_one(overrides, concerned):
    config = identity.normalise(compose(overrides, check=False))
    assert ("text_beginnings" in changes.marks(config)) is concerned


@pytest.mark.parametrize(
    ("overrides", "concerned"),
    [
        ([*LM, "backbone=word_lm"], True),
        ([*LM, "backbone=word_lm_small"], True),
        ([*LM, *NAMED, "backbone.name=gpt2", "backbone.vocabulary=whitespace"], True),
        ([*LM, "backbone=char_lm"], False),
        ([*LM, "backbone=char_lm", "backbone.vocabulary_size=8"], True),
        ([*LM, "backbone=char_lm", "backbone.least_count=5"], True),
        ([*LM, *NAMED, "backbone.name=gpt2"], False),  # 8000 pieces
        ([*LM, "backbone=gpt2"], False),
        (["dataset=stdlib_docs", "backbone=word_lm"], False),
    ],
)
def test_unknown_words_concern_language_models_of_words(overrides, concerned):
    config = identity.normalise(compose(overrides, check=False))
    assert ("unknown_spelled" in changes.marks(config)) is concerned


TABLE = ["dataset=text_csv", "dataset.path=a.csv"]


@pytest.mark.parametrize(
    ("overrides", "concerned"),
    [
        ([*TABLE, "backbone=tfidf"], True),
        (["dataset=stdlib_docs", "backbone=tfidf"], False),  # English
        ([*LM, "backbone=word_lm"], True),
        ([*LM, "backbone=word_lm", "backbone.vocabulary=identifiers"], True),
        ([*LM, "backbone=word_lm", "backbone.vocabulary=whitespace"], False),
        ([*LM, "backbone=char_lm"], False),
        ([*TABLE, "backbone=word_lm", "backbone.init=/some/model.safetensors"], False),
        ([*TABLE, *NAMED, "backbone.name=bert", "backbone.vocabulary=words"], True),
        ([*TABLE, *NAMED, "backbone.name=bert"], False),
        ([*TABLE, "backbone=bert_base"], False),
    ],
)
def test_unspaced_scripts_concern_words_that_are_learnt_from_own_texts(overrides, concerned):
    config = identity.normalise(compose(overrides, check=False))
    assert ("unspaced_scripts" in changes.marks(config)) is concerned
