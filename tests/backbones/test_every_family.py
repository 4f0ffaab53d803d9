"""Every family of transformers, tiny: refused in a rehearsal, or trained and exported alike."""

import re

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.models.auto import modeling_auto as auto

from cover import cover
from tiny import TEXTS, batch
from tlx.backbones.adapters import peft as adapters
from tlx.backbones.export.networks import ExportError, export
from tlx.backbones.transformers import evidence
from tlx.backbones.transformers.language_heads import is_causal
from tlx.building.calls import regularization
from tlx.building.networks import model
from tlx.building.rehearsals import rehearse
from tlx.config.compose import compose
from tlx.config.identity import normalise
from tlx.config.run import typed
from tlx.data.splits import Labels

TASKS = {"pooled": "text_classification", "word": "token_classification"}
LABELS = {
    "pooled": Labels("single", ("a", "b", "c")),
    "word": Labels("tags", ("O", "B-x")),
    "token": Labels("text", ()),
}
LIBRARY = {
    "pooled": AutoModelForSequenceClassification,
    "word": AutoModelForTokenClassification,
}
FAMILIES = sorted(
    {
        kind
        for mapping in (
            auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
            auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        )
        for kind in mapping
    }
    & set(auto.MODEL_MAPPING_NAMES)
)
NOT_RELOADED = {
    "bamba": "its layers here are no attention, and the library asks them for a length",
    "granitemoehybrid": "likewise",
    "jamba": "likewise",
    "xlstm": "the library's cache has the shape of other sizes",
    "mra": "the library's positions begin at two, those of tlx at zero",
}
"""Families that the library itself cannot run by default at these sizes, or that differ."""


def sizes(kind):
    """Entries of a config that make a family small; none where nobody knows how."""
    config = AutoConfig.for_model(kind)
    try:
        small = evidence._copy(config, {**evidence.NARROW, **evidence.EXPERTS})
    except evidence.FAILURES:
        return {}
    before, after = config.to_dict(), small.to_dict()
    return {
        key: getattr(small, key)
        for key, value in after.items()
        if before.get(key) != value and key != "vocab_size" and not key.endswith("token_id")
    }


def config_of(kind, unit, strategy, kwargs):
    causal = is_causal(AutoConfig.for_model(kind))
    task = TASKS.get(unit) or ("language_modeling" if causal else "masked_language_modeling")
    config = compose(
        [
            *("dataset=text_csv", "backbone=transformers", f"backbone.name={kind}"),
            *("backbone.init=none", "backbone.vocabulary_size=120", f"task={task}"),
            f"freeze_strategy={strategy}",
        ],
        check=False,
    )
    config["backbone"] = {**config["backbone"], "kwargs": kwargs}
    config["dataset"] = {**config["dataset"], "path": "x.tsv"}
    return normalise(config)


def used(kind, unit, strategy, folder, kwargs):
    """`refused: …`, `no form: …`, or how far the exported network is off, of its largest output."""
    config = config_of(kind, unit, strategy, kwargs)
    run = typed(config)
    effects = regularization(run)
    try:
        rehearse(run, effects)
    except ValueError as error:
        return f"refused: {error}"
    made = model(run, LABELS[unit], effects=effects, corpus=lambda: TEXTS, init="none")
    spec, network = made.backbone.reads, made.network.train()
    inputs = batch(spec, [9, 4])
    if unit == "word":
        inputs["words"] = torch.tensor([[0, 2, 5], [0, 1, -1]])
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    network(inputs).float().pow(2).mean().backward()
    optimizer.step()
    network.eval()
    with torch.no_grad():
        ours = network(inputs)
    assert torch.isfinite(ours).all()
    if made.backbone.adapters:
        adapters.merge(network)
    told = {"facts": made.backbone.export, "class_names": LABELS[unit].names, "reads": spec}
    try:
        export(network.state_dict(), folder, **told)
    except ExportError as error:
        return f"no form: {error}"
    masked = AutoModelForCausalLM if spec.causal else AutoModelForMaskedLM
    full = LIBRARY.get(unit, masked).from_pretrained(folder).eval()
    if kind in NOT_RELOADED:
        return 0.0
    given = {name: values.long() for name, values in inputs.items() if name != "words"}
    with torch.no_grad():
        theirs = full(**given).logits
    if unit == "word":
        theirs = theirs[torch.arange(2)[:, None], inputs["words"].clamp(min=0)]
    if unit != "pooled":
        real = inputs["words"] >= 0 if unit == "word" else inputs["attention_mask"]
        ours, theirs = ours[real], theirs[real]
    return float((ours - theirs).abs().max() / ours.abs().max())


@pytest.mark.parametrize(
    ("kind", "unit", "strategy"),
    [
        ("opt", "token", "full"),
        ("mamba", "token", "full"),
        ("falcon_h1", "token", "full"),  # its head asks its trunk for a factor
        ("xlnet", "word", "lora"),
        ("gpt2", "pooled", "lora"),
    ],
)
def test_trained_networks_are_exported_alike(kind, unit, strategy, tmp_path):
    assert used(kind, unit, strategy, tmp_path, sizes(kind)) < 1e-5


@pytest.mark.parametrize("unit", ["token", "pooled"])
def test_narrower_states_than_layers(unit, tmp_path):
    """As opt-350m has them."""
    assert used("opt", unit, "full", tmp_path, {**sizes("opt"), "word_embed_proj_dim": 8}) < 1e-5


@pytest.mark.parametrize(
    ("kind", "unit", "kwargs", "why"),
    [
        ("xlnet", "token", None, "does not read left to right"),
        ("funnel", "pooled", {"block_sizes": [1, 2], "d_model": 16, "n_head": 2}, "padding"),
        ("emu3", "token", None, "cannot build|no hidden_size"),
        ("fuyu", "token", None, "no hidden_size"),
        ("t5", "token", None, "encoder with a decoder"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_rehearsal(kind, unit, kwargs, why, tmp_path):
    said = used(kind, unit, "full", tmp_path, sizes(kind) if kwargs is None else kwargs)
    assert str(said).startswith("refused: ")
    assert re.search(why, said)


def test_there_are_families():
    assert len(FAMILIES) > 150


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "unit", "strategy"),
    cover(FAMILIES, ["token", "pooled", "word"], ["full", "lora"], every=48),
)
def test_no_family_fails_after_its_rehearsal(kind, unit, strategy, tmp_path):
    said = used(kind, unit, strategy, tmp_path, sizes(kind))
    assert isinstance(said, str) or said < 1e-4
