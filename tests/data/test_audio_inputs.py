"""Recordings become waves or frames that do not depend on the batch, and whose lengths are told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tlx.data.audio import augment
from tlx.data.audio.inputs import AUDIO, features, fitted_to, picture
from tlx.data.audio.read import Sound
from tlx.data.audio.spec import AudioSpec
from tlx.data.audio.vowels import VOWELS, vowels
from tlx.data.items import Pool
from tlx.training.reuse.transform import item_keys

WAV2VEC2 = {"kernels": (10, 3, 3, 3, 3, 2, 2), "strides": (5, 2, 2, 2, 2, 2, 2)}
SPECS = {
    "waveform": AudioSpec(rate=16000, seconds=None, front_end="waveform"),
    "strided": AudioSpec(rate=16000, seconds=None, front_end="waveform", level="item", **WAV2VEC2),
    "log_mel": AudioSpec(rate=16000, seconds=None, front_end="log_mel"),
    "mfcc": AudioSpec(rate=8000, seconds=None, front_end="mfcc", bands=23, slopes=2),
    "fbank": AudioSpec(rate=16000, seconds=None, front_end="fbank"),
    "stacked": AudioSpec(rate=16000, seconds=None, front_end="log_mel", stack=3, level="item"),
}


def sound(samples, rate=16000, seed=0):
    values = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    return Sound(0.1 * values, rate)


def encoded(spec, raw, *augmentations, train=False):
    encoder = AUDIO.encoder(spec, augmentations, train=train)
    return encoder({"id": "a", "input": raw, "target": 0})["input"]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("samples", [1, 399, 400, 401, 3200, 16001])
def test_frames_are_as_many_as_told(name, samples):
    spec = SPECS[name]
    raw = sound(samples, spec.rate)
    item = encoded(spec, raw)
    pool = Pool(["a"], [0], [""], [raw])
    told = fitted_to(spec, pool).frames[0]
    batch = AUDIO.collate(spec, [item])
    assert batch["real"].shape == (1, told)
    assert torch.isfinite(item).all()
    if spec.front_end == "waveform":
        assert spec.frames_of(len(item)) == told
        assert spec.samples_of(told) == len(item)
        if spec.kernels and samples >= spec.samples_of(1):
            out = item[None, None]
            for kernel, stride in zip(spec.kernels, spec.strides, strict=True):
                out = torch.nn.functional.conv1d(out, torch.ones(1, 1, kernel), stride=stride)
            assert out.shape[-1] == told
    else:
        assert item.shape == (told, spec.width)


@pytest.mark.parametrize("name", SPECS)
def test_batches_are_padded_to_any_length_and_masked(name):
    spec = SPECS[name]
    items = [encoded(spec, sound(n, spec.rate, n)) for n in (8000, 3000)]
    batch = AUDIO.collate(spec, items)
    padding = AUDIO.padding(spec)
    lengths = padding.mask(batch).sum(1)
    assert lengths[0] == batch["real"].shape[1] > lengths[1]
    longer = padding.pad(batch, int(lengths[0]) + 3)
    again = padding.pad(longer, int(lengths[0]))
    assert all(torch.equal(again[key], batch[key]) for key in batch)
    assert torch.equal(padding.mask(longer).sum(1), lengths)


def test_items_that_keep_their_lengths_keep_their_keys():
    """By which stored activations find a recording again, whatever else the data holds."""
    made = vowels(utterances=1)
    fitted = AUDIO.fit(SPECS["mfcc"], made)
    assert item_keys(fitted.train, fitted) == list(made.train.keys)


def test_items_of_one_length_are_cropped_at_the_centre_or_padded_with_silence():
    spec = AudioSpec(rate=16000, seconds=0.1, front_end="waveform")
    long, short = sound(3000), sound(900)
    assert torch.equal(encoded(spec, long), torch.from_numpy(long.samples[700:2300]))
    item = encoded(spec, short)
    assert torch.equal(item[:900], torch.from_numpy(short.samples))
    assert not item[900:].any()
    assert AUDIO.padding(spec) is None
    assert AUDIO.collate(spec, [item, item]).shape == (2, 1600)


def test_the_longest_recording_to_train_on_tells_the_length():
    spec = AudioSpec(rate=16000, seconds=0, front_end="log_mel")
    pool = Pool(["a", "b"], [0, 1], ["", ""], [sound(3200), sound(800)])
    learnt = AUDIO.learn(spec, lambda: AUDIO.corpus(pool))
    assert learnt.seconds == pytest.approx(0.2)


def test_an_item_is_levelled_before_it_is_padded():
    spec = AudioSpec(rate=16000, seconds=0.1, front_end="waveform", level="item")
    item = encoded(spec, Sound(3 + 7 * sound(900).samples, 16000))
    assert item[:900].mean().abs() < 1e-5
    assert item[:900].std(correction=0) == pytest.approx(1, abs=1e-4)
    assert not item[900:].any()


def test_other_rates_are_resampled():
    time = np.arange(22050) / 22050
    tone = Sound(np.sin(2 * np.pi * 500 * time).astype(np.float32), 22050)
    spec = AudioSpec(rate=8000, seconds=1.0, front_end="waveform")
    wanted = torch.sin(2 * torch.pi * 500 * torch.arange(8000).double() / 8000)
    assert (encoded(spec, tone) - wanted)[800:-800].abs().max() < 1e-4


def test_an_image_has_its_bands_as_height():
    spec = AudioSpec(rate=16000, seconds=0.5, front_end="log_mel", as_image=True, bands=64)
    item = encoded(spec, sound(8000))
    assert item.shape == (1, 64, spec.frames_of(8000))
    assert torch.equal(item[0].T, encoded(replace(spec, as_image=False), sound(8000)))
    example = AUDIO.example(spec, items=2, device=torch.device("meta"))
    assert example.shape == (2, *item.shape)


@pytest.mark.parametrize("name", SPECS)
def test_examples_have_the_shapes_of_batches(name):
    spec = SPECS[name]
    made = AUDIO.example(spec, items=2, device=torch.device("meta"))
    batch = AUDIO.collate(spec, [encoded(spec, sound(spec.samples_of(8), spec.rate))] * 2)
    assert {key: (value.ndim, value.dtype) for key, value in made.items()} == {
        key: (value.ndim, value.dtype) for key, value in batch.items()
    }
    assert made["sound"].shape[2:] == batch["sound"].shape[2:]


AUGMENTATIONS = [
    augment.gain(),
    augment.shift(seconds=0.05),
    augment.speed(),
    augment.noise(),
    augment.noise(pink=False),
    augment.spec_augment(),
    augment.random_part(),
]


@pytest.mark.parametrize("one", AUGMENTATIONS, ids=lambda one: one.name)
def test_augmentations_change_training_items_by_torchs_draws_alone(one):
    spec = AudioSpec(rate=16000, seconds=0.3, front_end="log_mel", as_image=True)
    raw = sound(16000)
    plain = encoded(spec, raw)
    torch.manual_seed(0)
    first, second = (encoded(spec, raw, one, train=True) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(encoded(spec, raw, one, train=True), first)
    assert first.shape == plain.shape
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)
    assert torch.equal(encoded(spec, raw, one), plain)
    assert AUDIO.encoder(spec, [one], train=True).random
    assert np.array_equal(raw.samples, sound(16000).samples)


def test_augmentations_do_what_they_say():
    wave = torch.from_numpy(sound(16000).samples)
    torch.manual_seed(1)
    louder = augment.gain(decibels=20).make(wave, 16000)
    ratio = louder / wave
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-4)
    noisy = augment.noise(least=20, most=20).make(wave, 16000) - wave
    above = 10 * (wave.square().mean() / noisy.square().mean()).log10()
    assert above == pytest.approx(20, abs=0.01)
    for factor in (0.8, 1.25):
        played = augment.speed(least=min(factor, 1), most=max(factor, 1)).make
        lengths = {len(played(wave, 16000)) for _ in range(20)}
        assert min(lengths) >= 16000 / max(factor, 1) - 200
        assert max(lengths) <= 16000 / min(factor, 1) + 200
    masked = augment.spec_augment(time_masks=1, band_masks=1, time_share=1, band_share=1)
    frames = torch.randn(50, 20)
    changed = masked.make(frames) != frames
    hidden = changed.all(1)[:, None] | changed.all(0)[None, :]
    assert torch.equal(changed, hidden)


def test_an_augmentation_that_does_not_fit_is_refused():
    spec = SPECS["waveform"]
    with pytest.raises(ValueError, match="spec_augment acts on the bands"):
        AUDIO.encoder(spec, [augment.spec_augment()], train=True)
    with pytest.raises(ValueError, match="each choose the part"):
        AUDIO.encoder(spec, [augment.random_part()] * 2, train=True)


def test_vowels_are_the_same_again_and_keep_speakers_apart():
    made = vowels(utterances=1)
    assert made.labels.names == VOWELS
    groups = {name: set(split.groups) for name, split in made.named.items()}
    assert [len(groups[name]) for name in ("train", "val", "test")] == [11, 3, 6]
    assert not groups["train"] & groups["test"]
    assert made.fingerprint == vowels(utterances=1).fingerprint
    noisy = {name: vowels(utterances=1, noise=name) for name in ("hum", "babble", "white")}
    assert len({each.fingerprint for each in noisy.values()} | {made.fingerprint}) == 4
    clean = made.test[0]["input"].samples
    for each in noisy.values():
        difference = each.test[0]["input"].samples - clean
        above = 10 * np.log10(np.square(clean).mean() / np.square(difference).mean())
        assert above == pytest.approx(10, abs=0.1)


def test_vowels_can_be_told_by_their_mfccs():
    """By logistic regression on means and deviations, of speakers that it has not heard."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    spec = AudioSpec(rate=16000, seconds=None, front_end="mfcc", bands=40)
    made = vowels(utterances=2)

    def table(split):
        items = [features(torch.from_numpy(s["input"].samples), spec) for s in split]
        rows = [torch.cat([item.mean(0), item.std(0)]).numpy() for item in items]
        return np.stack(rows), np.array(split.targets)

    solver = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    solver.fit(*table(made.train))
    assert solver.score(*table(made.test)) > 0.85


def test_a_picture_shows_a_tone_at_its_height():
    time = np.arange(16000) / 16000
    low, high = (
        Sound(np.sin(2 * np.pi * hertz * time).astype(np.float32), 16000) for hertz in (300, 5000)
    )
    rows = [np.asarray(picture(each)).mean(1).argmax() for each in (low, high)]
    assert rows[0] > rows[1]
