"""Language modelling against torch, and figures against their definitions."""

import argparse
import heapq
import inspect
import math
import random
import statistics
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import texts
import tiny
from tlx.backbones.backbone import Wanted
from tlx.backbones.text import vocabulary
from tlx.backbones.transformers import text as transformers
from tlx.data.inputs import replaced
from tlx.data.splits import Labels
from tlx.tasks.language_modeling import language_modeling
from tlx.tasks.task import Network
from tlx.training.collect import Collector

TEXT = Labels("text", ())


def batch_of(labels, *, words, characters, spelled=(0.0, 0.0)):
    return {
        "index": torch.arange(len(labels)),
        "target": {
            "labels": torch.tensor(labels),
            "words": torch.tensor(words),
            "characters": torch.tensor(characters),
            "spelled": torch.tensor(spelled),
        },
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_mean_of_losses_is_torchs(smoothing):
    task = language_modeling(TEXT)
    batch = batch_of([[3, 1, 4], [1, -100, -100]], words=[2.0, 1.0], characters=[9.0, 2.0])
    logits = torch.randn(2, 3, 6)
    loss, weight = task.losses(logits, batch, smoothing=smoothing)["loss"]
    expected = F.cross_entropy(
        logits.flatten(0, 1), batch["target"]["labels"].flatten(), label_smoothing=smoothing
    )
    torch.testing.assert_close((loss * weight).sum() / weight.sum(), expected)


def test_figures_are_what_their_names_say():
    task = language_modeling(TEXT)
    counts = {"words": [2.0, 1.0], "characters": [9.0, 2.0], "spelled": [0.5, 1.25]}
    batch = batch_of([[3, 1, 4], [1, -100, -100]], **counts)
    logits = torch.randn(2, 3, 6)
    collector = Collector(task)
    collector.add(logits, batch)
    collected = collector.finish()
    found = task.metrics(collected)
    log = logits.double().log_softmax(2)
    nats = -float(log[0, 0, 3] + log[0, 1, 1] + log[0, 2, 4] + log[1, 0, 1])
    assert found["loss"] == pytest.approx(nats / 4, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / 4), rel=1e-5)
    text = nats + 1.75  # with the characters of what was unknown
    assert found["word_perplexity"] == pytest.approx(math.exp(text / 3), rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(text / math.log(2) / 11, rel=1e-5)
    right = sum(int(logits[i, t].argmax()) == k for i, t, k in [(0, 0, 3), (0, 1, 1), (0, 2, 4)])
    right += int(logits[1, 0].argmax()) == 1
    assert found["accuracy"] == pytest.approx(right / 4)
    report = task.report(collected)
    assert report["metrics"]["loss"]["value"] == pytest.approx(found["loss"])
    assert task.columns(collected)["tokens"] == [3, 1]


@pytest.mark.parametrize(
    ("kind", "template"),
    [("llama", "<s> $A"), ("llama", "<s> $A </s>"), ("gpt2", "$A"), ("bert", "[CLS] $A [SEP]")],
)
def test_figures_before_training_are_those_of_plain_transformers(kind, template, tmp_path):
    """A text as the tokenizer gives it; where it puts nothing around a text: between two ends."""
    torch.manual_seed(0)
    lines = ["the cat sat on the mat", "a dog ran after the cat and the cat ran away"]
    learnt = texts.spec(lines, objective="causal").tokenizer
    tokenizer = texts.with_ends(learnt, template)
    more = {"is_decoder": True} if kind == "bert" else {}
    sizes = {**tiny.ALL[kind], **more, "vocab_size": vocabulary.size_of(tokenizer)}
    full = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    for parameter in full.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    full.save_pretrained(tmp_path)
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer), pad_token="[PAD]", eos_token="[EOS]"
    )
    made.save_pretrained(tmp_path)
    backbone = transformers.transformers(Wanted("token"), name=str(tmp_path))
    task = language_modeling(TEXT, block=32)
    network = Network(backbone.module, task.head(backbone, dropout=0.0), backbone.features)
    few = texts.splits(texts.Few(lines, [None] * 2), labels=TEXT)
    spec = replaced(backbone.reads, task.input_spec)
    data = texts.fitted(few, spec)
    encode = data.inputs.encoder(spec, [], train=False)
    batch = texts.batch_of(data, data.test, range(2), encode)
    nats = asked = 0
    with torch.no_grad():
        collected = task.collect(network.eval()(batch["input"]), batch)
        for line in lines:
            ids = made(line)["input_ids"]
            ids = ids if template != "$A" else [made.eos_token_id, *ids, made.eos_token_id]
            given = torch.tensor([ids])
            nats += float(full(given, labels=given).loss) * (len(ids) - 1)
            asked += len(ids) - 1
    assert int(collected["tokens"].sum()) == asked
    assert task.metrics(collected)["loss"] == pytest.approx(nats / asked, rel=1e-5)


class Frequencies(torch.nn.Module):
    """The best that can be had without a look at other tokens: how often each occurs."""

    def __init__(self, data, vocabulary):
        super().__init__()
        labels = torch.cat([data.train[i]["target"]["labels"] for i in range(len(data.train))])
        self.logits = (torch.bincount(labels[labels >= 0], minlength=vocabulary) + 0.01).log()

    def forward(self, inputs):
        return self.logits.expand(*inputs["input_ids"].shape, -1)


@pytest.mark.parametrize("kind", ["words", "whitespace", "characters", "wordpiece"])
def test_a_vocabulary_that_knows_nothing_predicts_no_text(kind):
    """From all words that there are to those of the special tokens and a few more."""
    task = language_modeling(TEXT, block=32)
    modules = (argparse, heapq, random, statistics)
    lines = [line for each in modules for line in inspect.getsource(each).splitlines() if line][
        ::30
    ]
    few = texts.Few(lines, [None] * len(lines))
    found = {}
    for size in (8, 30, 900):
        tokenizer = vocabulary.learn(lambda: few.inputs, kind=kind, size=size, causal=True)
        spec = texts.spec(["a"], objective="causal", unit="token", block=32, stride=32)
        spec = replace(spec, tokenizer=tokenizer, vocabulary=vocabulary.size_of(tokenizer))
        made = texts.fitted(texts.splits(few, labels=TEXT), spec)
        network = Frequencies(made, spec.vocabulary)
        collector = Collector(task)
        encode = made.inputs.encoder(spec, [], train=False)
        for start in range(0, len(made.test), 500):
            rows = range(start, min(start + 500, len(made.test)))
            batch = texts.batch_of(made, made.test, rows, encode)
            collector.add(network(batch["input"]), batch)
        found[size] = task.metrics(collector.finish())
    bits = [found[size]["bits_per_character"] for size in (8, 30, 900)]
    words = [found[size]["word_perplexity"] for size in (8, 30, 900)]
    assert bits == sorted(bits, reverse=True)
    assert words == sorted(words, reverse=True)
    assert bits[0] > bits[2] + 0.2


def test_masked_tokens_have_no_figures_of_words():
    task = language_modeling(TEXT, objective="masked", block=16)
    assert set(task.directions) == {"perplexity", "accuracy", "loss"}
    assert task.input_spec["mask_rate"] == 0.15
    assert "stride" not in task.input_spec
    assert language_modeling(TEXT, block=10).input_spec["stride"] == 5


def test_wrong_arguments_are_refused():
    for given in ({"block": 1}, {"stride": 0}, {"stride": 200}, {"mask_rate": 1.0}):
        with pytest.raises(ValueError, match=f"task.{next(iter(given))}"):
            language_modeling(TEXT, **given)
    with pytest.raises(ValueError, match="causal or masked"):
        language_modeling(TEXT, objective="prefix")
    with pytest.raises(ValueError, match="needs 'text'"):
        language_modeling(Labels("single", ("a", "b")))
    with pytest.raises(ValueError, match="cannot be mixed"):
        language_modeling(TEXT).targets.soft({})
    headless = type("Backbone", (), {"lm_head": None})
    with pytest.raises(ValueError, match="no language-model head"):
        language_modeling(TEXT).head(headless, dropout=0.0)
