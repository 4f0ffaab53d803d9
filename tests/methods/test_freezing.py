"""What is frozen stays as it was, to the bit; what trains is in the optimizer exactly once."""

from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.layers import BatchNormAct2d, DropPath, FrozenBatchNormAct2d, LayerNorm2d, RmsNorm
from torch import nn

from tlx.methods import freezing, strategies
from tlx.methods.stages import Group, Layout

CONF = Path(__file__).parents[2] / "conf" / "freeze_strategy"
EVERY = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
OPTIONS = {
    name: node for name, node in EVERY.items() if node["_target_"].startswith(strategies.__name__)
}
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


def block(width):
    # No bias before batch norm and no ReLU before the next: their gradients would be zero.
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.Tanh(), nn.Dropout(0.2))


class Net(nn.Module):
    """Convolutions with batch norm; dropout before the first block, in each, and in the head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential()
        self.backbone.stem = nn.Conv2d(1, 4, 3)
        self.backbone.early_drop = nn.Dropout(0.2)
        self.backbone.layer1 = block(4)
        self.backbone.layer2 = block(4)
        self.backbone.norm = nn.BatchNorm2d(4)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 3)
        )

    def forward(self, x):
        return self.head(self.backbone(x))


def layout_for(network):
    names = [name for name, _ in network.named_parameters()]
    parts = {"stem": "backbone.stem", "layer1": "backbone.layer1", "layer2": "backbone.layer2"}
    members = {g: [n for n in names if n.startswith(prefix)] for g, prefix in parts.items()}
    neck = [n for n in names if n.startswith("backbone.norm")]
    members["layer2"] += neck
    members["head"] = [n for n in names if n.startswith("head")]
    groups = tuple(Group(name, tuple(m), i) for i, (name, m) in enumerate(members.items()))
    return Layout(
        groups,
        groups,
        neck=tuple(neck),
        norms=freezing.norm_parameters(network),
        embeddings=tuple(members["stem"]),
        no_decay=freezing.no_decay(network),
    )


def enter(network, trains, **modes):
    freezing.apply(network, trains)
    network.train()
    freezing.set_modes(network, **modes)


def groups_of(network, trains, **keywords):
    found = {"lr": 0.1, "weight_decay": 0.1, "no_decay": freezing.no_decay(network), **keywords}
    return freezing.param_groups(network, trains, **found)


def snapshot(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def steps(network, optimizer, *, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(8, 1, 8, 8, generator=generator) * 3 + 1
        y = torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad(set_to_none=False)  # the least forgiving way: zeros are gradients
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_frozen_tensors_and_buffers_stay_and_all_others_move(name, optimizer):
    torch.manual_seed(0)
    network = Net()
    layout = layout_for(network)
    node = {key: value for key, value in OPTIONS[name].items() if key != "_target_"}
    for stage in getattr(strategies, name)(layout, **node):
        enter(network, stage.trains)
        made = OPTIMIZERS[optimizer](groups_of(network, stage.trains))
        before = snapshot(network)
        steps(network, made)
        moved = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
        parameters = {n for n, _ in network.named_parameters()}
        assert moved & parameters == set(stage.trains)
        owners = {n.rpartition(".")[0] for n in stage.trains}
        for buffer in moved - parameters:
            assert buffer.rpartition(".")[0] in owners
        for owner in owners & {n for n, _ in freezing.norm_layers(network)}:
            assert f"{owner}.running_mean" in moved


@pytest.mark.parametrize("bias_of", ["stem", "layer1.1"])
def test_pitfall_4_a_plain_train_call_is_mended_by_set_modes(bias_of):
    """Frozen batch norm in train mode would normalise by, and learn, the batch's statistics."""
    network = Net()
    trains = {f"backbone.{bias_of}.bias": 1.0, "head.3.weight": 1.0}
    enter(network, trains)
    for layer in (network.backbone.layer2[1], network.backbone.norm):
        assert not layer.training
    assert network.backbone.layer1[1].training == (bias_of == "layer1.1")
    network.train()
    assert network.backbone.norm.training  # the pitfall: this undid it
    freezing.set_modes(network)
    assert not network.backbone.norm.training
    x = torch.randn(4, 4, 6, 6) * 5 + 3
    norm = network.backbone.norm
    expected = (x - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[
        :, None, None
    ]
    torch.testing.assert_close(norm(x), expected)


def test_pitfall_3_equal_values_are_still_different_parameters():
    """Zero-initialised biases are equal by value; each must reach the optimizer."""
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    for layer in network:
        nn.init.zeros_(layer.bias)
    trains = {name: 1.0 for name, _ in network.named_parameters()}
    found = groups_of(network, trains)
    ids = [id(p) for group in found for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())


def test_pitfall_6_a_stale_gradient_does_not_move_what_was_frozen_again():
    network = Net()
    names = [name for name, _ in network.named_parameters()]
    enter(network, dict.fromkeys(names, 1.0))
    optimizer = torch.optim.AdamW(groups_of(network, dict.fromkeys(names, 1.0)))
    steps(network, optimizer)
    enter(network, {"head.3.weight": 1.0})
    before = snapshot(network)
    network(torch.randn(8, 1, 8, 8)).sum().backward()
    optimizer.step()  # still over all parameters, with weight decay
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name != "head.3.weight"), name


def test_pitfall_8_grouping_changes_nothing():
    network = Net()
    freezing.apply(network, {"head.3.bias"})
    grads = {name: p.requires_grad for name, p in network.named_parameters()}
    before, modes = snapshot(network), [m.training for m in network.modules()]
    layout = layout_for(network)
    scales = freezing.layer_decay_scales(layout.fine_groups, 3, 0.5)
    groups_of(network, dict.fromkeys(layout.names, 1.0), layer_scales=scales)
    assert grads == {name: p.requires_grad for name, p in network.named_parameters()}
    assert modes == [m.training for m in network.modules()]
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


class TestApply:
    def test_drops_gradients_of_the_frozen_only(self):
        network = Net()
        network(torch.randn(2, 1, 8, 8)).sum().backward()
        freezing.apply(network, {"head.3.weight"})
        for name, parameter in network.named_parameters():
            assert parameter.requires_grad == (name == "head.3.weight")
            assert (parameter.grad is None) == (name != "head.3.weight")

    def test_refuses_a_name_that_is_none(self):
        with pytest.raises(ValueError, match=r"'haed.weight' is no parameter"):
            freezing.apply(Net(), {"haed.weight"})

    def test_a_tied_parameter_trains_by_either_name(self):
        network = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
        network[1].weight = network[0].weight
        for name in ("0.weight", "1.weight"):
            freezing.apply(network, {name})
            assert network[0].weight.requires_grad
        found = groups_of(network, {"0.weight": 1.0, "1.weight": 1.0})
        assert [len(group["params"]) for group in found] == [1]
        freezing.apply(network, set())
        assert not network[1].weight.requires_grad


class TestModes:
    def dropouts(self, network):
        return {n for n, m in network.named_modules() if isinstance(m, nn.Dropout) and m.training}

    def test_linear_probe_keeps_only_the_heads_dropout(self):
        network = Net()
        enter(network, {"head.3.weight": 1.0, "head.3.bias": 1.0})
        assert self.dropouts(network) == {"head.2"}

    def test_dropout_below_what_trains_is_off_and_above_it_on(self):
        network = Net()
        enter(network, [n for n, _ in network.named_parameters() if "layer1" in n or "head" in n])
        assert self.dropouts(network) == {"backbone.layer1.3", "head.2"}

    def test_full_training_keeps_every_mode(self):
        network = Net()
        enter(network, [n for n, _ in network.named_parameters()])
        assert all(m.training for m in network.modules())

    def test_on_leaves_dropout_alone_and_norms_in_eval(self):
        network = Net()
        enter(network, {"head.3.weight"}, dropout="on")
        assert len(self.dropouts(network)) == 4
        assert not network.backbone.norm.training
        assert not network.backbone.layer1[1].training

    @pytest.mark.parametrize(
        ("norm_stats", "frozen", "trained"),
        [
            ("follow", False, True),
            ("recalibrate", False, True),
            ("freeze", False, False),
            ("train", True, True),
        ],
    )
    def test_norm_stats(self, norm_stats, frozen, trained):
        network = Net()
        enter(network, {"backbone.norm.weight", "head.3.weight"}, norm_stats=norm_stats)
        assert network.backbone.layer1[1].training is frozen
        assert network.backbone.norm.training is trained

    def test_a_norm_without_parameters_follows_its_surroundings(self):
        inner = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False))
        network = nn.Sequential(inner, nn.Conv2d(2, 2, 1))
        enter(network, {"1.weight"}, dropout="on")
        assert not inner[1].training
        enter(network, {"0.0.weight"}, dropout="on")
        assert inner[1].training

    def test_vit_probe_is_deterministic_in_train_mode(self):
        torch.manual_seed(0)
        network = nn.Module()
        network.backbone = timm.create_model(
            "vit_tiny_patch16_224",
            img_size=32,
            num_classes=0,
            depth=2,
            drop_rate=0.3,
            pos_drop_rate=0.3,
            attn_drop_rate=0.3,
            drop_path_rate=0.3,
        )
        network.head = nn.Linear(192, 2)
        x = torch.randn(2, 3, 32, 32)
        enter(network, {"head.weight"})
        assert torch.equal(network.backbone(x), network.backbone(x))
        top = {n for n, _ in network.named_parameters() if "blocks.1" in n or "head" in n}
        enter(network, top)
        assert not network.backbone.pos_drop.training
        assert network.backbone.blocks[1].attn.training
        assert not network.backbone.blocks[0].attn.training
        assert not torch.equal(network.backbone(x), network.backbone(x))
        paths = [n for n, m in network.named_modules() if isinstance(m, DropPath) and m.training]
        assert paths
        assert all(".blocks.1." in name for name in paths)

    @pytest.mark.parametrize("keywords", [{"norm_stats": "frozen"}, {"dropout": "of"}])
    def test_refuses_unknown_words(self, keywords):
        with pytest.raises(ValueError, match="give"):
            freezing.set_modes(Net(), **keywords)


class T5LayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))


class NormMlpHead(nn.Module):
    """A container with a norm in its name."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.fc = nn.Linear(2, 2)


NORMS = [
    nn.BatchNorm1d(2),
    nn.BatchNorm2d(2),
    nn.BatchNorm3d(2),
    nn.SyncBatchNorm(2),
    nn.LazyBatchNorm2d(),
    nn.InstanceNorm2d(2, affine=True),
    nn.LayerNorm(2),
    nn.GroupNorm(1, 2),
    nn.RMSNorm(2),
    LayerNorm2d(2),
    BatchNormAct2d(2),
    RmsNorm(2),
    FrozenBatchNormAct2d(2),
    T5LayerNorm(),
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_every_kind_of_norm_is_found(norm):
    network = nn.Sequential(nn.Linear(2, 2), norm, NormMlpHead())
    assert [name for name, _ in freezing.norm_layers(network)] == ["1"]
    affine = tuple(f"1.{name}" for name, _ in norm.named_parameters())
    assert freezing.norm_parameters(network) == affine


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"]
)
def test_no_decay_is_what_timm_spares_and_all_norms(name):
    from timm.optim import param_groups_weight_decay

    with torch.device("meta"):
        network = timm.create_model(name)
    names = {id(p): n for n, p in network.named_parameters()}
    listed = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    theirs = param_groups_weight_decay(network, 0.1, no_weight_decay_list=listed)
    spared = {names[id(p)] for g in theirs if g["weight_decay"] == 0 for p in g["params"]}
    assert freezing.no_decay(network) == spared
    wrapped = nn.Sequential()
    wrapped.backbone = network
    assert freezing.no_decay(wrapped) == {f"backbone.{name}" for name in spared}


class TestGroups:
    def test_scales_multiply_and_decay_spares(self):
        network = Net()
        trains = {"backbone.stem.weight": 0.5, "head.3.weight": 1.0, "head.3.bias": 1.0}
        found = groups_of(network, trains, lr=0.2, layer_scales={"backbone.stem.weight": 0.1})
        table = {n: g for g in found for n in g["names"]}
        assert table.keys() == trains.keys()
        stem = table["backbone.stem.weight"]
        assert stem["lr_scale"] == pytest.approx(0.05)
        assert stem["lr"] == stem["base_lr"] == pytest.approx(0.01)
        assert table["head.3.weight"]["weight_decay"] == 0.1
        assert table["head.3.bias"]["weight_decay"] == 0.0
        for group in found:
            named = dict(network.named_parameters())
            assert all(p is named[n] for p, n in zip(group["params"], group["names"], strict=True))

    def test_refuses_a_name_that_is_none(self):
        with pytest.raises(ValueError, match="no parameter of the network"):
            groups_of(Net(), {"nothing": 1.0})

    def test_layer_decay_is_timms(self):
        from timm.models import group_parameters
        from timm.optim import param_groups_layer_decay

        network = timm.create_model("resnet10t", num_classes=3)
        levels = group_parameters(network, network.group_matcher(coarse=False))
        groups = [Group(str(level), tuple(names), level) for level, names in levels.items()]
        ours = freezing.layer_decay_scales(groups, max(levels), 0.65)
        names = {id(p): n for n, p in network.named_parameters()}
        theirs = param_groups_layer_decay(network, layer_decay=0.65)
        assert ours == {
            names[id(p)]: pytest.approx(group["lr_scale"])
            for group in theirs
            for p in group["params"]
        }

    @pytest.mark.parametrize("decay", [0.0, 1.5, -1.0, float("nan")])
    def test_refuses_a_decay_out_of_range(self, decay):
        with pytest.raises(ValueError, match="layer_decay"):
            freezing.layer_decay_scales([], 0, decay)


class TestRecalibrate:
    def batches(self):
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(8, 1, 8, 8, generator=generator) * 3 + 2 for _ in range(4)]

    def test_equals_torchs_update_bn(self):
        torch.manual_seed(0)
        ours, theirs = Net(), Net()
        theirs.load_state_dict(ours.state_dict())
        for network in (ours, theirs):
            for layer in network.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = 0.0  # torch's leaves dropout on
        freezing.recalibrate(ours, self.batches())
        torch.optim.swa_utils.update_bn(self.batches(), theirs)
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor)

    def test_draws_nothing_and_restores_modes(self):
        network = Net()
        enter(network, {"head.3.weight"})
        modes = [m.training for m in network.modules()]
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        freezing.recalibrate(network, self.batches())
        assert torch.equal(torch.rand(1), expected)
        assert modes == [m.training for m in network.modules()]
        assert network.backbone.norm.momentum == 0.1

    def test_skips_batches_of_one_and_refuses_nothing_else(self):
        network = nn.Sequential(nn.Conv2d(1, 2, 8), nn.BatchNorm2d(2))
        pair, single = self.batches()[0][:2], self.batches()[1][:1]
        freezing.recalibrate(network, [pair, single])
        mean = network[1].running_mean.clone()
        before = snapshot(network)
        with pytest.raises(ValueError, match="two items"):
            freezing.recalibrate(network, [single])
        assert torch.equal(network[1].running_mean, mean)
        assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())

    def test_reads_nothing_without_batch_norm(self):
        def never():
            raise AssertionError
            yield

        freezing.recalibrate(nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1)), never())
