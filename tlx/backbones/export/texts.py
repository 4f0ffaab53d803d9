"""Trained text networks as folders that transformers loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tlx.backbones.export import LINEAR_HEAD
from tlx.backbones.pooling import POOLINGS
from tlx.backbones.transformers.language_heads import is_causal
from tlx.backbones.transformers.sources import quiet
from tlx.backbones.weights import files as weights
from tlx.data.text.spec import TextSpec

if TYPE_CHECKING:
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

TRUNK, HEAD = "backbone.model.", "head."
HEAD_FILE = "head.safetensors"
LANGUAGE_HEAD = "model."
"""What the library's own parts are named below the head of a language model."""


class NoSuchForm(ValueError):
    """The library has no network of this form; what was written instead is in the message."""


def export_text(
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    facts: Mapping[str, object],
    class_names: Sequence[str],
    reads: TextSpec,
) -> Path:
    """Writes weights, config, tokenizer and README.md that transformers loads; the folder.

    Args:
        state: the whole network's, names beginning with `backbone.` and `head.`.
        folder: made if missing; files of an earlier export are replaced.
        facts: the backbone's `export`.
        class_names: in the order of the outputs; none for language models.
        reads: the backbone's.

    Raises:
        NoSuchForm: the library has no head of this form on this network; the trunk (AutoModel) and
            the head's weights are written instead.
    """
    config = config_of(facts, class_names, reads)
    folder.mkdir(parents=True, exist_ok=True)
    _save_tokenizer(reads, config, folder)
    kind, named, why = form_of(state, config, facts, reads)
    with quiet():
        if not why:
            full = kind.from_config(config, dtype=torch.float32)
            why = _load(full, named) or misread(full, facts, reads)
        if not why:
            (folder / HEAD_FILE).unlink(missing_ok=True)
            full.save_pretrained(folder)
            _write_readme(folder, kind.__name__, facts)
            return folder
        _save_parts(state, config, folder)
    _write_readme(folder, "AutoModel", facts)
    raise NoSuchForm(
        f"transformers has no network of this form: {why}. Written instead to {folder}: the trunk, "
        f"for AutoModel.from_pretrained, its tokenizer, and the rest of the weights in {HEAD_FILE}"
    )


def config_of(
    facts: Mapping[str, Any], class_names: Sequence[str], reads: TextSpec
) -> PreTrainedConfig:
    """The library's config, with the labels."""
    stated = dict(facts["config"])
    config = AutoConfig.for_model(stated.pop("model_type"), **stated)
    if class_names:
        config.id2label = dict(enumerate(class_names))
        config.label2id = {name: i for i, name in enumerate(class_names)}
    if config.pad_token_id is None:  # by which the library's decoders find a text's last token
        config.pad_token_id = reads.pad_id
    return config


def form_of(
    state: Mapping[str, Tensor],
    config: PreTrainedConfig,
    facts: Mapping[str, object],
    reads: TextSpec,
) -> "tuple[type[_BaseAutoModelClass], dict[str, Tensor], str]":
    """The library's class, the state under its names, and why there is none, if so."""
    unit = reads.unit
    language = AutoModelForCausalLM if is_causal(config) else AutoModelForMaskedLM
    word, whole = AutoModelForTokenClassification, AutoModelForSequenceClassification
    kind: type[_BaseAutoModelClass] = {"token": language, "word": word}.get(unit, whole)
    with torch.random.fork_rng(devices=[]), torch.device("meta"), quiet():
        try:
            full = kind.from_config(config)
        except ValueError:
            return kind, {}, f"{config.model_type} has no {kind.__name__}"
    prefix = full.base_model_prefix
    named = {
        f"{prefix}.{name.removeprefix(TRUNK)}": tensor
        for name, tensor in state.items()
        if name.startswith(TRUNK)
    }
    if unit == "token":
        heads = {name.partition(LANGUAGE_HEAD)[2]: t for name, t in state.items() if _is_head(name)}
        return kind, named | heads, ""
    classifier, parts = _classifier(full, prefix)
    target = {n for n, _ in full.named_parameters()}
    pooler = {n for n in target if n.startswith(f"{prefix}.pooler.")} <= named.keys()
    if unit == "pooled" and not (parts and pooler and facts["pooling"] in POOLINGS):
        return (
            kind,
            {},
            (
                f"{kind.__name__} of {config.model_type} does not read {facts['pooling']!r} of the "
                "tokens with one linear layer"
            ),
        )
    own = {name.rpartition(".")[2]: t for name, t in state.items() if _is_head(name)}
    if {n for n in state if _is_head(n)} - set(LINEAR_HEAD) or set(own) != set(parts):
        told = f"one linear layer with {' and '.join(parts)}" if parts else "one linear layer"
        beside = " alone" if len(parts) == 1 else ""
        return (
            kind,
            {},
            (
                f"the head of {kind.__name__} is {'' if parts else 'not '}{told}{beside}, and this "
                f"run's has {', '.join(sorted(own))}"
            ),
        )
    return kind, named | {f"{classifier}.{part}": tensor for part, tensor in own.items()}, ""


def _is_head(name: str) -> bool:
    return name.startswith(HEAD)


def _classifier(full: nn.Module, prefix: str) -> tuple[str, tuple[str, ...]]:
    """The one linear layer that a network has beside its trunk, and its parameters; or nothing."""
    beside = [n for n, _ in full.named_parameters() if not n.startswith(f"{prefix}.")]
    owners = {name.rpartition(".")[0] for name in beside}
    owner = owners.pop() if len(owners) == 1 else ""
    parts = tuple(sorted(name.rpartition(".")[2] for name in beside))
    return (owner, parts) if parts in (("bias", "weight"), ("weight",)) else ("", ())


def misread(full: PreTrainedModel, facts: Mapping[str, object], reads: TextSpec) -> str:
    """Whether the library's classifier reads its trunk otherwise than the run did; tried on tokens.

    A name tells nothing: LayoutLM's classifier reads a pooler, which its trunk has for other runs.
    """
    if reads.unit != "pooled":
        return ""
    tokenizer = Tokenizer.from_str(reads.tokenizer)
    pad, mask = reads.pad_id, torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    if facts["pooling"] == "last" and tokenizer.encode("a").ids[-1:] == [pad]:
        return "its classifier takes the last token that is no padding, and here a text ends in one"
    usable = [i for i in range(reads.vocabulary) if i != pad][-7:]
    ids = torch.tensor([usable, usable]).masked_fill(mask == 0, pad)
    with torch.no_grad():
        given = {"input_ids": ids, "attention_mask": mask}
        logits = full.eval()(**given).logits
        out = full.base_model(**given)
        if facts["pooler"]:
            pooled = out.pooler_output
        else:
            pooled = POOLINGS[str(facts["pooling"])](out.last_hidden_state, mask.bool())
        owner, _ = _classifier(full, full.base_model_prefix)
        ours = full.get_submodule(owner)(pooled)
    if torch.allclose(logits, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max())):
        return ""
    return f"its classifier reads something else than {facts['pooling']!r} of the tokens"


def _load(full: nn.Module, named: Mapping[str, Tensor]) -> str:
    """Loads the weights (a mutator); says which do not fit, if any."""
    target = full.state_dict()
    misfits = [n for n, t in named.items() if n not in target or target[n].shape != t.shape]
    if not misfits:
        full.load_state_dict(dict(named), strict=False)
        target = full.state_dict()
        loaded = {target[name].data_ptr() for name in named}
        misfits = [n for n, t in target.items() if t.data_ptr() not in loaded]
    return f"it differs in {', '.join(misfits[:5])}" if misfits else ""


def _save_parts(state: Mapping[str, Tensor], config: PreTrainedConfig, folder: Path) -> None:
    """Writes the trunk as AutoModel loads it, and everything else."""
    trunk = {n.removeprefix(TRUNK): t for n, t in state.items() if n.startswith(TRUNK)}
    model = AutoModel.from_config(config, dtype=torch.float32)
    if not any(name.startswith("pooler.") for name in trunk):
        model.pooler = None
    model.load_state_dict(trunk)
    model.save_pretrained(folder)
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(TRUNK)}
    weights.write(rest, folder / HEAD_FILE, metadata={"labels": json.dumps(config.id2label)})


def _save_tokenizer(reads: TextSpec, config: PreTrainedConfig, folder: Path) -> None:
    tokenizer = Tokenizer.from_str(reads.tokenizer)
    ids = {"pad_token": reads.pad_id, "mask_token": reads.mask_id}
    ids |= {"eos_token": reads.eos_id, "unk_token": reads.unknown_id}
    special = {name: tokenizer.id_to_token(i) for name, i in ids.items() if i is not None}
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=reads.max_length,
        padding_side=reads.padding_side,
        model_input_names=[*inputs, "token_type_ids"] if reads.type_ids else inputs,
        **special,
    ).save_pretrained(folder)


def _write_readme(folder: Path, kind: str, facts: Mapping[str, object]) -> None:
    (folder / "README.md").write_text(
        f"# {facts['name']}, fine-tuned\n\nWritten by tlx. Loads into plain transformers, from the "
        "folder:\n\n```python\n"
        f"from transformers import {kind}, AutoTokenizer\n\n"
        f"model = {kind}.from_pretrained('FOLDER')\n"
        "tokenizer = AutoTokenizer.from_pretrained('FOLDER')\n```\n",
        encoding="utf-8",
    )
