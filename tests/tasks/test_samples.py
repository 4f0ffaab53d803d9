"""What language models write, against transformers' own generation."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import texts
from tiny import tiny
from tlx.backbones.backbone import Wanted
from tlx.backbones.text.recurrent import awd_lstm
from tlx.data.inputs import replaced
from tlx.data.splits import Labels
from tlx.tasks import samples
from tlx.tasks.language_modeling import language_modeling
from tlx.tasks.task import Network

CORPUS = [
    f"the cat sat on mat {i} and the dog ran after it , again and again" * 3 for i in range(9)
]
TEXT = Labels("text", ())


def ready(spec, *, inputs=CORPUS):
    found = texts.Few(inputs, [None] * len(inputs), prefix="doc")
    return texts.fitted(texts.splits(found, labels=TEXT), spec).test


class Reference(torch.nn.Module):
    """A GPT-2 of transformers, called as our networks are."""

    def __init__(self, vocabulary, end):
        super().__init__()
        config = GPT2Config(
            vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=128,
            bos_token_id=end, eos_token_id=end, pad_token_id=end, initializer_range=0.6,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def forward(self, inputs):
        return self.model(**inputs).logits


@pytest.fixture
def spec():
    return texts.spec(
        CORPUS, unit="token", objective="causal", block=100, stride=50, max_length=128
    )


def test_greedy_text_is_that_of_transformers(spec):
    split = ready(spec)
    torch.manual_seed(0)
    network = Reference(spec.vocabulary, spec.eos_id).eval()
    chosen = samples.prompted(split)
    prompts = torch.stack([split[i]["input"]["input_ids"][: samples.PROMPT_TOKENS] for i in chosen])
    ours = samples.continued(
        network,
        prompts,
        spec,
        temperatures_S=torch.zeros(samples.TEXTS),
        generator=torch.Generator(),
    )
    theirs = network.model.generate(
        prompts, do_sample=False, max_new_tokens=samples.NEW_TOKENS, eos_token_id=None,
        attention_mask=torch.ones_like(prompts),
    )  # fmt: skip
    assert ours.tolist() == theirs.tolist()
    assert len(set(ours[0, samples.PROMPT_TOKENS :].tolist())) > 2


def test_text_goes_on_behind_the_beginning_that_a_tokenizer_gives_it(spec):
    """Also where the window has moved on: it begins as all windows do."""
    spec = replace(spec, tokenizer=texts.with_ends(spec.tokenizer, "<s> $A"), block=30)
    split, seen = ready(spec), []
    start = Tokenizer.from_str(spec.tokenizer).token_to_id("<s>")

    class Watched(Reference):
        def forward(self, inputs):
            seen.append(inputs["input_ids"])
            return super().forward(inputs)

    network = Watched(start + 1, spec.eos_id).eval()
    found = samples.samples(network, split, spec, seed=0)
    assert all((ids[:, 0] == start).all() and not (ids[:, 1:] == start).any() for ids in seen[:3])
    assert all((ids[:, 0] == start).all() for ids in seen)
    assert max(ids.shape[1] for ids in seen) == 30
    assert all(CORPUS[0].startswith(row["prompt"][:11]) for row in found)


def made(kind):
    """A network that is a language model of ours, its spec, and a split for it."""
    task = language_modeling(TEXT, block=32)
    reading = Wanted(features="token", corpus=lambda: CORPUS)
    if kind == "gpt2":
        backbone = tiny("gpt2", unit="token", texts=lambda: CORPUS)
    else:
        backbone = awd_lstm(reading, vocabulary=kind, embedding=8, width=8, layers=1)
    network = Network(backbone.module, task.head(backbone, dropout=0.5), backbone.features)
    return network, replaced(backbone.reads, task.input_spec)


@pytest.mark.parametrize("kind", ["gpt2", "words", "characters"])
def test_samples_follow_from_the_seed_alone(kind):
    torch.manual_seed(1)
    network, spec = made(kind)
    split = ready(spec)
    before = torch.get_rng_state()
    found = [samples.samples(network.train(), split, spec, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    assert json.loads(json.dumps(found[0])) == found[0]
    assert len(found[0]) == samples.TEXTS
    for one, other in zip(found[0], found[2], strict=True):
        mine, theirs = one["continuations"], other["continuations"]
        assert mine.keys() == samples.TEMPERATURES.keys()
        assert {way for way in mine if mine[way] == theirs[way]} == {"greedy"}
        place = int(one["id"].partition("/")[0].removeprefix("doc"))
        squeezed = [" ".join(text.split()) for text in (one["prompt"], CORPUS[place])]
        if kind != "gpt2":  # whose decoder spells pieces of words
            assert squeezed[1].startswith(squeezed[0])


def test_a_text_ends_where_the_network_ends_it(spec):
    end = spec.eos_id

    class Ends(torch.nn.Module):
        """Says the first word of the vocabulary three times, then ends, and goes on."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, inputs):
            ids = inputs["input_ids"]
            logits = torch.full((*ids.shape, spec.vocabulary), -50.0)
            said = ids.shape[1] - samples.PROMPT_TOKENS
            logits[..., end if said == 3 else 5] = 50.0
            return logits

    found = samples.samples(Ends(), ready(spec), spec, seed=0)
    word = Tokenizer.from_str(spec.tokenizer).id_to_token(5)
    written = {text.strip() for row in found for text in row["continuations"].values()}
    assert written == {f"{word} {word} {word}"}


def test_a_network_without_numbers_writes_nothing():
    network, spec = made("words")
    split = ready(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    assert samples.samples(network, split, spec, seed=0) == []


def test_one_long_text_and_short_texts_give_prompts_too(spec):
    long = ready(replace(spec, block=50), inputs=[" ".join(CORPUS)])
    chosen = samples.prompted(long)
    assert len(set(chosen)) == samples.TEXTS
    short = ready(spec, inputs=["the cat", "the dog ran"])
    network, own = made("words")
    found = samples.samples(network, short, own, seed=0)
    assert [row["prompt"] for row in found] == ["the cat", "the dog"]
