"""Somebody else's config.json asks for code from the network: it is refused, and never fetched."""

import importlib.util
import json

import pytest
import transformers
from transformers.integrations import hub_kernels

from tlx.backbones.transformers.sources import WeightsSource, config_of

OTHERS = "somebody/attention"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("TLX_SETTINGS", str(path))

    def fetched(*args, **kwargs):
        raise AssertionError(f"fetched: {args}")

    monkeypatch.setattr(hub_kernels, "get_kernel", fetched)
    return path


def folder(path, **entries):
    """A network as a stranger saves it, its config edited."""
    small = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    small.save_pretrained(path)
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return WeightsSource(str(path), "folder")


@pytest.mark.parametrize(
    "entries",
    [
        {"_attn_implementation": OTHERS},
        {"attn_implementation": OTHERS},
        {"_attn_implementation_internal": OTHERS},
        {"_attn_implementation": f"{OTHERS}@v1:forward"},
        {"_attn_implementation": "paged|sdpa"},
        {"_attn_implementation": {"text_config": OTHERS}},
        {"text_config": {"_attn_implementation": OTHERS}},
        {"parts": {"a": {"attn_implementation": OTHERS}}},
        {"experts_implementation": OTHERS},
        {"_experts_implementation": "sonicmoe"},
    ],
)
def test_an_implementation_from_elsewhere_is_refused(entries, tmp_path, settings):
    with pytest.raises(ValueError, match="may be code from the network") as caught:
        config_of(folder(tmp_path, **entries), {}, tokenizer=None)
    assert "_implementation" in str(caught.value)
    assert f"allow_attention in {settings}" in str(caught.value)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"attn_implementation": OTHERS},
        {"attn_implementation": {"": OTHERS}},
        {"_attn_implementation": OTHERS},
    ],
)
@pytest.mark.parametrize("kind", ["folder", "type"])
def test_nor_may_an_experiment_ask_for_one(kwargs, kind, tmp_path):
    source = folder(tmp_path) if kind == "folder" else WeightsSource("bert", "type")
    with pytest.raises(ValueError, match="may be code from the network"):
        config_of(source, kwargs, tokenizer=None)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_librarys_own_pass(name, tmp_path):
    config = config_of(folder(tmp_path, _attn_implementation=name), {}, tokenizer=None)
    assert config._attn_implementation == name
    config_of(folder(tmp_path), {"attn_implementation": name}, tokenizer=None)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="it is installed")
def test_flash_attention_that_is_not_installed_is_not_fetched_either(tmp_path):
    with pytest.raises(ValueError, match="needs the package flash-attn"):
        config_of(folder(tmp_path, _attn_implementation="flash_attention_2"), {}, tokenizer=None)


def test_what_the_persons_settings_name_passes(tmp_path, settings):
    settings.write_text(f'allow_attention = ["{OTHERS}"]\n')
    config = config_of(folder(tmp_path, _attn_implementation=OTHERS), {}, tokenizer=None)
    assert config._attn_implementation == OTHERS
    with pytest.raises(ValueError, match="may be code"):
        config_of(folder(tmp_path, _attn_implementation=f"{OTHERS}2"), {}, tokenizer=None)


def test_packed_weights_whose_reader_is_fetched_are_refused(tmp_path):
    entries = {"quantization_config": {"quant_method": "mxfp4"}}
    with pytest.raises(ValueError, match="quantized"):
        config_of(folder(tmp_path, **entries), {}, tokenizer=None)


def test_code_beside_the_config_is_never_run(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    maps = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    config = config_of(folder(tmp_path, auto_map=maps), {}, tokenizer=None)
    assert type(config) is transformers.BertConfig
    with pytest.raises(ValueError, match="would run code from its repository"):
        config_of(folder(tmp_path, auto_map=maps, model_type="evil"), {}, tokenizer=None)
