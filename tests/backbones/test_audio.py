"""Networks of sound: groups, batches, pooling of what is real."""

import pytest
import torch

from tlx.backbones.audio.recurrent import acoustic_model
from tlx.backbones.audio.spectrogram import timm_audio
from tlx.backbones.backbone import Wanted
from tlx.data.audio.inputs import AUDIO

SMALL = {"width": 6, "layers": 2, "dropout": 0.3}


def made(name, wanted="pooled", **more):
    if name == "acoustic_model":
        return acoustic_model(Wanted(features=wanted), **{**SMALL, **more})
    return timm_audio(name=name, init="none", bands=32, seconds=0.5, **more)


NAMES = ["acoustic_model", "test_resnet", "test_vit", "test_convnext"]


@pytest.mark.parametrize("name", NAMES)
def test_groups_hold_each_parameter_once_in_order(name):
    backbone = made(name)
    for groups in (backbone.groups, backbone.fine_groups):
        names = [n for group in groups for n in group.parameters]
        assert sorted(names) == sorted(n for n, _ in backbone.module.named_parameters())
        assert [group.level for group in groups] == sorted({group.level for group in groups})
    assert max(group.level for group in backbone.fine_groups) <= backbone.head_level


def item(spec, samples, seed=0):
    wave = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    from tlx.data.audio.read import Sound

    encoder = AUDIO.encoder(spec, [], train=False)
    return encoder({"id": "a", "input": Sound(wave.numpy(), spec.rate), "target": 0})["input"]


@pytest.mark.parametrize("name", NAMES)
def test_an_item_alone_is_as_in_a_batch(name):
    backbone = made(name)
    backbone.module.eval()
    spec = backbone.reads
    items = [item(spec, samples, samples) for samples in (4000, 9000, 1200)]
    together = backbone.features(backbone.module, AUDIO.collate(spec, items)).pooled
    assert together.shape == (3, backbone.dims["pooled"])
    for place, each in enumerate(items):
        alone = backbone.features(backbone.module, AUDIO.collate(spec, [each])).pooled
        assert torch.allclose(alone[0], together[place], atol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_states_of_padding_change_nothing(bidirectional):
    backbone = made("acoustic_model", "frame", bidirectional=bidirectional)
    backbone.module.eval()
    spec = backbone.reads
    batch = AUDIO.collate(spec, [item(spec, 4000), item(spec, 9000)])
    before = backbone.features(backbone.module, batch)
    batch["sound"] = batch["sound"].masked_fill(~batch["real"][..., None], 1e3)
    after = backbone.features(backbone.module, batch)
    assert torch.equal(before.mask, batch["real"])
    assert torch.allclose(before.tokens[before.mask], after.tokens[after.mask], atol=1e-6)


@pytest.mark.parametrize("front_end", ["mfcc", "log_mel", "fbank"])
@pytest.mark.parametrize("stack", [1, 3])
def test_the_meta_device_shows_its_shapes(front_end, stack):
    with torch.device("meta"):
        backbone = made("acoustic_model", front_end=front_end, stack=stack)
    inputs = AUDIO.example(backbone.reads, items=2, device=torch.device("meta"))
    assert backbone.features(backbone.module, inputs).pooled.shape == (2, 12)


def test_vision_transformers_take_whole_patches():
    backbone = made("test_vit")
    channels, bands, frames = AUDIO.example(
        backbone.reads, items=1, device=torch.device("cpu")
    ).shape[1:]
    assert (channels, bands) == (1, 32)
    assert frames % 16 == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"front_end": "log_mel", "bands": 300}, "hold no frequency"),
        ({"coefficients": 41}, "more than backbone.bands=40"),
        ({"init": "hub"}, "no weights of an acoustic model are known on the hub"),
        ({"init": "nowhere.safetensors"}, "is no file"),
    ],
)
def test_what_cannot_be_is_refused(more, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        acoustic_model(**more)
    assert made("test_vit").reads.seconds < 0.5
    with pytest.raises(ValueError, match="is above half the rate"):
        timm_audio(name="test_resnet", init="none", high=9000.0)
    with pytest.raises(ValueError, match="fewer frames than a patch"):
        timm_audio(name="test_vit", init="none", bands=32, seconds=0.05)
    with pytest.raises(ValueError, match="no multiple of the patch size"):
        timm_audio(name="test_vit", init="none", bands=40)
