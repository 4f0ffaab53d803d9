"""Recurrent backbones: language models of words or characters, and what starts from them."""

import functools
from collections.abc import Callable, Iterable
from typing import Literal

import torch

from tlx.backbones.backbone import DEFAULT, Backbone, Wanted
from tlx.backbones.pooling import Pooling
from tlx.backbones.text import network as text
from tlx.backbones.text import vocabulary as vocabularies
from tlx.backbones.text.lstm import AwdLstm, TiedOutput, run
from tlx.backbones.transformers import stacks
from tlx.backbones.weights import files as weights
from tlx.data.text.spec import TextSpec

MODALITY = "text"


def awd_lstm(
    wanted: Wanted = DEFAULT,
    /,
    *,
    init: str = "none",
    vocabulary: Literal["words", "identifiers", "whitespace", "characters", "wordpiece"] = "words",
    vocabulary_size: int = 30000,
    lowercase: bool = False,
    least_count: int = 1,
    new_words: int = 0,
    embedding: int = 400,
    width: int = 1150,
    layers: int = 3,
    pooling: Literal["concat", "mean", "last", "attention"] = "concat",
    max_length: int = 512,
    embedding_dropout: float = 0.05,
    input_dropout: float = 0.4,
    layer_dropout: float = 0.3,
    weight_dropout: float = 0.5,
    output_dropout: float = 0.4,
    dropout_scale: float = 1.0,
) -> Backbone:
    """An AWD-LSTM without its head; sizes and rates are ULMFiT's.

    Source: Merity et al. 2018, 1708.02182; Howard and Ruder 2018, 1801.06146 (ULMFiT).

    Args:
        wanted: what the task reads, the training texts, what a finished run read.
        init: `none` (random), or the weights file of a run, whose vocabulary it takes over.
        vocabulary: its units, learnt from the training texts; see `vocabulary.learn`.
        vocabulary_size: most entries.
        lowercase: letters.
        least_count: units that occur less often in the training texts are unknown.
        new_words: most units of the training texts that a run's vocabulary grows by; their
            embeddings start as the mean of the known ones (ULMFiT).
        embedding: width of embeddings and of the last layer, whose states the tied output reads.
        width: of the layers before it.
        layers: at least 1.
        pooling: of a text's states to one vector; `concat`: last, maximum and mean (ULMFiT).
        max_length: most tokens of a text.
        embedding_dropout: of whole words.
        input_dropout: of embeddings, the same features at each position of a text.
        layer_dropout: of states between layers, likewise.
        weight_dropout: of recurrent weights, the same at each position.
        output_dropout: of states before the language model's output, as `input_dropout`.
        dropout_scale: factor of all five rates.

    Raises:
        ValueError: a size or rate out of range, a vocabulary that is not to be had, weights that
            do not fit.
    """
    _check(init, {"embedding": embedding, "width": width, "layers": layers, "tokens": max_length})
    rates = {
        "embedding": embedding_dropout * dropout_scale,
        "input": input_dropout * dropout_scale,
        "layer": layer_dropout * dropout_scale,
        "weight": weight_dropout * dropout_scale,
        "output": output_dropout * dropout_scale,
    }
    _check_rates(rates)
    kept = vocabularies.of_run(init) if init != "none" else None
    final_tokenizer = vocabularies.of_kept(wanted) or _tokenizer(
        kept,
        wanted.corpus,
        new_words=new_words,
        least_count=least_count,
        learn=functools.partial(
            vocabularies.learn, kind=vocabulary, size=vocabulary_size, lowercase=lowercase
        ),
    )
    special = vocabularies.special_ids(final_tokenizer, {})
    # a parent's rows are loaded before new ones are added
    rows = vocabularies.size_of(kept if kept is not None else final_tokenizer)
    model = AwdLstm(rows, embedding=embedding, width=width, layers=layers, rates=rates)
    pool = Pooling(pooling, embedding)
    network = text.TextNetwork(model, run, unit=wanted.features, pooling=pool)
    if init != "none":
        weights.load(network, init, optional=("pooling.",))
        model.grow(vocabularies.size_of(final_tokenizer))
    stack = stacks.stack_of(network, layers=("model.layers",), needs=None, declared=None)
    return Backbone(
        module=network,
        features=text.features_of(wanted.features),
        groups=stack.groups,
        fine_groups=stack.groups,
        head_level=stack.head_level,
        dims=text.dims_of(wanted.features, embedding, pooling=pooling),
        reads=TextSpec(
            tokenizer=final_tokenizer,
            max_length=max_length,
            pad_id=special.pad,
            unit=wanted.features,
            vocabulary=model.embedding.num_embeddings,
            eos_id=special.eos,
            unknown_id=special.unknown,
            causal=True,
        ),
        weights_id="none" if init == "none" else weights.content_id(network),
        neck=stack.neck,
        embeddings=stack.embeddings,
        lm_head=functools.partial(TiedOutput, model),
        export={"source": "awd_lstm", "embedding": embedding, "width": width, "layers": layers},
    )


def _tokenizer(
    kept: str | None,
    texts: Callable[[], Iterable[str]] | None,
    *,
    new_words: int,
    least_count: int,
    learn: Callable[..., str],
) -> str:
    """The parent's vocabulary, grown where that is wished; else one that is learnt."""
    if kept is not None and new_words == 0:
        return kept
    if texts is None:
        if torch.get_default_device().type != "meta":
            raise ValueError(
                "the vocabulary of an AWD-LSTM is learnt from the texts of the data, and this data "
                "gives none; choose a dataset of texts"
            )
        texts = list  # structure only
    if kept is None:
        return learn(texts, least_count=least_count, causal=True)
    size = vocabularies.size_of(kept) + new_words
    return vocabularies.grown(kept, texts(), size=size, least_count=least_count)


def _check(init: str, sizes: dict[str, int]) -> None:
    weights.require_own(init, "an AWD-LSTM")
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"backbone: {value} {name}; give 1 or more")


def _check_rates(rates: dict[str, float]) -> None:
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(
                f"backbone.{name}_dropout × dropout_scale = {rate:g} must lie in [0, 1)"
            )
