"""Encoders of waves of transformers: groups, batches, what they draw, weights of folders."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

from tlx.backbones.audio.pretrained import audio_transformers
from tlx.backbones.backbone import Wanted
from tlx.data.audio.inputs import AUDIO
from tlx.data.audio.read import Sound

KINDS = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "sew")
SIZES = {
    **{"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2},
    **{"intermediate_size": 24, "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2]},
    **{"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4},
    "num_conv_pos_embedding_groups": 2,
}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def made(kind, *, seconds=0.1, wanted="pooled", **more):
    own = {} if kind != "sew" else {"squeeze_factor": 1}
    kwargs = {**SIZES, **own, **more.pop("kwargs", {})}
    return audio_transformers(
        Wanted(features=wanted), name=kind, init="none", seconds=seconds, kwargs=kwargs, **more
    )


def item(spec, samples):
    wave = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    encoder = AUDIO.encoder(spec, [], train=False)
    return encoder({"id": "a", "input": Sound(wave.numpy(), spec.rate), "target": 0})["input"]


@pytest.mark.parametrize("kind", KINDS)
def test_groups_hold_each_parameter_once_from_stem_to_top(kind):
    backbone = made(kind, pooling="attention")
    for groups in (backbone.groups, backbone.fine_groups):
        names = [n for group in groups for n in group.parameters]
        assert sorted(names) == sorted(n for n, _ in backbone.module.named_parameters())
        assert [group.level for group in groups] == list(range(len(groups)))
    assert [group.name for group in backbone.groups] == [
        *("feature_extractor", "feature_projection", "encoder.pos_conv_embed"),
        *(f"encoder.layers.{i}" for i in range(3)),
        "neck",
    ]
    assert backbone.fine_groups[0].name == "feature_extractor.0"
    assert backbone.neck == backbone.groups[-1].parameters
    assert backbone.head_level == backbone.fine_groups[-1].level


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_a_group_changes_what_comes_after_it_alone(kind):
    """Whatever changes in group k leaves what group k - 1 gives as it was: by gradients."""
    backbone = made(kind)
    backbone.module.eval()
    layers = backbone.module.model.encoder.layers
    seen = {}
    for place, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda _m, _i, out, place=place: seen.update(
                {place: out[0] if isinstance(out, tuple) else out}
            )
        )
    backbone.features(backbone.module, torch.randn(2, 1600))
    parameters = dict(backbone.module.named_parameters())
    first = backbone.groups[3].level
    for place in range(len(layers) - (backbone.groups[-1].name != "neck")):
        above = [n for g in backbone.groups if g.level > first + place for n in g.parameters]
        grads = torch.autograd.grad(
            seen[place].sum(), [parameters[n] for n in above], allow_unused=True, retain_graph=True
        )
        assert all(grad is None for grad in grads)


@pytest.mark.parametrize(
    ("kind", "seconds", "kwargs"),
    [
        *((kind, 0.4, {}) for kind in KINDS),
        *((kind, None, LAYER) for kind in ("wav2vec2", "hubert", "unispeech", "unispeech-sat")),
    ],
)
@pytest.mark.parametrize("wanted", ["pooled", "frame"])
def test_a_recording_alone_is_as_in_a_batch(kind, seconds, kwargs, wanted):
    backbone = made(kind, seconds=seconds, kwargs=kwargs, wanted=wanted)
    backbone.module.eval()
    spec = backbone.reads
    items = [item(spec, samples) for samples in (4000, 6400, 1333)]
    together = backbone.features(backbone.module, AUDIO.collate(spec, items))
    for place, each in enumerate(items):
        alone = backbone.features(backbone.module, AUDIO.collate(spec, [each]))
        if wanted == "pooled":
            assert torch.allclose(alone.pooled[0], together.pooled[place], atol=1e-5)
        else:
            real = together.tokens[place][together.mask[place]]
            assert torch.allclose(alone.tokens[0], real, atol=1e-5)


def test_lengths_are_refused_that_padding_would_change():
    with pytest.raises(ValueError, match="would depend on the others of its batch"):
        made("wav2vec2", seconds=None)
    with pytest.raises(ValueError, match="reads no waves"):
        audio_transformers(name="bert", init="none", kwargs={})
    with pytest.raises(ValueError, match="is no entry of a wav2vec2 config"):
        made("wav2vec2", kwargs={"hiden_size": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drawn_but_dropout_and_what_is_frozen_has_no_backward_pass(kind):
    backbone = made(kind, dropout=0.0)
    torch.manual_seed(0)
    wave = torch.randn(2, 1600)
    first, second = (backbone.module.train()(wave) for _ in range(2))
    assert torch.equal(first, second)
    for name, parameter in backbone.module.named_parameters():
        parameter.requires_grad_("layers.2" in name)
    seen = []
    backbone.module.model.feature_extractor.register_forward_hook(
        lambda _m, _i, out: seen.append(out.requires_grad)
    )
    backbone.module(wave)
    assert seen == [False]


@pytest.mark.parametrize("kind", ["wav2vec2", "data2vec-audio"])
def test_a_folder_gives_what_the_library_gives(kind, tmp_path):
    """Waves levelled as the library's own feature extractor does, states to the last bit."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES)
    theirs = AutoModel.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=True)
    extractor.save_pretrained(tmp_path)
    backbone = audio_transformers(Wanted(features="frame"), name=str(tmp_path), seconds=0.1)
    spec = backbone.reads
    assert (spec.rate, spec.level) == (8000, "item")
    wave = 3 + torch.randn(800)
    given = AUDIO.encoder(spec, [], train=False)(
        {"id": "a", "input": Sound(wave.numpy(), 8000), "target": 0}
    )["input"]
    wanted = extractor(wave.numpy(), sampling_rate=8000, return_tensors="pt").input_values
    assert torch.allclose(given[None], wanted, atol=1e-5)
    backbone.module.eval()
    with torch.no_grad():
        found = backbone.features(backbone.module, wanted).tokens
        assert torch.equal(found, theirs(wanted).last_hidden_state)


def test_frames_are_as_many_as_the_library_counts():
    backbone = made("wav2vec2")
    model = backbone.module.model
    for samples in (100, 399, 400, 1600, 12345):
        counted = int(model._get_feat_extract_output_lengths(torch.tensor(samples)))
        assert backbone.reads.frames_of(samples) == counted
