"""What networks do with tokens to come and with padding, whatever their types are called."""

import pytest
import torch
from transformers import AutoConfig

import tiny as made
from tiny import TEXTS, tiny
from tlx.backbones.backbone import Wanted
from tlx.backbones.transformers import evidence as evidences
from tlx.backbones.transformers.evidence import Evidence, evidence
from tlx.backbones.transformers.text import transformers
from tlx.backbones.transformers.trunks import Design

BOTH = ("right", "left")
SEEN = {
    # type, unit, pooling: what is seen of the library's own sizes
    ("gpt2", "token", "last"): Evidence(True, BOTH),
    ("llama", "pooled", "last"): Evidence(True, BOTH),
    ("gemma3_text", "pooled", "last"): Evidence(True, BOTH),
    ("bert", "pooled", "mean"): Evidence(False, BOTH),
    ("bert", "pooled", "cls"): Evidence(False, ("right",)),  # its pooler reads the first place
    ("albert", "pooled", "cls"): Evidence(False, ("right",)),
    ("big_bird", "pooled", "cls"): Evidence(False, ("right",)),
    ("roberta", "pooled", "cls"): Evidence(False, BOTH),
    ("deberta-v2", "word", "cls"): Evidence(False, BOTH),
    ("longformer", "pooled", "cls"): Evidence(False, BOTH),
    ("xlnet", "token", "last"): Evidence(False, BOTH),
    ("bert-generation", "token", "last"): Evidence(False, BOTH),
    ("fnet", "pooled", "mean"): Evidence(False, ()),
    ("rwkv", "token", "last"): Evidence(True, ("right",)),
}


@pytest.mark.parametrize(("kind", "unit", "pooling"), SEEN)
def test_what_is_seen_of_a_type(kind, unit, pooling):
    config = AutoConfig.for_model(kind)
    before = torch.get_rng_state()
    found = evidence(Design(config, unit, pooling, None))
    assert found == SEEN[kind, unit, pooling]
    assert torch.equal(torch.get_rng_state(), before)
    assert config.to_dict() == AutoConfig.for_model(kind).to_dict()


def test_a_flag_of_the_config_decides_and_not_the_type():
    config = AutoConfig.for_model("bert", **made.SIZES)
    assert not evidence(Design(config, "token", "last", None)).causal
    config.is_decoder = True
    assert evidence(Design(config, "token", "last", None)).causal


SIZES = {
    "xlnet": {"d_model": 16, "n_head": 2, "d_inner": 32, "n_layer": 3},
    "bert-generation": made.SIZES,
    "fnet": {name: size for name, size in made.SIZES.items() if name != "num_attention_heads"},
    "rwkv": {"hidden_size": 16, "num_hidden_layers": 3},
    "albert": {**made.SIZES, "embedding_size": 8},
}


def new(name, **options):
    told = Wanted(options.pop("unit", "token"), lambda: TEXTS)
    return transformers(told, name=name, init="none", kwargs=SIZES[name], **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xlnet", {}, "does not read left to right"),
        ("bert-generation", {}, "does not read left to right"),
        ("fnet", {"unit": "pooled"}, "padding changes the features.*choose another network"),
        ("fnet", {}, "padding changes the features"),
        ("rwkv", {"padding_side": "left"}, r"use backbone\.padding_side=right$"),
        ("albert", {"unit": "pooled", "padding_side": "left"}, r"=right or backbone\.pooling=mean"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_would_mislead_is_refused_before_anything_is_trained(name, options, message, device):
    with torch.device(device), pytest.raises(ValueError, match=message):
        new(name, **options)


def test_attention_to_random_blocks_is_refused():
    kwargs = {**made.SIZES, "block_size": 4, "num_random_blocks": 1}
    told = Wanted("pooled", lambda: TEXTS)

    def made_of(**more):
        return transformers(
            told, name="big_bird", init="none", pooling="mean", kwargs={**kwargs, **more}
        )

    with pytest.raises(ValueError, match=r"above 28 tokens .*original_full.* or .*max_length=28"):
        made_of()
    made_of(attention_type="original_full")
    transformers(told, name="big_bird", init="none", pooling="mean", kwargs=kwargs, max_length=28)


def test_states_of_another_width_are_refused():
    kwargs = {"attn_layers": ["local"], "axial_pos_embds": False, "is_decoder": True}
    with pytest.raises(ValueError, match=r"its states have .* numbers"):
        transformers(
            Wanted("pooled", lambda: TEXTS),
            name="reformer",
            init="none",
            pooling="mean",
            kwargs={
                **kwargs,
                "hidden_size": 16,
                "attention_head_size": 8,
                "num_attention_heads": 2,
            },
        )


def test_a_network_of_which_no_copy_can_be_made_is_tried_itself(monkeypatch):
    monkeypatch.setattr(evidences, "_seen", lambda design: Evidence(missing="too large"))
    monkeypatch.setattr(evidences, "_KNOWN", {})
    backbone = tiny("gpt2", unit="token")
    assert backbone.module.training
    assert evidences.of_itself(backbone.module, backbone.lm_head.args[1]) == Evidence(True, BOTH)
    with pytest.raises(ValueError, match="does not read left to right"):
        new("xlnet")
    with torch.device("meta"), pytest.raises(ValueError, match="does not read left to right"):
        new("xlnet")  # as a rehearsal does
    monkeypatch.setattr(evidences, "_tried", lambda *args: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(ValueError, match="could not be tried"):
        new("rwkv")


def test_networks_that_are_no_language_models_read_texts_as_before():
    for name in ("xlnet", "bert-generation"):
        assert new(name, unit="pooled").dims == {"pooled": 16}
    assert new("bert-generation", unit="pooled", pooling="cls").dims == {"pooled": 16}


def test_a_finished_run_is_used_as_it_was_trained(monkeypatch):
    """Also where it would be refused today; and nothing is tried that is known already."""
    backbone = tiny("bert")
    monkeypatch.setattr(evidences, "_seen", lambda design: Evidence())
    tiny("bert")
    monkeypatch.setattr(evidences, "_KNOWN", {})
    tiny("bert", texts=None, tokenizer=backbone.reads.tokenizer)
    with pytest.raises(ValueError, match="padding changes"):
        tiny("bert")
