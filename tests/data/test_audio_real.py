"""Real recordings: what is told by their MFCCs, and that formats of one recording agree."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tlx.data.audio.folder import audio_folder
from tlx.data.audio.inputs import features
from tlx.data.audio.read import EXTENSIONS, load_sound, resampled
from tlx.data.audio.spec import AudioSpec

REAL = os.environ.get("TLX_REAL_DATA")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(REAL is None, reason="TLX_REAL_DATA is not set"),
]
SPEC = AudioSpec(rate=16000, seconds=None, front_end="mfcc", bands=40)


def parts_of(split, parts):
    """Mean and deviation of the coefficients in each of some parts of a recording; and classes."""
    rows = []
    for sample in split:
        wave = resampled(sample["input"].samples, sample["input"].rate, SPEC.rate)
        frames = features(torch.from_numpy(wave.copy()), SPEC)
        some = [part for part in torch.tensor_split(frames, parts)]
        rows.append(torch.cat([torch.cat([p.mean(0), p.std(0)]) for p in some]).numpy())
    return np.stack(rows), np.array(split.targets)


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "least"), [(1, 0.747), (8, 0.973)])
def test_keywords_are_told_by_mfccs_and_logistic_regression(parts, least):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = audio_folder(root=f"{REAL}/keywords")
    solver = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    train, val = parts_of(made.train, parts), parts_of(made.val, parts)
    solver.fit(np.concatenate([train[0], val[0]]), np.concatenate([train[1], val[1]]))
    assert solver.score(*parts_of(made.test, parts)) >= least


def test_formats_of_one_recording_agree():
    by_name = {}
    for path in Path(REAL, "ljspeech8").rglob("*"):
        if path.suffix.lower() in EXTENSIONS:
            by_name.setdefault(path.stem, {})[path.suffix.lower()] = load_sound(path)
    several = {name: made for name, made in by_name.items() if len(made) > 1}
    assert several
    for made in several.values():
        flac, wav, mp3 = (made[suffix] for suffix in (".flac", ".wav", ".mp3"))
        assert flac.rate == wav.rate == mp3.rate
        assert np.array_equal(flac.samples, wav.samples)
        assert abs(len(mp3.samples) - len(wav.samples)) < 0.1 * wav.rate
        heard = wav.samples[wav.rate : 2 * wav.rate]
        found = np.correlate(mp3.samples[: 3 * mp3.rate], heard, "valid")
        lag = int(found.argmax())
        error = mp3.samples[lag : lag + len(heard)] - heard
        assert np.square(error).mean() < 0.03 * np.square(heard).mean()  # its coding error
