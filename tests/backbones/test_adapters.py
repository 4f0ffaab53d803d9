"""Adapters are peft's: the same outputs and gradients, merged, reloaded and in peft's own files."""

import copy
import json
import subprocess
import sys

import peft
import pytest
import timm as timm_lib
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

import tiny as made
from tiny import ALL, tiny
from tlx.backbones.adapters import peft as adapters
from tlx.backbones.adapters.peft import adapted
from tlx.backbones.export.adapters import export_adapters
from tlx.backbones.export.networks import ExportError, export, overlay
from tlx.backbones.timm.networks import timm
from tlx.backbones.weights import files as weights
from tlx.data.text.spec import TextSpec
from tlx.methods import freezing
from tlx.tasks.task import Network

pytestmark = [  # of peft's own, where a test loads by it
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Specified to not save vera_A and vera_B:UserWarning"),
]
LOW_RANK = {"r": 4, "alpha": 8.0, "dropout": 0.0}
KINDS = {"lora": LOW_RANK, "dora": LOW_RANK, "ia3": {}, "vera": {"r": 8, "dropout": 0.0}}
IMAGES = ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"]
CLASSES = ("cat", "dog", "owl")
PAIRS = [(n, k) for n in IMAGES for k in KINDS if k != "vera" or n in {"test_vit", "test_convnext"}]


class Linear(nn.Module):
    """The tasks' head: one linear layer, named so."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, len(CLASSES))

    def forward(self, features):
        return self.linear(features.pooled)


def backbone_of(name):
    if name in ALL:
        return tiny(name)
    return timm(name=name, init="none", kwargs={"global_pool": "avg"})


def moved(module):
    """Adapters anywhere but at their start, in branches that count."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            if adapters.is_adapter(name):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def network_of(name, kind, *, options=None, **more):
    torch.manual_seed(0)
    backbone = adapted(backbone_of(name), kind=kind, seed=3, **(options or KINDS[kind]), **more)
    width = next(iter(backbone.dims.values()))
    network = Network(backbone.module, Linear(width), backbone.features).eval()
    moved(network)
    return backbone, network


def inputs_of(backbone):
    if backbone.reads.modality == "text":
        return made.batch(backbone.reads, [11, 4])
    return torch.randn(2, *backbone.reads.size, generator=torch.manual_seed(5))


def told(backbone):
    spec = backbone.reads
    return {"facts": backbone.export, "class_names": CLASSES, "reads": spec}


FEEDFORWARD = r".*layer\.\d\.output\.dense"
ATTENTION = ["query", "key", "value", "attention.output.dense"]
CONFIGS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=8.0, target_modules=ATTENTION),
    "dora": peft.LoraConfig(r=4, lora_alpha=8.0, target_modules=ATTENTION, use_dora=True),
    "ia3": peft.IA3Config(
        target_modules=rf".*\.(key|value)|{FEEDFORWARD}", feedforward_modules=FEEDFORWARD
    ),
    "vera": peft.VeraConfig(r=8, projection_prng_key=3, target_modules=ATTENTION),
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_peft(kind):
    torch.manual_seed(0)
    theirs = peft.get_peft_model(tiny("bert").module.model, CONFIGS[kind]).eval()
    backbone, _ = network_of("bert", kind)  # the same weights, of the same seed
    module = backbone.module.eval()
    own = {f"base_model.{n}": p for n, p in module.named_parameters() if adapters.is_adapter(n)}
    assert not theirs.load_state_dict(own, strict=False).unexpected_keys
    freezing.apply(module, {n for n, _ in module.named_parameters() if adapters.is_adapter(n)})
    inputs = inputs_of(backbone)
    out = module(inputs)
    given = {name: value.long() for name, value in inputs.items()}
    expected = theirs(**given).pooler_output
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    other = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    assert {f"base_model.{n}" for n in grads} == set(other)
    assert len(grads) == len(backbone.adapters)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, other[f"base_model.{name}"])


@pytest.mark.parametrize(("name", "kind"), [*PAIRS, *((n, k) for n in ALL for k in KINDS)])
def test_merged_and_unmerged_outputs_are_equal(name, kind):
    backbone, network = network_of(name, kind)
    inputs = inputs_of(backbone)
    with torch.no_grad():
        expected = network(inputs)
        start = copy.deepcopy(network)
        for n, p in start.named_parameters():
            if adapters.is_adapter(n):
                p.fill_(1.0 if "ia3_l" in n else 0.0)
        adapters.merge(network)
        assert not any(adapters.is_adapter(n) or "base_layer" in n for n in network.state_dict())
        torch.testing.assert_close(network(inputs), expected, rtol=1e-4, atol=1e-4)
        if kind != "dora":  # whose weights of length 0 are no weights
            assert not torch.allclose(start(inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [*PAIRS, *(("bert", k) for k in KINDS)])
def test_groups_cover_every_parameter_once(name, kind):
    plain = backbone_of(name)
    backbone = adapted(backbone_of(name), kind=kind, seed=3, **KINDS[kind])
    names = sorted(n for n, _ in backbone.module.named_parameters())
    for groups, before in [
        (backbone.groups, plain.groups),
        (backbone.fine_groups, plain.fine_groups),
    ]:
        assert sorted(n for group in groups for n in group.parameters) == names
        for group, old in zip(groups, before, strict=True):
            kept = [n for n in group.parameters if not adapters.is_adapter(n)]
            assert tuple(map(adapters.plain_name, kept)) == old.parameters
            layers = {n.rpartition(".")[0] for n in old.parameters}
            for n in set(group.parameters) - set(kept):
                assert any(n.startswith(f"{layer}.") for layer in layers), n
    assert set(backbone.adapters) == {n for n in names if adapters.is_adapter(n)}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_follow_from_the_seed_alone(kind):
    def drawn(before, seed):
        torch.manual_seed(before)
        module = adapted(backbone_of("test_vit"), kind=kind, seed=seed, **KINDS[kind]).module
        buffers = {n: t for n, t in module.named_buffers() if "vera" in n}
        own = {n: t for n, t in module.named_parameters() if adapters.is_adapter(n)}
        own = {n: t for n, t in own.items() if "magnitude" not in n}  # that of the weights
        return {**own, **buffers}

    one, two, other = drawn(0, 3), drawn(1, 3), drawn(0, 4)
    assert all(torch.equal(one[name], two[name]) for name in one)
    if kind in {"lora", "vera"}:
        assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_weight_is_not_decayed(kind):
    backbone, network = network_of("bert", kind)
    spared = freezing.no_decay(network) | {f"backbone.{n}" for n in backbone.no_decay}
    decayed = {n for n in backbone.adapters if f"backbone.{n}" not in spared}
    assert all(".lora_A." in n or ".lora_B." in n for n in decayed)
    assert bool(decayed) == (kind in {"lora", "dora"})


def test_only_the_adapters_dropout_is_in_train_mode_below_them():
    options = {**LOW_RANK, "dropout": 0.5}
    _, network = network_of("bert", "lora", options=options, layers=1)
    freezing.apply(network, {n for n, _ in network.named_parameters() if adapters.is_adapter(n)})
    freezing.set_modes(network.train())
    dropouts = {n: m.training for n, m in network.named_modules() if isinstance(m, nn.Dropout)}
    own = {n: mode for n, mode in dropouts.items() if "lora_dropout" in n}
    assert len(own) == 4
    assert all(own.values())
    assert not any(mode for n, mode in dropouts.items() if ".layer.0." in n or "embeddings" in n)
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert not any(norm.training for norm in norms)


def test_layers_and_targets_choose():
    backbone = adapted(tiny("bert"), kind="lora", seed=0, layers=2, **LOW_RANK)
    layers = backbone.export["adapters"]["layers"]
    assert {n.partition("layer.")[2][0] for n in layers} == {"1", "2"}
    pattern = r"backbone\..*\.(query|value)"
    backbone = adapted(tiny("bert"), kind="lora", seed=0, targets=pattern, **LOW_RANK)
    layers = backbone.export["adapters"]["layers"]
    assert {n.rpartition(".")[2] for n in layers} == {"query", "value"}
    assert len(layers) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": r".*\.nothing"}, "matches no layer that can be adapted; names look like"),
        ({"targets": "("}, "is no regular expression"),
        ({"layers": 9}, "give 1 to"),
        ({"r": 0}, "give a number above 0"),
        ({"dropout": 1.0}, r"give a rate in \[0, 1\)"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adapted(backbone_of("test_vit"), kind="lora", seed=0, **{**LOW_RANK, **options})


def test_a_layer_that_is_not_called_gets_no_adapter():
    def beit():
        return timm(
            name="beit_base_patch16_224",
            init="none",
            image_size=32,
            kwargs={"depth": 2, "embed_dim": 16, "num_heads": 2},
        )

    layers = adapted(beit(), kind="lora", seed=0, **LOW_RANK).export["adapters"]["layers"]
    assert layers
    assert not any(name.endswith("qkv") for name in layers)
    with pytest.raises(ValueError, match="without calling the layer"):
        adapted(beit(), kind="lora", seed=0, targets=r".*\.qkv", **LOW_RANK)


@pytest.mark.parametrize(("name", "kind"), [*PAIRS, *(("bert", k) for k in KINDS)])
def test_a_run_that_starts_from_adapters_gets_merged_weights(name, kind, tmp_path):
    backbone, network = network_of(name, kind)
    path = tmp_path / "model.safetensors"
    facts = {"adapters": backbone.export["adapters"]}
    state = {n: t.contiguous() for n, t in network.state_dict().items()}
    save_file(state, path, metadata={"tlx": json.dumps(facts)})
    fresh = backbone_of(name)
    weights.load(fresh.module, path, optional=("pooling.",))
    inputs = inputs_of(backbone)
    with torch.no_grad():
        expected = backbone.module.eval()(inputs)
        out = fresh.module.eval()(inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("test_vit", k) for k in KINDS] + [PAIRS[4]])
def test_timm_loads_merged_weights_and_peft_adapters_alone(name, kind, tmp_path):
    backbone, network = network_of(name, kind)
    torch.manual_seed(0)
    plain = backbone_of(name).module  # as it was before its adapters
    images = inputs_of(backbone)
    with torch.no_grad():
        expected = network(images)
    folder = export_adapters(network.state_dict(), tmp_path / "alone", **told(backbone))
    options = backbone.export["kwargs"]
    base = timm_lib.create_model(name, num_classes=len(CLASSES), **options)
    base.load_state_dict(plain.state_dict(), strict=False)
    loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), expected)
    adapters.merge(network)
    folder = export(network.state_dict(), tmp_path / "merged", **told(backbone))
    full = timm_lib.create_model(
        name,
        pretrained=True,
        num_classes=len(CLASSES),
        pretrained_cfg_overlay=overlay(folder),
        **options,
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(full(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_merged_weights_and_peft_adapters_alone(kind, tmp_path):
    backbone, network = network_of("bert", kind)
    inputs = inputs_of(backbone)
    given = {name: value.long() for name, value in inputs.items()}
    with torch.no_grad():
        expected = network(inputs)
    folder = export_adapters(network.state_dict(), tmp_path / "alone", **told(backbone))
    torch.manual_seed(0)
    plain = tiny("bert").module.model
    plain.save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=len(CLASSES)
    )
    loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**given).logits, expected)
    adapters.merge(network)
    folder = export(network.state_dict(), tmp_path / "merged", **told(backbone))
    full = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(full(**given).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_head_without_a_place_is_written_beside(tmp_path):
    backbone, network = network_of("gpt2", "lora")
    with pytest.raises(ExportError, match=r"Written to .*, and the head in head\.safetensors"):
        export_adapters(network.state_dict(), tmp_path, **told(backbone))
    torch.manual_seed(0)
    tiny("gpt2").module.model.save_pretrained(tmp_path / "base")
    base = AutoModel.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    inputs = inputs_of(backbone)
    given = {name: value.long() for name, value in inputs.items()}
    with torch.no_grad():
        out = backbone.module.eval()(inputs)
        hidden = loaded(**given).last_hidden_state
    torch.testing.assert_close(hidden[[0, 1], [10, 3]], out)


def test_a_run_without_adapters_has_none_to_write(tmp_path):
    with pytest.raises(ExportError, match="no adapters"):
        export_adapters({}, tmp_path, facts={}, class_names=(), reads=TextSpec("", 1))


@pytest.mark.slow
def test_peft_is_imported_with_adapters_only():
    code = (
        "import sys; from tlx.building import plans; from tlx.use import evaluate, predict; "
        "from tlx.backbones.timm.networks import timm; "
        "from tlx.backbones.transformers.text import transformers; "
        "timm(name='test_vit', init='none'); "
        "assert 'peft' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("resnetv2_50x1_bit", {}), ("nf_resnet26", {}), ("resnet50", {"output_stride": 8})],
)
def test_convolutions_that_are_more_than_their_weights_are_left_out(name, kwargs):
    """Weight standardisation would undo a merged adapter; peft's convolutions are not dilated."""
    trunk = timm(name=name, init="none", image_size=64, kwargs=kwargs)
    plain = {
        n
        for n, m in trunk.module.named_modules()
        if type(m) is torch.nn.Conv2d and m.groups == 1 and m.dilation == (1, 1)
    }
    if not plain & {n for n, _ in trunk.module.named_modules()} - {"conv1"}:
        with pytest.raises(ValueError, match="to adapt"):
            adapters.adapted(trunk, kind="lora", seed=0, r=2, alpha=2.0, dropout=0.0)
        return
    made = adapters.adapted(trunk, kind="lora", seed=0, r=2, alpha=2.0, dropout=0.0)
    assert set(made.export["adapters"]["layers"]) <= plain
