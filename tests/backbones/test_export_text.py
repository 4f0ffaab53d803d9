"""Exported text networks load into plain transformers and give the same outputs."""

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

import tiny as made
from tiny import DECODERS, ENCODERS, TEXTS, Linear, tiny
from tlx.backbones.backbone import Wanted
from tlx.backbones.export.networks import ExportError, export
from tlx.backbones.text.recurrent import awd_lstm
from tlx.backbones.transformers.text import transformers
from tlx.tasks.task import Network

CLASSES = ("cat", "dog", "owl")


class Wrapped(nn.Module):
    """A language-model head inside a task's own module."""

    def __init__(self, lm):
        super().__init__()
        self.lm = lm

    def forward(self, features):
        return self.lm(features)


def trained(kind, unit, **options):
    """A network whose every weight differs from its start."""
    backbone = tiny(kind, unit=unit, **options)
    bias = backbone.head_bias
    head = Wrapped(backbone.lm_head()) if unit == "token" else Linear(16, len(CLASSES), bias=bias)
    network = Network(backbone.module, head, backbone.features).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return backbone, network


def written(backbone, network, folder, names=CLASSES):
    return export(
        network.state_dict(),
        folder,
        facts=backbone.export,
        class_names=names,
        reads=backbone.reads,
    )


def same_outputs(backbone, network, full):
    inputs = made.batch(backbone.reads, [11, 4])
    inputs["words"] = torch.arange(11).repeat(2, 1)
    given = {name: values.long() for name, values in inputs.items() if name != "words"}
    with torch.no_grad():
        ours, theirs = network(inputs), full.eval()(**given).logits
    if ours.ndim == 3:
        mask = inputs["attention_mask"]
        ours, theirs = ours[mask], theirs[mask]
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_language_models(kind, tmp_path):
    backbone, network = trained(kind, "token")
    auto = AutoModelForCausalLM if kind in DECODERS else AutoModelForMaskedLM
    folder = written(backbone, network, tmp_path / "out", ())
    same_outputs(backbone, network, auto.from_pretrained(folder))


@pytest.mark.parametrize("kind", [k for k in [*ENCODERS, *DECODERS] if k != "modernbert"])
def test_word_classifiers(kind, tmp_path):
    backbone, network = trained(kind, "word")
    full = AutoModelForTokenClassification.from_pretrained(written(backbone, network, tmp_path))
    same_outputs(backbone, network, full)
    assert full.config.id2label == dict(enumerate(CLASSES))


def test_text_classifiers_with_a_pooler(tmp_path):
    backbone, network = trained("bert", "pooled")
    full = AutoModelForSequenceClassification.from_pretrained(written(backbone, network, tmp_path))
    same_outputs(backbone, network, full)


@pytest.mark.parametrize("kind", DECODERS)
def test_text_classifiers_on_a_decoders_last_token(kind, tmp_path):
    backbone, network = trained(kind, "pooled")
    folder = written(backbone, network, tmp_path)
    full = AutoModelForSequenceClassification.from_pretrained(folder)
    same_outputs(backbone, network, full)
    assert not (folder / "head.safetensors").exists()


def test_a_decoders_head_of_before_has_a_bias_and_no_form(tmp_path):
    backbone, _ = trained("gpt2", "pooled")
    network = Network(backbone.module, Linear(16, len(CLASSES)), backbone.features)
    with pytest.raises(
        ExportError, match=r"one linear layer with weight alone, .* has bias, weight"
    ):
        written(backbone, network, tmp_path)


def test_a_classifier_that_reads_something_else_is_no_form(tmp_path):
    """LayoutLM's reads a pooler, which its trunk has whether or not a run reads it."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    backbone = transformers(
        Wanted("pooled", lambda: TEXTS), name="layoutlm", init="none", kwargs=sizes
    )
    network = Network(backbone.module, Linear(16, len(CLASSES)), backbone.features)
    with pytest.raises(ExportError, match="reads something else than 'cls'"):
        written(backbone, network, tmp_path)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_tokenizer_comes_along(kind, tmp_path):
    backbone, network = trained(kind, "word", max_length=9)
    written(backbone, network, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    own = Tokenizer.from_str(backbone.reads.tokenizer)
    assert loaded(TEXTS)["input_ids"] == [e.ids for e in own.encode_batch(TEXTS)]
    assert loaded.pad_token_id == backbone.reads.pad_id
    assert loaded.model_max_length == 9
    read = loaded(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert AutoModelForTokenClassification.from_pretrained(tmp_path)(**read).logits.shape[1] == 9


@pytest.mark.parametrize(
    ("kind", "unit", "options", "why"),
    [
        ("bert", "pooled", {"pooling": "mean"}, "'mean'"),
        ("bert", "pooled", {"pooling": "attention"}, "'attention'"),
        ("roberta", "pooled", {}, "'cls'"),
        ("modernbert", "word", {}, "not one linear layer"),
    ],
)
def test_what_has_no_form_is_written_in_parts(kind, unit, options, why, tmp_path):
    backbone, network = trained(kind, unit, **options)
    with pytest.raises(ExportError, match=f"{why}.*AutoModel"):
        written(backbone, network, tmp_path)
    trunk = AutoModel.from_pretrained(tmp_path).eval()
    inputs = made.batch(backbone.reads, [7])
    given = {name: values.long() for name, values in inputs.items()}
    with torch.no_grad():
        expected = backbone.module.model(**given).last_hidden_state
        torch.testing.assert_close(trunk(**given).last_hidden_state, expected)
    rest = load_file(tmp_path / "head.safetensors")
    state = network.state_dict()
    assert rest.keys() == {n for n in state if not n.startswith("backbone.model.")}
    assert torch.equal(rest["head.linear.weight"], state["head.linear.weight"])


def test_a_later_export_leaves_no_part_of_an_earlier_one(tmp_path):
    backbone, network = trained("bert", "pooled", pooling="mean")
    with pytest.raises(ExportError):
        written(backbone, network, tmp_path)
    backbone, network = trained("bert", "pooled")
    written(backbone, network, tmp_path)
    assert not (tmp_path / "head.safetensors").exists()
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path) is not None


def test_what_no_library_has_is_refused(tmp_path):
    lstm = awd_lstm(Wanted(corpus=lambda: TEXTS), embedding=4, width=4, layers=1)
    with pytest.raises(ExportError, match=r"model\.safetensors holds the weights"):
        written(lstm, Network(lstm.module, Linear(12, len(CLASSES)), lstm.features), tmp_path)
    backbone, network = trained("bert", "pooled")
    with pytest.raises(ExportError, match="images only"):
        export(
            network.state_dict(),
            tmp_path,
            facts=backbone.export,
            class_names=CLASSES,
            reads=backbone.reads,
            onnx=True,
        )


def test_of_a_folder_no_path_of_this_machine_is_written(tmp_path):
    backbone, network = trained("bert", "pooled")
    start = written(backbone, network, tmp_path / "secret" / "start")
    again = transformers(Wanted("pooled"), name=str(start), init="hub")
    network = Network(again.module, Linear(16, len(CLASSES)), again.features).eval()
    folder = written(again, network, tmp_path / "out")
    same_outputs(again, network, AutoModelForSequenceClassification.from_pretrained(folder))
    for path in folder.iterdir():
        assert b"secret" not in path.read_bytes(), path.name
    assert (folder / "README.md").read_text().startswith("# start, fine-tuned")
