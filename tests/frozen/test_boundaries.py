"""Boundaries of more than one tensor an item, on made networks of the kinds that have them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)
from transformers.models.timm_backbone import TimmBackboneConfig

from cuts import enter, names_from, same, state, unchanged
from tlx.backbones.backbone import Features
from tlx.frozen.cut import NoCut
from tlx.frozen.cutting import find, holds
from tlx.tasks.heads import LinearHead
from tlx.tasks.task import Network


def seeded(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def checked(network, inputs, *, boundary, trains):
    """The cut where it should be; it holds, and the network is left as it was."""
    enter(network, names_from(network, *trains))
    before = state(network)
    cut = find(network, inputs)
    unchanged(network, before)
    assert cut.boundary == boundary
    assert not {n for n, p in network.named_parameters() if p.requires_grad} & {*cut.state_names}
    same(network, cut, inputs)
    return cut


# -- a detector: several feature maps ------------------------------------------------------------


class Stage(nn.Module):
    """Halves a map; a block of its own, so that it can be a boundary."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class Trunk(nn.Module):
    """Three maps, fine to coarse, in a list or a mapping."""

    def __init__(self, form=list):
        super().__init__()
        self.stem, self.c3 = Stage(3, 4), Stage(4, 6)
        self.c4, self.c5, self.form = Stage(6, 24), Stage(24, 32), form

    def forward(self, x):
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        maps = [c3, c4, self.c5(c4)]
        return dict(enumerate(maps)) if self.form is dict else self.form(maps)


class Pyramid(nn.Module):
    """Laterals and a path down, as an FPN; anchors from the inputs' size, as a detector's."""

    def __init__(self, form=list):
        super().__init__()
        self.trunk = Trunk(form)
        self.laterals = nn.ModuleList(nn.Conv2d(width, 4, 1) for width in (6, 24, 32))

    def forward(self, x):
        maps = self.trunk(x)
        c3, c4, c5 = maps.values() if isinstance(maps, dict) else maps
        p5 = self.laterals[2](c5)
        p4 = self.laterals[1](c4) + F.interpolate(p5, size=c4.shape[-2:])
        p3 = self.laterals[0](c3) + F.interpolate(p4, size=c3.shape[-2:])
        return tuple(level * (x.shape[-1] / 32) for level in (p3, p4, p5))


class DenseHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 5, 1)

    def forward(self, features):
        return torch.cat([self.conv(level).flatten(2) for level in features.pyramid], dim=2)


def detector(form=list):
    torch.manual_seed(0)
    return Network(Pyramid(form), DenseHead(), lambda m, x: Features(pyramid=m(x)))


@pytest.mark.parametrize("form", [list, tuple, dict])
def test_a_frozen_trunk_is_stored_as_its_maps(form):
    network, images = detector(form), seeded(4, 3, 32, 32)
    cut = checked(
        network, images, boundary="backbone.trunk", trains=("backbone.laterals.", "head.")
    )
    assert cut.shape == (6 * 64 + 24 * 16 + 32 * 4,)
    ran = []
    network.backbone.trunk.stem.register_forward_hook(lambda *args: ran.append("stem"))
    cut.suffix(cut.prefix(images)[:2])
    assert ran == ["stem"]


def test_of_a_half_frozen_trunk_the_maps_that_are_read_are_stored():
    trains = ("backbone.trunk.c5.", "backbone.laterals.", "head.")
    boundary = "backbone.trunk.c3 + backbone.trunk.c4"
    cut = checked(detector(), seeded(4, 3, 32, 32), boundary=boundary, trains=trains)
    assert cut.shape == (6 * 64 + 24 * 16,)
    trains = ("backbone.trunk.c4.", *trains)
    checked(detector(), seeded(4, 3, 32, 32), boundary="backbone.trunk.c3", trains=trains)


def test_a_prefix_of_several_maps_is_known_by_all_that_they_depend_on():
    network, images = detector(), seeded(4, 3, 32, 32)
    enter(network, names_from(network, "backbone.trunk.c5.", "backbone.laterals.", "head."))
    cut = find(network, images)
    first = cut.prefix_id()
    owners = {name.rpartition(".")[0] for name in cut.state_names}
    assert owners == {
        f"backbone.trunk.{s}.{m}" for s in ("stem", "c3", "c4") for m in ("conv", "norm")
    }
    for name, tensor in network.state_dict().items():
        before = tensor.clone()
        tensor.add_(1)
        assert (cut.prefix_id() != first) == (name in cut.state_names)
        tensor.copy_(before)


def test_a_map_across_the_batch_is_not_stored():
    """The frontier fails; below it is one that holds."""
    network, images = detector(), seeded(4, 3, 32, 32)
    c4 = network.backbone.trunk.c4
    whole = c4.forward
    c4.forward = lambda x: whole(x) - whole(x).mean(0)
    trains = ("backbone.trunk.c5.", "backbone.laterals.", "head.")
    checked(network, images, boundary="backbone.trunk.c3", trains=trains)


class TwoTypes(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.high = nn.Linear(4, 4), nn.Linear(4, 4)
        self.pair = Pair()

    def forward(self, x):
        one, other = self.pair(self.trunk(x))
        return self.high(one) + other.float()


class Pair(nn.Module):
    def forward(self, x):
        return x, x.double() ** 2


def test_outputs_of_several_types_are_not_stored_in_one_row():
    """What both are made of is stored instead."""
    network = Network(TwoTypes(), LinearHead(4, 3), lambda m, x: Features(pooled=m(x)))
    checked(network, seeded(4, 4), boundary="backbone.trunk", trains=("backbone.high.", "head."))
    network.backbone.trunk = nn.Identity()
    enter(network, names_from(network, "backbone.high.", "head."))
    with pytest.raises(NoCut, match="outputs are of several types"):
        find(network, seeded(4, 4))


# -- hidden states: every layer read -------------------------------------------------------------


class Weighted(nn.Module):
    """Layers on tokens whose outputs are all read, with weights that train: a probe."""

    def __init__(self, layers=4, width=6):
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.weights = nn.Parameter(torch.zeros(layers + 1))

    def forward(self, x):
        states = [self.embed(x)]
        for layer in self.layers:
            states.append(layer(states[-1]).tanh() + states[-1])
        return torch.einsum("l,lntd->ntd", self.weights.softmax(0), torch.stack(states))


class TokenHead(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, features):
        return self.linear(features.tokens.mean(1))


def test_hidden_states_lie_side_by_side_along_the_tokens():
    torch.manual_seed(0)
    network = Network(Weighted(), TokenHead(), lambda m, x: Features(tokens=m(x)))
    inputs = seeded(4, 5, 3)
    names = ["backbone.embed", *(f"backbone.layers.{i}" for i in range(4))]
    cut = checked(network, inputs, boundary=" + ".join(names), trains=("backbone.weights", "head."))
    assert cut.shape == (5, 5 * 6)
    same(network, cut, inputs[:, :3])  # of another length


# -- video: frames as rows -----------------------------------------------------------------------


class PerFrame(nn.Module):
    """A network of images on each frame [N, T, ...], one vector a frame."""

    def __init__(self):
        super().__init__()
        self.low, self.high = Stage(3, 4), Stage(4, 8)

    def forward(self, clips):
        frames = clips.flatten(0, 1)
        vectors = self.high(self.low(frames)).mean((2, 3))
        return vectors.unflatten(0, clips.shape[:2])


class InOrder(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.linear = nn.GRU(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, features):
        return self.linear(self.gru(features.tokens)[1][0])


def clips():
    torch.manual_seed(0)
    return Network(PerFrame(), InOrder(), lambda m, x: Features(tokens=m(x))), seeded(4, 3, 3, 8, 8)


def test_frames_below_a_layer_that_trains_are_rows_of_their_clip():
    network, inputs = clips()
    cut = checked(network, inputs, boundary="backbone.low", trains=("backbone.high.", "head."))
    assert cut.shape == (3, 4, 4, 4)
    assert torch.equal(cut.prefix(inputs[1:2]), cut.prefix(inputs)[1:2])
    for part in (inputs[:1], inputs[:3]):
        assert holds(cut, part)
    same(network, cut, inputs[:2])


def test_vectors_of_frames_are_the_backbones_output():
    network, inputs = clips()
    cut = checked(network, inputs, boundary="backbone", trains=("head.",))
    assert cut.shape == (3, 8)


def test_frames_that_see_each_other_across_clips_are_not_stored():
    network, inputs = clips()
    low = network.backbone.low
    whole = low.forward
    low.forward = lambda x: whole(x.roll(1, 0))
    enter(network, names_from(network, "backbone.high.", "head."))
    with pytest.raises(NoCut, match="depends on the others of its batch"):
        find(network, inputs)


# -- a masked encoder ----------------------------------------------------------------------------


class Masked(nn.Module):
    """A strided convolution, then layers that a mask of the inputs' samples reaches, as speech."""

    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(1, 6, 4, stride=4)
        self.spec_embed = nn.Parameter(torch.zeros(6))
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, inputs):
        hidden = self.front(inputs["values"][:, None]).transpose(1, 2)
        mask = inputs["attention_mask"][:, ::4].bool()
        hidden[~mask] = 0
        for layer in self.layers:
            hidden = layer(hidden).tanh() * mask[..., None]
        return Features(tokens=hidden, mask=mask)


def masked():
    torch.manual_seed(0)
    network = Network(Masked(), TokenHead(), lambda m, x: m(x))
    mask = torch.ones(4, 32, dtype=torch.long)
    for item, length in enumerate((32, 16, 24, 8)):
        mask[item, length:] = 0
    return network, {"values": seeded(4, 32), "attention_mask": mask}


def test_masks_see_as_many_items_as_the_batch_has():
    network, inputs = masked()
    trains = ("backbone.layers.2.", "backbone.spec_embed", "head.")
    enter(network, names_from(network, *trains))
    cut = find(network, inputs)
    assert cut.whole
    assert cut.needs_inputs
    assert cut.boundary == "backbone.layers.1"
    same(network, cut, inputs)
    for items in (slice(0, 1), slice(1, 4)):
        same(network, cut, {name: value[items] for name, value in inputs.items()})


SPEECH = {
    **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2},
    **{"intermediate_size": 32, "conv_dim": (8, 8), "conv_stride": (4, 2), "conv_kernel": (8, 3)},
    **{"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4},
    **{"num_conv_pos_embedding_groups": 2, "vocab_size": 8, "feat_extract_norm": "layer"},
    **{"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0},
    **dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
    ),
}
HEARD = {
    "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**SPEECH)),
    "hubert": lambda: HubertModel(HubertConfig(**SPEECH)),
}


@pytest.mark.parametrize("kind", HEARD)
@pytest.mark.parametrize(
    ("trains", "boundary"),
    [
        ((), "backbone.encoder.layers.3"),
        (("backbone.encoder.layers.3.",), "backbone.encoder.layers.2"),
        (
            ("backbone.encoder.", "backbone.feature_projection.", "backbone.masked_spec_embed"),
            "backbone.feature_extractor",
        ),
    ],
    ids=["head", "last layer", "all but the front end"],
)
def test_speech_with_masks(kind, trains, boundary):
    torch.manual_seed(0)

    def features(module, inputs):
        return Features(tokens=module(**inputs).last_hidden_state)

    network = Network(HEARD[kind](), TokenHead(16), features)
    mask = torch.ones(4, 400, dtype=torch.long)
    for item, length in enumerate((400, 200, 300, 240)):
        mask[item, length:] = 0
    inputs = {"input_values": seeded(4, 400), "attention_mask": mask}
    checked(network, inputs, boundary=boundary, trains=(*trains, "head."))


# -- what trains found by gradient ---------------------------------------------------------------


class Queries(nn.Module):
    """Begins its forward before what trains, and reads an embedding that it never calls."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(Stage(3, 4), Stage(4, 6))
        self.query = nn.Embedding(5, 6)
        self.token = nn.Parameter(torch.zeros(6))
        self.decoder = nn.Linear(6, 6)

    def forward(self, x):
        scale = self.token.exp()  # read first, used last
        cells = self.trunk(x).flatten(2)
        shares = torch.einsum("qd,ndc->nqc", self.query.weight, cells).softmax(-1)
        return self.decoder(torch.einsum("nqc,ndc->nqd", shares, cells)) * scale


@pytest.mark.parametrize("token", [False, True])
def test_what_is_read_above_limits_nothing_below(token):
    torch.manual_seed(0)
    network = Network(Queries(), TokenHead(), lambda m, x: Features(tokens=m(x)))
    trains = ("backbone.query.", "backbone.decoder.", "head.")
    trains = (*trains, "backbone.token") if token else trains
    cut = checked(network, seeded(5, 3, 8, 8), boundary="backbone.trunk", trains=trains)
    assert "backbone.query.weight" not in cut.state_names
    first = cut.prefix_id()
    with torch.no_grad():  # as a step of training moves them
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    assert cut.prefix_id() == first


def test_a_detr_s_backbone_is_stored_though_its_queries_are_never_called():
    torch.manual_seed(0)
    trunk = TimmBackboneConfig(backbone="resnet10t", out_indices=[4], use_pretrained_backbone=False)
    sizes = {
        **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 5},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "dropout": 0.0},
    }
    model = DetrForObjectDetection(DetrConfig(backbone_config=trunk, **sizes))
    network = Network(
        model.model,
        TokenHead(16),
        lambda m, x: Features(tokens=m(x).last_hidden_state),
    )
    frozen = "backbone.backbone."
    trains = {n for n, _ in network.named_parameters() if not n.startswith(frozen)}
    enter(network, trains)
    cut = find(network, seeded(3, 3, 64, 64))
    assert cut.boundary.startswith("backbone.backbone.")
    same(network, cut, seeded(3, 3, 64, 64))


def test_a_plain_head_shares_the_features_as_before():
    torch.manual_seed(0)
    trunk = nn.Sequential(Stage(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(trunk, LinearHead(4, 3), lambda m, x: Features(pooled=m(x)))
    cut = checked(network, seeded(4, 3, 8, 8), boundary="backbone", trains=("head.",))
    assert cut.is_features
    assert not cut.whole
