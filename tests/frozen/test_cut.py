"""A network that is cut is the same: outputs, gradients, buffers; what cannot be cut is refused."""

import copy
import functools
import importlib
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
)

from cuts import enter, names_from, near, same, state, unchanged
from made import CLASSES
from tlx.backbones.backbone import Features
from tlx.backbones.timm.networks import least_image_size, pooled, timm
from tlx.building.networks import layout
from tlx.data.encoder import hash_of
from tlx.frozen.cut import Cut, NoCut
from tlx.frozen.cutting import find
from tlx.methods import freezing, strategies
from tlx.tasks.heads import LinearHead, linear_head
from tlx.tasks.task import Network

SMALL_VIT, SMALL_RESNET = "test_vit", "test_resnet"  # for what is the same in networks of any size
FAMILIES = {
    "resnet18": {},
    "vgg11_bn": {"mlp_ratio": 0.01},  # its 4,096 units take most of the time
    "densenet121": {},
    "inception_v3": {},
    "vit_tiny_patch16_224": {},
    "swin_tiny_patch4_window7_224": {},
    "convnext_atto": {},
    "mobilenetv2_100": {},
    "efficientnet_b0": {},
}
STAGES = {
    "linear_probe": strategies.linear_probe,
    "last_layer": strategies.last_layer,
    "last_1": functools.partial(strategies.last_k, k=1),
    "last_2": functools.partial(strategies.last_k, k=2),
    "last_3": functools.partial(strategies.last_k, k=3),
    "norm_only": strategies.norm_only,
    "bitfit": strategies.bitfit,
}
# Every family in one stage, and the kinds of stages in one family; the rest is more of the same.
LARGE = {"inception_v3", "densenet121", "swin_tiny_patch4_window7_224"}
QUICK = {
    *((name, "last_2") for name in FAMILIES if name not in LARGE),
    *(("resnet18", stage) for stage in ("linear_probe", "norm_only", "bitfit")),
    ("vit_tiny_patch16_224", "bitfit"),  # refused
}
TRAINS_ITS_STEM = {
    *("vgg11_bn", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto")
}
UNTIL = {
    "resnet18": "layer3 layer2 layer1 conv1",
    "vgg11_bn": "features.24 features.21 features.17 features.0",
    "densenet121": (
        "features.transition3 features.transition2 features.transition1 features.conv0"
    ),
    "inception_v3": "Mixed_7b Mixed_7a Mixed_6e Conv2d_1a_3x3.conv",
    "vit_tiny_patch16_224": "blocks.10 blocks.9 blocks.8 patch_embed",
    "swin_tiny_patch4_window7_224": "layers.2 layers.1 layers.0 patch_embed.proj",
    "convnext_atto": "stages.2 stages.1 stages.0 stem.0",
    "mobilenetv2_100": "blocks.5 blocks.4 blocks.3 conv_stem",
    "efficientnet_b0": "blocks.5 blocks.4 blocks.3 conv_stem",
    "test_convnext": "stages.2 stages.1 stages.0 stem.0",
    "test_efficientnet": "blocks.3 blocks.2 blocks.1 conv_stem",
}


@functools.cache
def built(name, *, dropout=0.0, **options):
    torch.manual_seed(0)
    kwargs = {**FAMILIES.get(name, {}), **options.pop("kwargs", {})}
    size = least_image_size(name, kwargs)
    backbone = timm(name=name, init="none", image_size=size, kwargs=kwargs, **options)
    network = Network(
        backbone.module, linear_head(backbone, CLASSES, dropout=dropout), backbone.features
    )
    return network, layout(network, backbone), size


def family(name, **options):
    """A copy, its layout, and a batch of 3 images."""
    network, layout, size = built(name, **options)  # a cache of modules that no test may change
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    return copy.deepcopy(network), layout, images


# -- families ------------------------------------------------------------------------------------


def cases():
    """Each boundary inside each family; the other kinds of stages in turn, one a family."""
    others = [stage for stage in STAGES if not stage.startswith("last_") or stage == "last_layer"]
    for at, name in enumerate(FAMILIES):
        for stage in STAGES:
            slow = (name, stage) not in QUICK
            if not slow or stage not in others or stage == others[at % len(others)]:
                yield pytest.param(name, stage, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("name", "stage"), list(cases()))
def test_family(name, stage):
    """Cut where it should be, equal in outputs, gradients and statistics, and left as it was."""
    network, layout, images = family(name)
    enter(network, STAGES[stage](layout)[0].trains)
    before = state(network)
    if stage == "bitfit" and name in TRAINS_ITS_STEM:
        with pytest.raises(NoCut, match=r"backbone\.\S+ trains, before there is an activation"):
            find(network, images)
        unchanged(network, before)
        return
    cut = find(network, images)
    unchanged(network, before)
    first, second, third, stem = UNTIL[name].split()
    known = {"last_1": first, "last_2": second, "last_3": third, "norm_only": stem, "bitfit": stem}
    if stage == "linear_probe":
        assert cut.boundary == "backbone"
        assert len(cut.shape) == 1
    elif stage in known:
        assert cut.boundary == f"backbone.{known[stage]}"
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    assert not trained & set(cut.state_names)
    assert cut.prefix(images).shape == (3, *cut.shape)
    same(network, cut, images)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_convnext", {"drop_path_rate": 0.5}),
        ("test_efficientnet", {"drop_rate": 0.5, "drop_path_rate": 0.5}),
        pytest.param("vit_tiny_patch16_224", {"drop_path_rate": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_what_is_random_above_the_boundary_is_so_in_the_suffix(name, options):
    network, layout, images = family(name, dropout=0.3, **options)
    enter(network, strategies.last_k(layout, k=2)[0].trains)
    cut = find(network, images)
    assert cut.boundary == f"backbone.{UNTIL[name].split()[1]}"
    same(network, cut, images)
    torch.manual_seed(0)
    stored = cut.prefix(images)
    assert not torch.equal(cut.suffix(stored)[1], cut.suffix(stored)[1])


def test_the_suffix_computes_in_eval_mode_too():
    network, layout, images = family(SMALL_RESNET, dropout=0.5)
    enter(network, strategies.last_k(layout, k=1)[0].trains)
    cut = find(network, images)
    stored = cut.prefix(images)
    network.eval()
    with torch.no_grad():
        near(cut.suffix(stored)[1], network(images))
        near(cut.suffix(stored[1:])[1], network(images[1:]))


def test_the_prefix_runs_nothing_above_the_boundary():
    network, layout, images = family("resnet18")
    enter(network, strategies.last_k(layout, k=2)[0].trains)
    cut = find(network, images)
    ran = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *args, name=name: ran.append(name))
    cut.prefix(images)
    assert ran[-1] == cut.boundary == "backbone.layer2"
    ran.clear()
    cut.suffix(cut.prefix(images))
    above = ran[ran.index("backbone.layer2", ran.index("backbone.layer2") + 1) :]
    assert "backbone.layer1.0.conv1" not in above


# -- transformers --------------------------------------------------------------------------------


def text_features(module, inputs):
    return Features(tokens=module(**inputs).last_hidden_state, mask=inputs["attention_mask"].bool())


def text_pooled(module, inputs):
    return Features(pooled=module(**inputs).pooler_output)


class MeanHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, features):
        mask = features.mask[..., None].float()
        return self.linear((features.tokens * mask).sum(1) / mask.sum(1))


SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 50}
TEXT = {
    "bert": lambda: BertModel(
        BertConfig(**SIZES, intermediate_size=32, max_position_embeddings=32)
    ),
    "roberta": lambda: RobertaModel(
        RobertaConfig(**SIZES, intermediate_size=32, max_position_embeddings=32)
    ),
    "gpt2": lambda: GPT2Model(
        GPT2Config(n_embd=16, n_layer=4, n_head=2, vocab_size=50, n_positions=32)
    ),
}
TOP = {"bert": "encoder.layer", "roberta": "encoder.layer", "gpt2": "h"}


def text(kind, *, features=text_features):
    torch.manual_seed(0)
    network = Network(
        TEXT[kind](), MeanHead() if features is text_features else LinearHead(16, 3), features
    )
    for name, parameter in network.named_parameters():  # biases of zero hide what reads them
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    tokens = torch.randint(2, 50, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(4, 9, dtype=torch.long)
    for item, length in enumerate((9, 4, 6, 2)):
        mask[item, length:] = 0
    return network, {"input_ids": tokens, "attention_mask": mask}


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("top", [0, 1, 3])
def test_text_with_masks_of_different_lengths(kind, top):
    network, inputs = text(kind)
    layers = [f"backbone.{TOP[kind]}.{4 - 1 - i}." for i in range(top)]
    enter(network, names_from(network, *layers, "head."))
    before = state(network)
    cut = find(network, inputs)
    unchanged(network, before)
    if top:
        assert cut.boundary == f"backbone.{TOP[kind]}.{3 - top}"
    assert cut.needs_inputs
    same(network, cut, inputs)
    with pytest.raises(ValueError, match="call suffix"):
        cut.suffix(cut.prefix(inputs))
    shorter = {key: value[:2, :7] for key, value in inputs.items()}  # padded to another length
    same(network, cut, shorter)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_text_through_its_pooler(kind):
    network, inputs = text(kind, features=text_pooled)
    enter(network, names_from(network, "head."))
    cut = find(network, inputs)
    assert cut.shape == (16,)
    same(network, cut, inputs)
    enter(network, names_from(network, "head.", "backbone.pooler."))
    cut = find(network, inputs)
    assert cut.boundary == "backbone.encoder.layer.3"
    same(network, cut, inputs)


@pytest.mark.parametrize("kind", TEXT)
def test_text_biases_leave_the_embeddings_or_nothing(kind):
    network, inputs = text(kind)
    enter(network, {n for n, _ in network.named_parameters() if n.endswith("bias")})
    cut = find(network, inputs)
    assert "embeddings" in cut.boundary or ".wpe" in cut.boundary or ".wte" in cut.boundary
    same(network, cut, inputs)


# -- toys ----------------------------------------------------------------------------------------


class Toy(nn.Module):
    """Three linear layers; `mix` says what goes on around them."""

    def __init__(self, mix, *, width=4):
        super().__init__()
        self.low, self.middle, self.high = (nn.Linear(width, width) for _ in range(3))
        self.gate = Gate(width)
        self.mix = mix

    def forward(self, x):
        return self.mix(self, x)


class Gate(nn.Module):
    """Scales by a parameter that starts at zero, as LoRA and layer scales do."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.scale


def toy(mix):
    torch.manual_seed(0)
    network = Network(Toy(mix), LinearHead(4, 3), pooled)
    gate = ["backbone.gate."] if mix in GATED else []
    enter(network, names_from(network, "backbone.high.", *gate, "head."))
    return network, torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def plain(toy, x):
    return toy.high(toy.middle(toy.low(x)).relu())


def skip_over_middle(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low)) + low


def gated_skip_over_middle(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low)) + toy.gate(low)


def skip_from_inputs(toy, x):
    return plain(toy, x) + x


def gated_skip_from_inputs(toy, x):
    return plain(toy, x) + toy.gate(x)


def hidden_skip_from_inputs(toy, x):
    return plain(toy, x) * (x > 0)


def lora(toy, x):
    low = toy.low(x)
    return toy.middle(low) + toy.gate(toy.high(low))


def across_the_batch(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low - low.mean(0)))


def faintly_across_the_batch(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low + 1e-9 * low.mean(0)))


def random_in_training(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(F.dropout(low, 0.5, training=toy.training)))


def random_by_numpy(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low * (np.random.random() if toy.training else 1)))


def random_by_python(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low * (random.random() if toy.training else 1)))


OWN = torch.Generator().manual_seed(0)


def random_by_its_own(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low * (torch.rand((), generator=OWN) if toy.training else 1)))


def in_place(toy, x):
    return toy.high(toy.middle(toy.low(x).mul_(2)).mul_(3))


def high_weight_below(toy, x):
    return toy.high(toy.middle(F.linear(toy.low(x), toy.high.weight)))


def high_uncalled(toy, x):
    return F.linear(toy.middle(toy.low(x)), toy.high.weight)


def high_detached_below(toy, x):
    """What trains is read where autograd does not see it."""
    return toy.high(toy.middle(F.linear(toy.low(x), toy.high.weight.detach())))


def twice(toy, x):
    return toy.high(toy.middle(toy.middle(toy.low(x))))


def counts_the_batch(toy, x):
    low = toy.low(x)
    return toy.high(toy.middle(low) * len(low))


GATED = (gated_skip_over_middle, gated_skip_from_inputs, lora)


@pytest.mark.parametrize(
    ("mix", "boundary"),
    [
        (plain, "middle"),
        (skip_over_middle, "low"),
        (gated_skip_over_middle, "low"),
        (lora, "low"),
        (across_the_batch, "low"),
        (faintly_across_the_batch, "low"),
        (random_in_training, "low"),
        (random_by_numpy, "low"),
        (random_by_python, "low"),
        (random_by_its_own, "low"),
        (in_place, "middle"),
        (high_weight_below, "low"),
        (twice, "low"),
        (skip_from_inputs, None),
        (gated_skip_from_inputs, None),
        (hidden_skip_from_inputs, None),
        (high_uncalled, "middle"),
        (high_detached_below, "low"),
    ],
)
def test_toy(mix, boundary):
    network, x = toy(mix)
    before = state(network)
    if boundary is None:
        with pytest.raises(NoCut):
            find(network, x)
        unchanged(network, before)
        return
    cut = find(network, x)
    unchanged(network, before)
    assert cut.boundary == f"backbone.{boundary}"
    if mix not in (random_by_numpy, random_by_python, random_by_its_own):
        same(network, cut, x)


def test_a_proof_under_autocast_leaves_no_weights_in_its_cache():
    network, x = toy(lora)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert find(network, x).boundary == "backbone.low"
        outputs = network(x)
        assert outputs.dtype == torch.bfloat16
        outputs.sum().backward()
    assert bool(outputs.isfinite().all())
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_a_batch_size_read_below_the_boundary_is_that_of_the_batch():
    network, x = toy(counts_the_batch)
    cut = find(network, x)
    assert cut.boundary == "backbone.middle"
    for part in (x, x[:3]):
        same(network, cut, part)


def test_tokens_whose_activation_depends_on_other_items_are_refused():
    """Integers cannot be NaN: halves of the batch tell."""

    class Centred(nn.Embedding):
        def forward(self, tokens):
            found = super().forward(tokens).mean(1)
            return found - found.mean(0)

    network, _ = toy(plain)
    network.backbone = nn.Sequential(Centred(9, 4), nn.Linear(4, 4))
    enter(network, names_from(network, "head."))
    with pytest.raises(NoCut, match="depends on the others of its batch"):
        find(network, torch.arange(8).reshape(4, 2))


def test_a_layer_that_runs_twice_on_other_shapes():
    network, _ = toy(plain)
    shared = nn.Conv1d(1, 1, 2)
    rest = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten())
    network.backbone = nn.Sequential(shared, nn.ReLU(), shared, rest, nn.Linear(4, 4))
    enter(network, names_from(network, "backbone.4.", "head."))
    x = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(1))
    cut = find(network, x)
    assert cut.boundary == "backbone.3"
    same(network, cut, x)


def test_the_boundary_never_lies_in_the_head():
    """Runs that differ in their heads share an activation."""
    network, x = toy(plain)
    network.head.dropout = nn.Linear(4, 4)
    enter(network, names_from(network, "head.linear."))
    assert find(network, x).boundary == "backbone"


def test_what_trains_in_a_parent_counts_from_where_it_is_read():
    network, layout, images = family(SMALL_VIT)
    trains = {"backbone.pos_embed", *layout.head.parameters}
    enter(network, trains)
    cut = find(network, images)
    assert cut.boundary == "backbone.patch_embed"
    assert "backbone.pos_embed" not in cut.state_names
    same(network, cut, images)


@pytest.mark.parametrize(
    ("name", "options", "boundary"),
    [
        (SMALL_VIT, {"kwargs": {"proj_drop_rate": 0.1}}, "blocks.0.attn.proj"),
        (SMALL_VIT, {"kwargs": {"pos_drop_rate": 0.1}}, "patch_embed"),
        (SMALL_VIT, {}, ""),
        pytest.param(
            *("densenet121", {"kwargs": {"proj_drop_rate": 0.1}}, "features.pool0"),
            marks=pytest.mark.slow,
        ),
        (SMALL_RESNET, {"drop_rate": 0.1}, "global_pool"),
        pytest.param(
            *("efficientnet_b0", {"drop_rate": 0.1}, "global_pool"), marks=pytest.mark.slow
        ),
    ],
)
def test_frozen_dropout_moves_the_boundary(name, options, boundary):
    """Dropout as a module and as a function; no further down than it must."""
    options = {k: dict(v) if isinstance(v, dict) else v for k, v in options.items()}
    torch.manual_seed(0)
    size = least_image_size(name)
    backbone = timm(name=name, init="none", image_size=size, **options)
    network = Network(backbone.module, linear_head(backbone, 3, dropout=0.0), backbone.features)
    images = torch.randn(3, 3, size, size)
    enter(network, names_from(network, "head."), dropout="on")
    before = state(network)
    cut = find(network, images)
    unchanged(network, before)
    if name == SMALL_VIT and "proj" in boundary:  # bridged by the block's skip connection
        assert cut.boundary == "backbone.patch_embed"
    else:
        assert cut.boundary == f"backbone.{boundary}".rstrip(".")
    same(network, cut, images)
    enter(network, names_from(network, "head."), dropout="off")
    assert find(network, images).boundary == "backbone"


def test_frozen_norms_in_train_mode_move_the_boundary():
    network, _, images = family("resnet18")
    enter(network, names_from(network, "head."), norm_stats="train")
    before = state(network)
    cut = find(network, images)
    unchanged(network, before)
    assert cut.boundary == "backbone.conv1"
    same(network, cut, images)
    network.backbone.layer3[0].bn1.track_running_stats = False
    network.backbone.layer3[0].bn1.running_mean = network.backbone.layer3[0].bn1.running_var = None
    enter(network, names_from(network, "head."), norm_stats="freeze")
    assert find(network, images).boundary == "backbone.layer2"


def test_a_buffer_that_moves_in_the_prefix_moves_the_boundary():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    network, x = toy(plain)
    network.backbone.middle = Counting().requires_grad_(False)
    before = state(network)
    assert find(network, x).boundary == "backbone.low"
    unchanged(network, before)


def test_batches_that_prove_nothing_are_refused():
    network, x = toy(plain)
    for batch in (x[:1], x[:1].expand(4, -1)):
        with pytest.raises(NoCut, match="cannot be proved"):
            find(network, batch)
    with pytest.raises(ValueError, match="eval mode"):
        find(network.eval(), x)


# -- identity and side effects -------------------------------------------------------------------


def last_1(name=SMALL_RESNET):
    network, layout, images = family(name)
    enter(network, strategies.last_k(layout, k=1)[0].trains)
    return network, find(network, images)


def test_prefix_id_is_of_the_prefix_alone():
    network, cut = last_1()
    first = cut.prefix_id()
    again, twin = last_1()
    assert twin.prefix_id() == first
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("head.", "backbone.layer4.")):
                parameter.add_(1)
        network.backbone.layer4[0].bn1.running_mean.add_(1)
    network.eval()
    assert cut.prefix_id() == first
    again.head = LinearHead(again.head.linear.in_features, 7, dropout=0.5)
    enter(again, names_from(again, "backbone.layer4.", "head."))
    images = family(SMALL_RESNET)[2]
    assert find(again, images).prefix_id() == first
    enter(again, names_from(again, "backbone.layer3.", "backbone.layer4.", "head."))
    assert find(again, images).prefix_id() != first


@pytest.mark.parametrize("name", [SMALL_RESNET, SMALL_VIT])
def test_prefix_id_changes_with_each_tensor_of_the_prefix(name):
    network, cut = last_1(name)
    first = cut.prefix_id()
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    above = ("head.", "backbone.layer4.", "backbone.blocks.5.", "backbone.norm.")
    assert set(cut.state_names) == {n for n in tensors if not n.startswith(above)}
    for key in cut.state_names[:: max(len(cut.state_names) // 12, 1)]:
        with torch.no_grad():
            flat = tensors[key].reshape(-1)
            before = flat[-1].clone()
            flat[-1] += 1
            assert cut.prefix_id() != first, key
            flat[-1] = before
    assert cut.prefix_id() == first


@pytest.mark.parametrize(
    "change",
    [
        lambda trunk: setattr(trunk.blocks[0].attn, "scale", 0.5),
        lambda trunk: setattr(trunk.blocks[0].attn, "scale", torch.tensor(0.5)),
        lambda trunk: setattr(trunk.blocks[0].norm1, "eps", 1e-2),
        lambda trunk: setattr(trunk.blocks[3].mlp, "act", nn.ReLU()),
        lambda trunk: setattr(trunk.blocks[0], "drop_path1", nn.Sequential(nn.Identity())),
    ],
)
def test_prefix_id_changes_with_the_structure(change):
    network, cut = last_1(SMALL_VIT)
    first = cut.prefix_id()
    change(network.backbone)
    enter(network, names_from(network, "backbone.blocks.5.", "backbone.norm.", "head."))
    assert find(network, family(SMALL_VIT)[2]).prefix_id() != first


def test_prefix_id_changes_with_ones_own_code(tmp_path, monkeypatch):
    """Of a module and of the function that takes its features: neither shows in any weight."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    seen = {}
    for name, scale, pool in (
        ("a", 2, "mean"),
        ("b", 3, "mean"),
        ("c", 2, "amax"),
        ("a", 2, "mean"),
    ):
        (tmp_path / "own_net.py").write_text(OWN_NET.format(scale=scale))
        hash_of.cache_clear()
        sys.modules.pop("own_net", None)
        torch.manual_seed(0)
        own = importlib.import_module("own_net")
        network = Network(own.Net(), LinearHead(4, 3), own.taking(pool))
        enter(network, names_from(network, "head."))
        found = find(network, torch.rand(4, 3, 8, 8)).prefix_id()
        assert seen.setdefault(name, found) == found
    assert len(set(seen.values())) == 3


OWN_NET = """
from torch import nn
from tlx.backbones.backbone import Features
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
    def forward(self, images):
        return self.stem(images) * {scale}
def taking(pool):
    def features(module, images):
        return Features(pooled=getattr(module(images).flatten(2), pool)(2))
    return features
"""


def test_prefix_id_knows_a_config_of_transformers():
    network, inputs = text("bert")
    enter(network, names_from(network, "head."))
    first = find(network, inputs).prefix_id()
    assert find(network, inputs).prefix_id() == first
    network.backbone.config._name_or_path = "/elsewhere"
    assert find(network, inputs).prefix_id() == first
    network.backbone.config.hidden_act = "relu"
    assert find(network, inputs).prefix_id() != first


def test_nothing_is_left_behind_by_calls_and_failures():
    network, cut = last_1()
    images = family(SMALL_RESNET)[2]
    before = state(network)
    stored = cut.prefix(images)
    unchanged(network, before)
    with pytest.raises(RuntimeError):
        cut.suffix(stored[:, :7])
    with pytest.raises(RuntimeError):
        cut.prefix(images[:, :1])
    unchanged(network, before)
    network.eval()
    with torch.no_grad():
        cut.suffix(stored)
    network.train()
    freezing.set_modes(network)
    unchanged(network, before)
    torch.save(network.state_dict(), "/dev/null")
    again = pickle.loads(pickle.dumps(network))
    unchanged(again, before)


def test_a_network_that_raises_is_left_as_it_was():
    def raises(toy, x):
        return toy.high(toy.middle(toy.low(x)))[:, 99]

    network, x = toy(raises)
    before = state(network)
    with pytest.raises(IndexError):
        find(network, x)
    unchanged(network, before)


def test_cuts_can_be_copied_with_their_network():
    network, cut = last_1()
    images = family(SMALL_RESNET)[2]
    twin = copy.deepcopy(cut)
    assert isinstance(twin, Cut)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert twin.prefix(images).abs().max() > 0
    assert cut.prefix(images).abs().max() == 0
