"""Virtual tokens are peft's: the same states and gradients, in its own files, seen by no head."""

import peft
import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

import tiny as made
from tiny import ALL, Linear, tiny
from tlx.backbones.adapters import peft as adapters
from tlx.backbones.backbone import Wanted
from tlx.backbones.export.adapters import export_adapters
from tlx.backbones.export.networks import ExportError
from tlx.backbones.text.recurrent import awd_lstm
from tlx.backbones.timm.networks import timm
from tlx.backbones.transformers.prompts import PARAMETER, prompted
from tlx.backbones.transformers.text import transformers
from tlx.backbones.weights import files as weights
from tlx.methods import freezing
from tlx.tasks.task import Network

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TOKENS = 3
CLASSES = ("cat", "dog", "owl")
NO_PREFIX = ("distilbert", "deberta-v2", "modernbert")
PAIRS = [(n, "prompt") for n in ALL] + [(n, "prefix") for n in ALL if n not in NO_PREFIX]
THEIRS = {"prompt": peft.PromptTuningConfig, "prefix": peft.PrefixTuningConfig}


def trunk(name, kind, **options):
    torch.manual_seed(0)
    backbone = prompted(tiny(name, **options), kind=kind, seed=3, tokens=TOKENS)
    backbone.module.eval()
    return backbone


def theirs(name, kind, weight, **options):
    """peft's own network with the same weights, and these virtual tokens."""
    torch.manual_seed(0)
    model = tiny(name, **options).module.model
    widths = {}
    if kind == "prompt":  # which peft does not find in the configs of two kinds
        table = model.get_input_embeddings()
        widths = {"token_dim": table.embedding_dim, "num_layers": 3, "num_attention_heads": 2}
    config = THEIRS[kind](task_type="FEATURE_EXTRACTION", num_virtual_tokens=TOKENS, **widths)
    network = peft.get_peft_model(model, config).eval()
    network.prompt_encoder.default.embedding.weight.data.copy_(weight)
    return network


def given(inputs):
    """Without types, of which peft's trunks take none: all are 0."""
    return {n: value.long() for n, value in inputs.items() if n != "token_type_ids"}


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_states_and_gradients_are_those_of_peft(name, kind):
    backbone = trunk(name, kind, unit="token")
    module = backbone.module
    freezing.apply(module, {PARAMETER})
    weight = module.get_parameter(PARAMETER)
    other = theirs(name, kind, weight.detach(), unit="token")
    inputs = made.batch(backbone.reads, [11, 4])
    real = inputs["attention_mask"]
    mine = module(inputs)[real]
    expected = other(**given(inputs)).last_hidden_state[:, -real.shape[1] :][real]
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    mine.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    theirs_grad = other.prompt_encoder.default.embedding.weight.grad
    assert weight.grad.abs().max() > 1e-6
    torch.testing.assert_close(weight.grad, theirs_grad, rtol=1e-3, atol=1e-4)
    assert [n for n, p in module.named_parameters() if p.grad is not None] == [PARAMETER]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_an_item_alone_is_as_in_a_padded_batch(name, kind, pooling, side):
    if pooling == "cls" and (name in made.DECODERS or side == "left"):
        pytest.skip("no such pooling")
    if (kind, side) == ("prompt", "left"):
        with pytest.raises(ValueError, match=r"use backbone\.padding_side=right"):
            trunk(name, kind, padding_side=side)
        return
    backbone = trunk(name, kind, pooling=pooling, padding_side=side)
    inputs = made.batch(backbone.reads, [11, 4], side=side)
    with torch.no_grad():
        both = backbone.module(inputs)
        for row in (0, 1):
            one = backbone.module(made.alone(inputs, row))
            torch.testing.assert_close(both[row : row + 1], one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize(("name", "pooling"), [("bert", "cls"), ("bert", "mean"), ("gpt2", "last")])
def test_pooling_does_not_count_virtual_tokens(name, pooling, kind):
    pooled = trunk(name, kind, pooling=pooling)
    inputs = made.batch(pooled.reads, [11, 4])
    with torch.no_grad():
        found = pooled.module(inputs)
        network = theirs(name, kind, pooled.module.get_parameter(PARAMETER), pooling=pooling)
        hidden = network(**given(inputs)).last_hidden_state[:, -11:]
    if pooling == "cls":
        with torch.no_grad():
            expected = pooled.module.model.pooler(hidden)
    elif pooling == "mean":
        expected = torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
    else:
        expected = torch.stack([hidden[0, 10], hidden[1, 3]])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["albert", "big_bird"])
def test_poolers_that_are_one_layer_read_the_first_token_of_the_text(name):
    torch.manual_seed(0)
    sizes = {**made.SIZES, "embedding_size": 8} if name == "albert" else made.SIZES
    backbone = transformers(
        Wanted(corpus=lambda: made.TEXTS), name=name, init="none", pooling="cls", kwargs=sizes
    )
    backbone = prompted(backbone, kind="prompt", seed=3, tokens=TOKENS)
    inputs = made.batch(backbone.reads, [11, 4])
    model = backbone.module.eval().model
    with torch.no_grad():
        found = backbone.module(inputs)
        states, _ = backbone.module.run(model, inputs, prompt=backbone.module.prompt)
        expected = torch.tanh(model.pooler(states[:, 0]))
    assert found.shape == (2, 16)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", THEIRS)
def test_words_are_read_where_they_stand_in_the_text(kind):
    backbone = trunk("bert", kind, unit="word")
    inputs = made.batch(backbone.reads, [11, 4])
    inputs["words"] = torch.tensor([[0, 3, 10], [0, 3, -1]])
    with torch.no_grad():
        found = backbone.module(inputs)
        network = theirs("bert", kind, backbone.module.get_parameter(PARAMETER), unit="word")
        hidden = network(**given({n: v for n, v in inputs.items() if n != "words"}))[0][:, -11:]
    expected = torch.stack([hidden[0, [0, 3, 10]], hidden[1, [0, 3, 0]]])
    expected[1, 2] = 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_groups_have_the_tokens_once_and_below_all(name, kind):
    backbone = trunk(name, kind)
    names = sorted(n for n, _ in backbone.module.named_parameters())
    for groups in (backbone.groups, backbone.fine_groups):
        assert sorted(n for group in groups for n in group.parameters) == names
        assert PARAMETER in groups[0].parameters
    assert backbone.adapters == (PARAMETER,)
    assert PARAMETER in backbone.no_decay
    assert adapters.is_adapter(PARAMETER)
    assert adapters.is_adapter(f"backbone.{PARAMETER}")


@pytest.mark.parametrize("kind", THEIRS)
def test_tokens_follow_from_the_seed_alone(kind):
    def drawn(before, seed):
        torch.manual_seed(0)
        plain = tiny("bert")
        torch.manual_seed(before)
        return prompted(plain, kind=kind, seed=seed, tokens=4).module.get_parameter(PARAMETER)

    assert torch.equal(drawn(0, 3), drawn(1, 3))
    assert not torch.equal(drawn(0, 3), drawn(0, 4))


def test_a_prompt_starts_at_words():
    backbone = trunk("bert", "prompt")
    table = backbone.module.model.get_input_embeddings().weight
    for row in backbone.module.get_parameter(PARAMETER):
        assert (row == table).all(dim=1).any()


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize(("name", "most"), [("bert", 45), ("roberta", 44), ("gpt2", 45)])
def test_texts_leave_positions_to_the_tokens(name, most, kind):
    backbone = trunk(name, kind, unit="token")
    assert backbone.reads.max_length == most
    module = backbone.module
    assert module(made.batch(backbone.reads, [most])).isfinite().all()
    with pytest.raises(IndexError):
        module(made.batch(backbone.reads, [most + 1]))
    with pytest.raises(ValueError, match="leaves no position"):
        prompted(tiny(name), kind=kind, seed=0, tokens=48)


@pytest.mark.parametrize("name", NO_PREFIX)
def test_networks_that_take_no_keys_refuse_a_prefix(name):
    with pytest.raises(ValueError, match="takes no keys and values from outside"):
        trunk(name, "prefix")


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize(
    "other",
    [
        lambda: timm(name="test_vit", init="none"),
        lambda: awd_lstm(made.Wanted(corpus=lambda: made.TEXTS), embedding=8, width=8, layers=1),
    ],
    ids=["images", "recurrent"],
)
def test_other_backbones_refuse(other, kind):
    with pytest.raises(ValueError, match=f"freeze_strategy={kind} puts virtual tokens before"):
        prompted(other(), kind=kind, seed=0, tokens=4)


def test_a_number_below_one_is_refused():
    with pytest.raises(ValueError, match=r"freeze_strategy\.tokens=0; give 1 or more"):
        prompted(tiny("bert"), kind="prompt", seed=0, tokens=0)


def exported(backbone, folder):
    """The run's network; what peft needs is in the folder, its base beside."""
    head = Linear(next(iter(backbone.dims.values())), len(CLASSES))
    network = Network(backbone.module, head, backbone.features).eval()
    backbone.module.model.save_pretrained(folder / "base")
    said = ""
    try:
        export_adapters(
            network.state_dict(),
            folder / "alone",
            facts=backbone.export,
            class_names=CLASSES,
            reads=backbone.reads,
        )
    except ExportError as error:
        said = str(error)
    return network, said


@pytest.mark.parametrize(
    ("unit", "model"),
    [("pooled", AutoModelForSequenceClassification), ("word", AutoModelForTokenClassification)],
)
def test_peft_loads_a_prefix_with_its_head(unit, model, tmp_path):
    backbone = trunk("bert", "prefix", unit=unit)
    network, said = exported(backbone, tmp_path)
    assert not said
    base = model.from_pretrained(tmp_path / "base", num_labels=len(CLASSES))
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "alone").eval()
    inputs = made.batch(backbone.reads, [11, 4])
    words = torch.tensor([[0, 3, 10], [0, 1, 3]])
    with torch.no_grad():
        expected = network({**inputs, "words": words} if unit == "word" else inputs)
        logits = loaded(**given(inputs)).logits
    if unit == "word":
        logits = logits[torch.arange(2)[:, None], words]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"), [("bert", "prompt"), ("electra", "prompt"), ("gpt2", "prefix")]
)
def test_peft_loads_what_no_classifier_of_it_reads_onto_the_trunk(name, kind, tmp_path):
    backbone = trunk(name, kind, pooling="mean")
    network, said = exported(backbone, tmp_path)
    assert "head.safetensors" in said
    assert ("virtual tokens" in said) == (kind == "prompt")
    base = AutoModel.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "alone").eval()
    head, _, _ = weights._read(tmp_path / "alone" / "head.safetensors")
    inputs = made.batch(backbone.reads, [11, 4])
    with torch.no_grad():
        expected = network(inputs)
        hidden = loaded(**given(inputs)).last_hidden_state[:, -11:]
        pooled = torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
        logits = nn.functional.linear(pooled, head["head.linear.weight"], head["head.linear.bias"])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
