"""AWD-LSTM: against `nn.LSTM`, causal, the same beside padding, tied, grown."""

import json
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

import tiny as made
from tiny import reading
from tlx.backbones.text.lstm import AwdLstm, DroppedLstm, LockedDropout
from tlx.backbones.text.recurrent import awd_lstm
from tlx.backbones.weights import files as weights
from tlx.tasks.task import Network

SMALL = {"embedding": 12, "width": 20, "layers": 3}


def small(**options):
    told = reading(options)
    return awd_lstm(told, **{**SMALL, "vocabulary_size": 60, **options})


def run_file(backbone, path, head=None):
    """A run's final weights, as `tlx train` writes them."""
    state = {f"backbone.{n}": t for n, t in backbone.module.state_dict().items()}
    state |= {f"head.{n}": t for n, t in (head.state_dict() if head else {}).items()}
    facts = {"input_spec": backbone.reads.plain(), "labels": [], "kind": "text"}
    weights.write(state, path, metadata={"tlx": json.dumps(facts)})
    return str(path)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_layer_is_torchs_with_dropped_recurrent_weights(rate):
    layer, reference = DroppedLstm(6, 5, dropout=rate), nn.LSTM(6, 5, batch_first=True)
    reference.load_state_dict({f"{n}_l0": p for n, p in layer.state_dict().items()})
    states = torch.randn(3, 7, 6)
    torch.manual_seed(5)
    ours = layer(states)
    torch.manual_seed(5)
    with torch.no_grad():
        reference.weight_hh_l0.copy_(nn.functional.dropout(reference.weight_hh_l0, rate))
    torch.testing.assert_close(ours, reference(states)[0])
    ours.square().sum().backward()
    reference(states)[0].square().sum().backward()
    if rate == 0:
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(
                parameter.grad, dict(reference.named_parameters())[f"{name}_l0"].grad
            )
    else:  # what was dropped takes no gradient
        kept = reference.weight_hh_l0 != 0
        assert not layer.weight_hh.grad[~kept].any()
        torch.testing.assert_close(
            layer.weight_hh.grad[kept], reference.weight_hh_l0.grad[kept] / (1 - rate)
        )


def test_weights_that_train_are_those_that_are_saved():
    layer = DroppedLstm(4, 4, dropout=0.5)
    before = layer.weight_hh.clone()
    layer(torch.randn(2, 3, 4))
    assert torch.equal(layer.weight_hh, before)
    assert torch.equal(layer.state_dict()["weight_hh"], before)


def test_locked_dropout_is_one_mask_an_item():
    drop = LockedDropout(0.5)
    out = drop(torch.ones(400, 6, 10))
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < (out == 0).float().mean() < 0.55
    assert torch.equal(drop.eval()(out), out)


def test_embedding_dropout_takes_whole_words():
    rates = {"embedding": 0.5, "input": 0.0, "layer": 0.0, "weight": 0.0, "output": 0.0}
    model = AwdLstm(40, embedding=8, width=8, layers=1, rates=rates)
    seen = []
    model.drops[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    ids = torch.arange(40).repeat(2, 2)
    model(ids)
    dropped = (seen[0] == 0).all(-1)
    assert torch.equal(dropped[:, :40], dropped[:, 40:])  # a word is gone wherever it stands
    assert torch.equal(dropped[0], dropped[1])
    assert 5 < dropped[0, :40].sum() < 35
    kept = ~dropped
    torch.testing.assert_close(seen[0][kept], 2 * model.embedding(ids)[kept])


@pytest.mark.parametrize("pooling", ["concat", "last", "mean", "attention"])
def test_padding_changes_nothing(pooling):
    backbone = small(pooling=pooling)
    module = backbone.module.eval()
    inputs = made.batch(backbone.reads, [9, 2, 17])
    with torch.no_grad():
        together = backbone.features(module, inputs).pooled
        for row in range(3):
            single = backbone.features(module, made.alone(inputs, row)).pooled
            torch.testing.assert_close(together[row : row + 1], single, atol=1e-5, rtol=1e-5)
    assert together.shape == (3, backbone.dims["pooled"])
    assert backbone.dims["pooled"] == 12 * (3 if pooling == "concat" else 1)


def test_no_state_depends_on_a_later_token():
    backbone = small(unit="token")
    inputs = made.batch(backbone.reads, [12])
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, 7] = 5 + (changed["input_ids"][0, 7] - 4) % 20
    with torch.no_grad():
        one, other = backbone.module.eval()(inputs), backbone.module(changed)
    assert torch.equal(one[:, :7], other[:, :7])
    assert not torch.equal(one[:, 7:], other[:, 7:])


@pytest.mark.parametrize("unit", ["pooled", "word", "token"])
def test_groups_and_gradients(unit):
    backbone = small(unit=unit, pooling="attention")
    names = [name for name, _ in backbone.module.named_parameters()]
    assert Counter(n for g in backbone.groups for n in g.parameters) == Counter(names)
    assert [g.name for g in backbone.groups][:4] == ["embeddings", *(f"layers.{i}" for i in "012")]
    assert backbone.head_level == 4
    assert backbone.neck == (("pooling.score.weight",) if unit == "pooled" else ())
    assert backbone.embeddings == ("model.embedding.weight",)
    inputs = made.batch(backbone.reads, [9, 6])
    inputs["words"] = torch.tensor([[1, 8], [3, -1]])
    features = backbone.features(backbone.module, inputs)
    out = features.pooled if unit == "pooled" else features.tokens
    (out * torch.randn(out.shape)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in backbone.module.parameters())


def test_same_seed_same_bits():
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        backbone = small()
        torch.manual_seed(4)
        backbone.module(made.batch(backbone.reads, [12, 7])).square().sum().backward()
        found.append([p.grad for p in backbone.module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_output_is_tied_and_goes_by_one_name():
    backbone = small(unit="token", dropout_scale=0.0)
    network = Network(backbone.module, backbone.lm_head(), backbone.features)
    inputs = made.batch(backbone.reads, [5])
    logits = network(inputs)
    table = backbone.module.model.embedding.weight
    states = backbone.module(inputs)
    bias = network.head.output.bias
    torch.testing.assert_close(logits, states @ table.T + bias)
    assert [n for n, _ in network.named_parameters() if n.startswith("head.")] == [
        "head.output.bias"
    ]
    logits[..., 7].sum().backward()
    assert table.grad[7].abs().sum() > 0


def test_dropout_only_in_training():
    backbone = small(unit="token")
    network = Network(backbone.module, backbone.lm_head(), backbone.features)
    inputs = made.batch(backbone.reads, [9])
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))


def test_a_classifier_starts_from_a_language_model(tmp_path):
    parent = small(unit="token")
    path = run_file(parent, tmp_path / "model.safetensors", parent.lm_head())
    child = small(init=path, texts=lambda: ["never seen before"])
    assert child.reads.tokenizer == parent.reads.tokenizer
    for name, value in parent.module.state_dict().items():
        assert torch.equal(child.module.state_dict()[name], value)
    assert child.weights_id == weights.content_id(parent.module)
    with pytest.raises(weights.WeightsError, match="shape"):
        small(init=path, width=21)


def test_new_words_start_as_the_mean(tmp_path):
    parent = small(unit="token")
    path = run_file(parent, tmp_path / "model.safetensors")
    child = small(init=path, texts=lambda: ["zebra zebra cat", "yak"], new_words=1)
    known = Tokenizer.from_str(parent.reads.tokenizer).get_vocab()
    vocabulary = Tokenizer.from_str(child.reads.tokenizer).get_vocab()
    assert vocabulary.keys() - known.keys() == {"zebra"}
    old, new = parent.module.model.embedding.weight, child.module.model.embedding.weight
    assert torch.equal(new[: len(old)], old)
    torch.testing.assert_close(new[vocabulary["zebra"]], old.mean(0))
    assert child.reads.vocabulary == len(new) == len(old) + 1
    again = small(tokenizer=child.reads.tokenizer, texts=None)
    again.module.load_state_dict(child.module.state_dict())
    head = Network(child.module, child.lm_head(), child.features).head
    assert head.output.weight is child.module.model.embedding.weight


def test_it_learns_what_comes_next():
    """A few steps on a periodic text bring the loss near to nothing."""
    backbone = small(unit="token", vocabulary="characters", dropout_scale=0.0, layers=1)
    network = Network(backbone.module, backbone.lm_head(), backbone.features)
    ids = torch.arange(5, 10).repeat(2, 6)
    inputs = {"input_ids": ids[:, :-1], "attention_mask": torch.ones(2, 29, dtype=torch.bool)}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "hub"}, "no weights"),
        ({"init": "nowhere.safetensors"}, "no file"),
        ({"texts": None}, "learnt from the texts"),
        ({"layers": 0}, "1 or more"),
        ({"weight_dropout": 0.6, "dropout_scale": 2.0}, "weight_dropout"),
        ({"pooling": "max"}, "give one of"),
    ],
)
def test_errors_name_the_way_out(options, message):
    with pytest.raises((ValueError, OSError), match=message):
        small(**options)


def test_rehearsal_on_the_meta_device_has_the_same_groups():
    with torch.device("meta"):
        rehearsed = small(texts=None)
    assert rehearsed.groups == small().groups
