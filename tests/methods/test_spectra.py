"""Spectral features are those of librosa and of Kaldi."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tlx.methods import spectra
from tlx.methods.spectra import MelForm

librosa = pytest.importorskip("librosa")

BASE = MelForm(rate=16000, window=400, hop=160, mels=40)
FORMS = [
    BASE,
    replace(BASE, mels=80),
    replace(BASE, scale="htk"),
    replace(BASE, scale="htk", even=False),
    replace(BASE, even=False),
    replace(BASE, transform=512),
    replace(BASE, transform=1024, mels=128),
    replace(BASE, low=20.0),
    replace(BASE, low=60.0, high=7600.0),
    replace(BASE, high=4000.0, mels=23),
    replace(BASE, rate=8000, window=200, hop=80, mels=23),
    replace(BASE, rate=8000, window=256, hop=128, mels=20, scale="htk"),
    replace(BASE, rate=22050, window=1024, hop=256, mels=80, high=8000.0),
    replace(BASE, rate=22050, window=2048, hop=512, mels=128),
    replace(BASE, rate=44100, window=2048, hop=441, mels=64, scale="htk", even=False),
    replace(BASE, rate=48000, window=1200, hop=480, mels=64, transform=2048),
    replace(BASE, hop=400),
    replace(BASE, window=512, hop=200, mels=13),
    replace(BASE, window=401, hop=161, mels=30),
    replace(BASE, rate=11025, window=300, hop=100, mels=26, low=100.0, high=5000.0),
]
SECONDS = 0.7


def sound(rate: int, seed: int = 0) -> np.ndarray:
    """Three tones that glide, a click, and noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(SECONDS * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time * (1 + 0.2 * time)) for f in (130, 700, 2900))
    wave = 0.2 * tones + 0.01 * generator.standard_normal(len(time))
    wave[len(wave) // 2] += 0.5
    return wave.astype(np.float32)


def theirs(form: MelForm, wave: np.ndarray) -> np.ndarray:
    """librosa's power of the mel bands."""
    return librosa.feature.melspectrogram(
        y=wave,
        sr=form.rate,
        n_fft=form.points,
        win_length=form.window,
        hop_length=form.hop,
        pad_mode="constant",
        n_mels=form.mels,
        fmin=form.low,
        fmax=form.top,
        htk=form.scale == "htk",
        norm="slaney" if form.even else None,
    )


def away(found: torch.Tensor, wanted: np.ndarray) -> float:
    """Largest difference, of the largest value."""
    assert tuple(found.shape) == wanted.shape
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("form", FORMS)
def test_as_librosa(form: MelForm) -> None:
    """Bands, and the coefficients of as many as there are bands, up to 20."""
    wave = sound(form.rate)
    power = theirs(form, wave)
    ours = torch.from_numpy(wave)[None]
    assert away(spectra.mel_power(ours, form)[0], power) < 1e-5
    assert away(spectra.log_mel(ours, form)[0], np.log(np.maximum(power, 1e-10))) < 1e-5
    count = min(20, form.mels)
    wanted = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=count)
    assert away(spectra.mfcc(ours, form, coefficients=count)[0], wanted) < 1e-5


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_slopes_as_librosa(reach: int) -> None:
    """Its Savitzky-Golay filter of the first order is the regression."""
    values = np.random.default_rng(1).standard_normal((13, 40)).astype(np.float32)
    wanted = librosa.feature.delta(values, width=2 * reach + 1, mode="nearest")
    assert away(spectra.slopes(torch.from_numpy(values)[None], reach=reach)[0], wanted) < 1e-5


@pytest.mark.parametrize(
    ("rate", "mels", "low", "high"),
    [(16000, 80, 20.0, None), (16000, 40, 20.0, None), (16000, 64, 0.0, 7600.0), (8000, 23, 20, 0)],
)
@pytest.mark.parametrize("scaled", [1.0, 32768.0])
def test_as_kaldi(rate: int, mels: int, low: float, high: float | None, scaled: float) -> None:
    """Its log filter banks, of samples as whole numbers and as shares of 1."""
    knf = pytest.importorskip("kaldi_native_fbank")
    form = MelForm(rate, rate // 40, rate // 100, mels, low=low, high=high or None)
    wave = sound(rate) * np.float32(scaled)
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = mels
    options.mel_opts.low_freq = low
    options.mel_opts.high_freq = high or 0
    kaldi = knf.OnlineFbank(options)
    kaldi.accept_waveform(rate, wave.tolist())
    kaldi.input_finished()
    wanted = np.stack([kaldi.get_frame(i) for i in range(kaldi.num_frames_ready)], axis=1)
    found = spectra.kaldi_banks(torch.from_numpy(wave)[None], form)[0]
    assert found.shape[1] == spectra.kaldi_frames(len(wave), form)
    assert np.abs(found.numpy() - wanted).max() < 1e-3


def test_items_do_not_depend_on_each_other() -> None:
    """A quiet item beside a loud one keeps its own 80 decibels."""
    loud = torch.from_numpy(sound(16000))
    quiet = torch.from_numpy(sound(16000, seed=1)) * 1e-4
    both = spectra.mfcc(torch.stack([loud, quiet]), BASE, coefficients=13)
    alone = spectra.mfcc(quiet[None], BASE, coefficients=13)
    assert torch.allclose(both[1], alone[0], rtol=1e-5, atol=1e-4)


def test_more_bands_than_frequencies_are_refused() -> None:
    """librosa warns, and gives bands of nothing."""
    with pytest.raises(ValueError, match="hold no frequency"):
        spectra.mel_power(torch.zeros(1, 4000), replace(BASE, mels=200))
