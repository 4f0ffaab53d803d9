"""Backbones from transformers: groups, padding, pooling, gradients, language heads, errors."""

import json
import logging
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import tiny as made
from tiny import ALL, DECODERS, ENCODERS, TEXTS, minilm, needs_minilm, tiny
from tlx.backbones.backbone import Wanted
from tlx.backbones.transformers.text import transformers
from tlx.backbones.weights import files as weights
from tlx.methods import freezing
from tlx.tasks.task import Network

POOLER = {"bert"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def saved(kind, folder, head):
    """A folder as `save_pretrained` writes it, with the vocabulary of TEXTS."""
    backbone = tiny(kind)
    torch.manual_seed(1)
    full = head.from_config(backbone.lm_head.args[1], dtype=torch.float32).eval()
    for parameter in full.parameters():  # biases are zero at first, and would tell nothing
        torch.nn.init.normal_(parameter, std=0.3)
    full.save_pretrained(folder)
    tokenizer = Tokenizer.from_str(backbone.reads.tokenizer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    return full


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("unit", ["pooled", "token"])
def test_groups_hold_each_parameter_once_in_order(kind, unit):
    backbone = tiny(kind, unit=unit)
    names = [name for name, _ in backbone.module.named_parameters()]
    listed = Counter(name for group in backbone.groups for name in group.parameters)
    assert listed == Counter(names)
    assert [group.level for group in backbone.groups] == list(range(len(backbone.groups)))
    assert backbone.groups[0].name == "embeddings"
    layers = [group.name.rpartition(".")[2] for group in backbone.groups[1:4]]
    assert layers == ["0", "1", "2"]
    assert backbone.head_level == 4
    has_neck = kind in {*DECODERS, "modernbert"} or (unit == "pooled" and kind in POOLER)
    assert (backbone.groups[-1].name == "neck") == has_neck == bool(backbone.neck)
    assert len(backbone.groups) == 4 + has_neck
    assert set(backbone.embeddings) <= set(backbone.groups[0].parameters)
    assert len(backbone.embeddings) >= 1


@pytest.mark.parametrize("kind", ALL)
def test_what_a_group_freezes_lies_below_what_trains(kind):
    """The gradient of a lower layer's output with respect to any higher group is none."""
    backbone = tiny(kind, unit="token")
    layer = backbone.module.get_submodule(f"model.{backbone.groups[2].name}")
    outputs = []
    layer.register_forward_hook(
        lambda _m, _a, out: outputs.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    backbone.module(made.batch(backbone.reads, [7]))
    parameters = dict(backbone.module.named_parameters())
    rank = {name: group.level for group in backbone.groups for name in group.parameters}
    grads = torch.autograd.grad(outputs[0].sum(), list(parameters.values()), allow_unused=True)
    for name, grad in zip(parameters, grads, strict=True):
        assert (grad is None) == (rank[name] > 2), name


def test_deberta_relative_positions_are_embeddings():
    stem = tiny("deberta-v2").groups[0].parameters
    assert "model.encoder.rel_embeddings.weight" in stem
    assert "model.encoder.LayerNorm.weight" in stem


def test_shared_layers_are_one_group_and_say_so(caplog):
    backbone = transformers(
        Wanted(corpus=lambda: TEXTS),
        name="albert",
        init="none",
        kwargs={**made.SIZES, "embedding_size": 8},
    )
    assert [g.name for g in backbone.groups] == [
        "embeddings",
        "encoder.albert_layer_groups.0",
        "neck",
    ]
    assert "same weights 3 times" in caplog.text


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("kind", "pooling"), [(k, p) for k in ALL for p in ["mean", "attention"]])
def test_padding_changes_nothing(kind, pooling, side):
    backbone = tiny(kind, pooling=pooling)
    module = backbone.module.eval()
    if pooling == "attention":
        torch.nn.init.normal_(module.pooling.score.weight)
    inputs = made.batch(backbone.reads, [9, 3, 14], side=side)
    with torch.no_grad():
        together = backbone.features(module, inputs).pooled
        for row in range(3):
            single = backbone.features(module, made.alone(inputs, row)).pooled
            torch.testing.assert_close(together[row : row + 1], single, atol=1e-5, rtol=1e-5)
    assert together.shape == (3, backbone.dims["pooled"])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_pool_the_last_token_on_either_side(kind, side):
    backbone = tiny(kind, padding_side=side)
    assert backbone.reads.padding_side == side
    inputs = made.batch(backbone.reads, [9, 3], side=side)
    with torch.no_grad():
        pooled = backbone.features(backbone.module.eval(), inputs).pooled
        library = backbone.module.model(input_ids=made.alone(inputs, 1)["input_ids"])
    torch.testing.assert_close(pooled[1], library.last_hidden_state[0, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_see_no_token_to_come(kind):
    backbone = tiny(kind, unit="token")
    inputs = made.batch(backbone.reads, [10])
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, 6] = 5 + (changed["input_ids"][0, 6] - 4) % 20
    with torch.no_grad():
        one, other = backbone.module.eval()(inputs), backbone.module(changed)
    assert torch.equal(one[:, :6], other[:, :6])
    assert not torch.allclose(one[:, 6:], other[:, 6:])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("unit", ["pooled", "word", "token"])
def test_gradient_reaches_every_parameter(kind, unit):
    backbone = tiny(kind, unit=unit, pooling="attention" if kind == "electra" else "auto")
    inputs = made.batch(backbone.reads, [40, 30])
    inputs["words"] = torch.tensor([[1, 5, 20], [2, 9, -1]])
    features = backbone.features(backbone.module, inputs)
    out = features.pooled if unit == "pooled" else features.tokens
    (out * torch.randn(out.shape)).sum().backward()
    for name, parameter in backbone.module.named_parameters():
        assert parameter.grad is not None, name
        # a softmax ignores what all keys share
        flat = name.endswith(("key.bias", "k_lin.bias"))
        assert flat or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", ALL)
def test_words_are_read_at_their_positions(kind):
    backbone = tiny(kind, unit="word")
    inputs = made.batch(backbone.reads, [9, 4])
    inputs["words"] = torch.tensor([[0, 3, 8], [2, 3, -1]])
    with torch.no_grad():
        features = backbone.features(backbone.module.eval(), inputs)
        backbone.module.unit = "token"
        hidden = backbone.module(inputs)
    torch.testing.assert_close(features.tokens[0, 2], hidden[0, 8])
    torch.testing.assert_close(features.tokens[1, 0], hidden[1, 2])
    assert torch.equal(features.tokens[1, 2], torch.zeros(16))
    assert features.mask.tolist() == [[True, True, True], [True, True, False]]
    assert backbone.dims == {"tokens": 16}


@pytest.mark.parametrize("kind", ALL)
def test_same_seed_same_network_outputs_and_gradients(kind):
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        backbone = tiny(kind)
        torch.manual_seed(4)
        out = backbone.module(made.batch(backbone.reads, [12, 7]))
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in backbone.module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ENCODERS)
def test_masked_head_gives_the_librarys_logits(kind, tmp_path, caplog):
    full = saved(kind, tmp_path, AutoModelForMaskedLM)
    backbone = transformers(Wanted("token"), name=str(tmp_path))
    network = Network(backbone.module, backbone.lm_head(), backbone.features).eval()
    inputs = made.batch(backbone.reads, [9, 5])
    extra = {k: v for k, v in inputs.items() if k == "token_type_ids"}
    with torch.no_grad():
        expected = full(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"].long(),
            **extra,
        ).logits
        ours = network(inputs)
    mask = inputs["attention_mask"]
    torch.testing.assert_close(ours[mask], expected[mask], atol=1e-5, rtol=1e-5)
    assert not backbone.reads.causal
    assert "random" not in caplog.text
    assert len(list(network.parameters())) == len(set(network.state_dict()))


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("tied", [True, False])
def test_causal_head_gives_the_librarys_logits(kind, tied, tmp_path):
    original = DECODERS[kind]
    try:
        ALL[kind] = {**original, "tie_word_embeddings": tied}
        full = saved(kind, tmp_path, AutoModelForCausalLM)
    finally:
        ALL[kind] = original
    backbone = transformers(Wanted("token"), name=str(tmp_path))
    network = Network(backbone.module, backbone.lm_head(), backbone.features).eval()
    inputs = made.batch(backbone.reads, [9, 5])
    with torch.no_grad():
        expected = full(input_ids=inputs["input_ids"][1:, :5]).logits
        ours = network(inputs)[1:, :5]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    heads = [name for name, _ in network.named_parameters() if name.startswith("head.")]
    assert heads == ([] if tied else ["head.model.lm_head.weight"])


PASSED_ON = {
    # heads that ask the trunk for its decoder, or pass on states and routers' logits
    "opt": {**made.SIZES, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "rwkv": {"hidden_size": 16, "num_hidden_layers": 2},
    "mixtral": {**made.SIZES, "num_key_value_heads": 1, "num_local_experts": 2},
}


@pytest.mark.parametrize("kind", PASSED_ON)
def test_causal_heads_that_ask_for_more_than_states(kind):
    sizes = {k: v for k, v in PASSED_ON[kind].items() if kind != "opt" or k != "intermediate_size"}
    backbone = transformers(Wanted("token", lambda: TEXTS), name=kind, init="none", kwargs=sizes)
    network = Network(backbone.module, backbone.lm_head(), backbone.features).eval()
    logits = network(made.batch(backbone.reads, [9, 5]))
    assert logits.shape == (2, 9, backbone.reads.vocabulary)
    assert logits.isfinite().all()


@pytest.mark.parametrize("kind", ["bert", "gpt2", "electra"])
def test_tied_output_trains_with_the_embedding(kind):
    backbone = tiny(kind, unit="token")
    network = Network(backbone.module, backbone.lm_head(), backbone.features)
    before = network(made.batch(backbone.reads, [6])).detach()
    table = dict(network.named_parameters())[f"backbone.{backbone.embeddings[0]}"]
    assert table.shape[0] == backbone.reads.vocabulary == before.shape[-1]
    inputs = made.batch(backbone.reads, [6])
    network(inputs)[..., 7].sum().backward()
    absent = [i for i in range(5, len(table)) if i not in inputs["input_ids"] and i != 7]
    assert table.grad[7].abs().sum() > 0
    assert table.grad[absent].abs().sum() == 0
    names = [n for n, _ in network.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in network.parameters()})
    assert names == list(network.state_dict())


@needs_minilm
def test_weights_without_a_language_head_say_so(caplog):
    backbone = transformers(Wanted("token"), name=minilm())
    backbone.lm_head()
    assert "language-model head: it starts at random" in caplog.text


@needs_minilm
def test_minilm_gives_the_librarys_states_and_tokens():
    backbone = transformers(name=minilm(), pooling="mean")
    spec = backbone.reads
    reference, tokens = AutoModel.from_pretrained(minilm()), AutoTokenizer.from_pretrained(minilm())
    read = tokens(TEXTS[:2], padding=True, return_tensors="pt")
    ours = Tokenizer.from_str(spec.tokenizer).encode_batch(TEXTS[:2])
    assert [e.ids for e in ours] == [
        i[m.bool()].tolist() for i, m in zip(read["input_ids"], read["attention_mask"], strict=True)
    ]
    assert (spec.pad_id, spec.mask_id) == (tokens.pad_token_id, tokens.mask_token_id)
    with torch.no_grad():
        hidden = reference(**read).last_hidden_state
        mask = read["attention_mask"].unsqueeze(-1)
        expected = (hidden * mask).sum(1) / mask.sum(1)
        given = {**read, "attention_mask": read["attention_mask"].bool()}
        found = backbone.features(backbone.module.eval(), given).pooled
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not [n for n, _ in backbone.module.named_parameters() if "pooler" in n]
    assert backbone.weights_id == weights.content_id(backbone.module)


@needs_minilm
def test_cls_goes_through_the_pooler_that_the_librarys_classifier_reads():
    backbone = transformers(name=minilm(), pooling="cls")
    reference = AutoModel.from_pretrained(minilm()).eval()
    inputs = made.batch(backbone.reads, [9, 4])
    with torch.no_grad():
        given = {k: v.long() for k, v in inputs.items()}
        expected = reference(**given).pooler_output
        ours = backbone.features(backbone.module.eval(), inputs).pooled
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert backbone.neck == ("model.pooler.dense.weight", "model.pooler.dense.bias")
    assert not tiny("roberta").neck


def test_frozen_linear_probe_leaves_the_trunk_alone():
    backbone = tiny("bert")
    freezing.apply(backbone.module, set(backbone.neck))
    assert {n for n, p in backbone.module.named_parameters() if p.requires_grad} == set(
        backbone.neck
    )


@pytest.mark.parametrize(("unit", "pooling"), [("token", "auto"), ("pooled", "attention")])
def test_a_run_starts_from_another_with_its_vocabulary(unit, pooling, tmp_path):
    parent = tiny("bert", unit=unit, pooling=pooling)
    for parameter in parent.module.parameters():
        torch.nn.init.normal_(parameter)
    state = {f"backbone.{n}": t for n, t in parent.module.state_dict().items()}
    facts = {"input_spec": parent.reads.plain(), "labels": [], "kind": "single"}
    path = tmp_path / "model.safetensors"
    weights.write(
        state | {"head.linear.weight": torch.zeros(2, 16)},
        path,
        metadata={"tlx": json.dumps(facts)},
    )
    child = tiny("bert", init=str(path), texts=lambda: ["other words"], pooling="attention")
    assert child.reads.tokenizer == parent.reads.tokenizer
    own = dict(child.module.named_parameters())
    for name, parameter in parent.module.named_parameters():
        if name in own:
            assert torch.equal(own[name], parameter), name
    assert "pooling.score.weight" in own
    assert child.weights_id not in {"none", parent.weights_id}


def test_a_checkpoint_of_the_library_is_a_start(tmp_path):
    full = saved("roberta", tmp_path, AutoModelForMaskedLM)
    backbone = transformers(name=str(tmp_path), init=str(tmp_path / "model.safetensors"))
    for name, parameter in full.base_model.named_parameters():
        assert torch.equal(dict(backbone.module.model.named_parameters())[name], parameter), name


def test_a_finished_run_is_rebuilt_from_its_tokenizer():
    backbone = tiny("bert")
    again = tiny("bert", texts=None, tokenizer=backbone.reads.tokenizer)
    assert again.reads == backbone.reads
    again.module.load_state_dict(backbone.module.state_dict())


@pytest.mark.parametrize("kind", ALL)
def test_rehearsal_on_the_meta_device_has_the_same_groups(kind):
    with torch.device("meta"):
        rehearsed = tiny(kind, texts=None)
    assert rehearsed.groups == tiny(kind).groups


@pytest.mark.parametrize("kind", ALL)
def test_dropout_sets_every_rate(kind):
    backbone = tiny(kind, dropout=0.25)
    rates = {m.p for m in backbone.module.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates <= {0.25}
    inputs = made.batch(backbone.reads, [20])
    module = backbone.module.train()
    assert not torch.equal(module(inputs), module(inputs))
    quiet = tiny(kind, dropout=0.0).module.train()
    assert torch.equal(quiet(inputs), quiet(inputs))


def test_max_length_and_types():
    assert tiny("bert").reads.max_length == 48
    assert tiny("roberta").reads.max_length == 47  # positions count from the padding's id
    assert tiny("bert", max_length=7).reads.max_length == 7
    assert tiny("bert").reads.type_ids
    assert not tiny("distilbert").reads.type_ids
    assert not tiny("gpt2").reads.type_ids
    longest = tiny("roberta")
    longest.module.eval()(made.batch(longest.reads, [47]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bert", "init": "hub"}, "kind of network"),
        ({"name": "brt", "init": "none"}, "did you mean bert"),
        ({"name": "google-bert/bert-base-uncasd"}, "google-bert/bert-base-uncased"),
        ({"name": "./nowhere"}, "no such folder"),
        ({"name": "bert", "init": "missing.safetensors"}, "is no file"),
        ({"name": "bert", "init": "none"}, "learnt from the texts"),
        ({"name": "saved", "max_length": 49}, "1 to 48"),
        ({"name": "saved", "kwargs": {"hidden_dropout": 0.1}}, "hidden_dropout_prob"),
        ({"name": "saved", "kwargs": {"vocab_size": 3}}, "vocabulary_size"),
        ({"name": "saved", "kwargs": {"num_hidden_layers": 8}}, "lack"),
        ({"name": "saved", "dropout": 1.5}, r"\[0, 1\)"),
        ({"name": "saved", "pooling": "max"}, "give one of"),
        ({"name": "gpt2", "init": "none", "pooling": "cls", "texts": lambda: TEXTS}, "give last"),
        ({"name": "t5", "init": "none", "texts": lambda: TEXTS}, "choose an encoder"),
    ],
)
def test_errors_name_the_way_out(options, message, tmp_path):
    if options.get("name") == "saved":
        saved("bert", tmp_path, AutoModelForMaskedLM)
        options = {**options, "name": str(tmp_path)}
    told = Wanted(corpus=options.get("texts"))
    given = {name: value for name, value in options.items() if name != "texts"}
    with pytest.raises((ValueError, OSError, RuntimeError), match=message):
        transformers(told, **given)


def test_a_folder_that_lacks_something_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"without config\.json"):
        transformers(name=str(tmp_path))
    AutoModel.from_config(tiny("bert").lm_head.args[1]).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="save the tokenizer"):
        transformers(name=str(tmp_path))


def test_code_from_a_repository_is_never_run(tmp_path):
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "tokenizer.json").write_text(tiny("bert").reads.tokenizer)
    with pytest.raises(ValueError, match="never does"):
        transformers(name=str(tmp_path))


def test_library_is_as_loud_as_before():
    level = logging.getLogger("transformers").level
    tiny("bert")
    assert logging.getLogger("transformers").level == level
