"""Backbones from transformers: any of its text encoders and decoders, by name."""

import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from tlx.backbones.backbone import DEFAULT, Backbone, Wanted
from tlx.backbones.text import network as text
from tlx.backbones.text import vocabulary as vocabularies
from tlx.backbones.transformers import evidence as evidences
from tlx.backbones.transformers import stacks, trunks
from tlx.backbones.transformers.language_heads import is_causal, language_head
from tlx.backbones.transformers.sources import (
    ABOUT_ATTENTION,
    WeightsSource,
    check_init,
    config_of,
    quiet,
    set_dropout,
    source_of,
    tokenizer_of,
)
from tlx.backbones.weights import files as weights
from tlx.backbones.weights.key_rules import rules_of
from tlx.data.text.spec import TextSpec

MODALITY = "text"
MOST_TOKENS = 512
"""Length of a text by default, where the network takes longer ones."""

_log = logging.getLogger(__name__)


def transformers(
    wanted: Wanted = DEFAULT,
    /,
    *,
    name: str,
    init: str = "hub",
    pooling: Literal["auto", "cls", "mean", "last", "attention"] = "auto",
    max_length: int | None = None,
    dropout: float | None = None,
    padding_side: Literal["right", "left"] = "right",
    vocabulary: Literal[
        "wordpiece", "words", "identifiers", "whitespace", "characters"
    ] = "wordpiece",
    vocabulary_size: int = 8000,
    lowercase: bool = False,
    rename: dict[str, str | None] | None = None,
    head_names: list[str] | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Backbone:
    """A text encoder or decoder of transformers without its head.

    Args:
        wanted: what the task reads, the training texts, what a finished run read.
        name: a name of the hub, `google-bert/bert-base-uncased`; a folder that `save_pretrained`
            wrote; or, where the weights are not the hub's, a kind of network, `bert`, of the size
            that `kwargs` states.
        init: `hub` (the weights of `name`, a folder's too), `none` (random), or a weights file.
        pooling: how a text's tokens become one vector: `cls` (the first token, through the
            network's own pooler where its own classifier uses it), `mean`, `last`, `attention`
            (learned); `auto`: `cls` for encoders, `last` for decoders.
        max_length: most tokens of a text; None: 512, or fewer where the network ends before.
        dropout: all rates of dropout inside the network; None: its own.
        padding_side: of batches; a side on which it would change the features is refused.
        vocabulary: of a kind of network, learnt from the training texts: see
            `tlx.backbones.text.vocabulary.learn`.
        vocabulary_size: most entries of a learnt vocabulary.
        lowercase: letters, in a learnt vocabulary.
        rename: for keys of a weights file: regular expressions, in this order, and what takes the
            place of their matches; null: the key is left out. Each must match some key.
        head_names: modules of a weights file that are heads, where they are not found by name or
            shape.
        kwargs: entries of the network's config, `{num_hidden_layers: 4}`; `attn_implementation`.

    Raises:
        ValueError: an unknown name or entry, a length or a pooling that the network cannot have,
            weights that do not fit; a language model that sees what it is asked for; padding that
            would change the features of a text.
        RuntimeError: the hub cannot be reached.
    """
    source = source_of(name, init)
    check_init(init)
    unit, tokenizer = wanted.features, vocabularies.of_kept(wanted)
    if tokenizer is None:
        learn = functools.partial(
            vocabularies.learn, kind=vocabulary, size=vocabulary_size, lowercase=lowercase
        )
        tokenizer = _tokenizer(source, init, wanted.corpus, learn)
    config = config_of(source, kwargs or {}, tokenizer=tokenizer)
    set_dropout(config, dropout)
    design = trunks.Design(
        config, unit, _pooling(pooling, config, name), (kwargs or {}).get(ABOUT_ATTENTION)
    )
    # a finished run is used as it was trained
    seen = evidences.evidence(design) if wanted.kept is None else None
    if seen is not None and not seen.missing:
        _check_seen(seen, design, source, padding_side)
    facts = trunks.facts(design)
    reads = _reads(design, tokenizer, facts, max_length=max_length, padding_side=padding_side)
    if seen is not None:
        _check_sparse(config, reads.max_length, name)
    rules = rules_of(rename, head_names, width=trunks.state_width(config))
    network, report = trunks.started(design, source, init, rules=rules)
    if seen is not None and seen.missing and (tried := _with_weights(network, design)) is not None:
        seen = evidences.of_itself(tried, config)
        _check_seen(seen, design, source, padding_side)
    layers = getattr(config, "num_hidden_layers", None)
    stack = stacks.stack_of(network, layers=facts.layers, needs=facts.needs, declared=layers)
    for parameter in stack.unreached:
        _log.warning("%s: no feature depends on %s, so that it cannot train", name, parameter)
    head_source = source if init == "hub" else None
    return Backbone(
        module=network,
        features=text.features_of(unit),
        groups=stack.groups,
        fine_groups=stack.groups,
        head_level=stack.head_level,
        dims=text.dims_of(unit, trunks.state_width(config)),
        reads=reads,
        weights_id="none" if init == "none" else weights.content_id(network),
        neck=stack.neck,
        embeddings=stack.embeddings,
        # runs of before had one
        head_bias=facts.head_bias or (wanted.kept is not None and "head_bias" not in wanted.kept),
        lm_head=functools.partial(language_head, network.model, config, head_source),
        export={
            "source": "transformers",
            # of a folder no path of this machine
            "name": Path(name).expanduser().absolute().name if source.kind == "folder" else name,
            "pooling": design.pooling,
            "pooler": unit == "pooled" and network.pooling is None,
            "config": config.to_diff_dict(),
        },
        account=report.account if report is not None else {},
        file_heads=report.heads if report is not None else {},
    )


def _tokenizer(
    source: WeightsSource,
    init: str,
    texts: Callable[[], Iterable[str]] | None,
    learn: Callable[..., str],
) -> str:
    """The parent run's tokenizer, else the name's own, else one learnt from the texts."""
    kept = vocabularies.of_run(init) if init not in {"hub", "none"} else None
    if kept is not None:
        return kept
    if source.kind != "type":
        return tokenizer_of(source)
    if texts is None:
        if torch.get_default_device().type != "meta":
            raise ValueError(
                f"backbone.name={source.name!r} is a kind of network: its vocabulary is learnt "
                "from the texts of the data, and this data gives none; choose a dataset of texts, "
                "or a pretrained network"
            )
        texts = list  # structure only
    causal = source.name not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return learn(texts, causal=causal)


def _pooling(pooling: str, config: PreTrainedConfig, name: str) -> str:
    causal = is_causal(config)
    if pooling == "cls" and causal:
        seen = evidences.evidence(trunks.Design(config, "token", "last", None))
        causal = seen.causal or bool(seen.missing)
    if pooling == "cls" and causal:
        raise ValueError(
            f"backbone.pooling=cls: {name!r} reads left to right, so that its first token has seen "
            "nothing else; give last, mean or attention"
        )
    if pooling != "auto":
        return pooling
    return "last" if causal else "cls"


def _check_seen(
    seen: evidences.Evidence, design: trunks.Design, source: WeightsSource, padding_side: str
) -> None:
    """Refuses a network that sees what it is asked for, or mixes padding into its features.

    Raises:
        ValueError: it does, or nothing could be seen of it.
    """
    who = f"backbone.name={source.name!r} ({design.config.model_type})"
    if seen.missing:
        raise ValueError(
            f"{who}: whether it sees tokens to come, and whether padding changes its features, "
            f"could not be tried ({seen.missing}); choose another network"
        )
    if design.unit == "token" and is_causal(design.config) and not seen.causal:
        raise ValueError(
            f"{who} does not read left to right: with random weights, tokens to come change its "
            "outputs at those before them, so that it would see what it is asked for, and its "
            "perplexity would mean nothing; choose a decoder (gpt2, llama, ...), or "
            "task=masked_language_modeling with an encoder (bert, ...)"
        )
    if padding_side in seen.sides:
        return
    ways = [f"backbone.padding_side={side}" for side in seen.sides]
    pooler = design.unit == "pooled" and design.pooling == "cls"
    if pooler and padding_side in evidences.evidence(replace(design, pooling="mean")).sides:
        ways.append("backbone.pooling=mean")  # the library's pooler reads the first place
    raise ValueError(
        f"{who}, backbone.padding_side={padding_side}: with random weights, padding changes the "
        "features of a text, so that its figures would depend on the others of its batch; "
        f"{'use ' + ' or '.join(ways) if ways else 'choose another network'}"
    )


def _with_weights(network: text.TextNetwork, design: trunks.Design) -> text.TextNetwork | None:
    """A network that can be tried: itself, or one like it where it has no weights and is small."""
    if torch.get_default_device().type != "meta":
        return network
    if sum(p.numel() for p in network.parameters()) > evidences.MOST_PARAMETERS:
        return None
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), quiet():
        return trunks.built(design)


def _check_sparse(config: PreTrainedConfig, max_length: int, name: str) -> None:
    """Refuses BigBird's random blocks, which short texts, as those of `evidence`, never meet.

    Raises:
        ValueError: texts may be long enough for them.
    """
    if getattr(config, "attention_type", None) != "block_sparse":
        return
    # up to here the library attends to everything, and does so from then on
    full = (5 + 2 * config.num_random_blocks) * config.block_size
    if max_length > full:
        raise ValueError(
            f"backbone.name={name!r} ({config.model_type}), backbone.max_length={max_length}: "
            f"above {full} tokens it attends to random blocks, which depend on the length that a "
            "text is padded to, and on whether a shorter batch came before; use "
            f"backbone.kwargs={{attention_type:original_full}} or backbone.max_length={full}"
        )


def _reads(
    design: trunks.Design,
    tokenizer: str,
    facts: trunks.TrunkFacts,
    *,
    max_length: int | None,
    padding_side: str,
) -> TextSpec:
    """What the network reads."""
    config = design.config
    rows = vocabularies.size_of(tokenizer)
    if rows > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {rows} tokens, the network {config.vocab_size} embeddings; "
            "they are not of the same network"
        )
    special = vocabularies.special_ids(tokenizer, config.to_dict())
    return TextSpec(
        tokenizer=tokenizer,
        max_length=_max_length(config, facts.first_position, max_length),
        pad_id=special.pad,
        padding_side=padding_side,
        type_ids=trunks.takes_types(config),
        unit=design.unit,
        vocabulary=int(config.vocab_size),
        mask_id=special.mask,
        eos_id=special.eos,
        unknown_id=special.unknown,
        causal=is_causal(config),
    )


def _max_length(config: PreTrainedConfig, first_position: int, wanted: int | None) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    most = positions - first_position if isinstance(positions, int) and positions > 0 else None
    if wanted is None:
        return MOST_TOKENS if most is None else min(MOST_TOKENS, most)
    if wanted < 1 or (most is not None and wanted > most):
        raise ValueError(
            f"backbone.max_length={wanted}; the network has positions for 1 to {most} tokens"
        )
    return wanted
