"""Recordings are read rightly, or named with a reason before training."""

import io
import struct

import numpy as np
import pytest
import torch

from tlx.data.audio import read
from tlx.data.audio.folder import audio_folder
from tlx.data.audio.near import map_of, near_sounds
from tlx.data.audio.read import BadSound, Sound, load_sound, resampled

soundfile = pytest.importorskip("soundfile")
RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    time = np.arange(int(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def written(samples, rate=RATE, format="WAV", subtype=None):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def by_av(samples, container, codec, rate=48000):
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        track = out.add_stream(codec, rate=rate)
        track.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = rate
        for packet in [*track.encode(frame), *track.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def away(found, samples):
    """Largest difference of what both hold, whatever an encoder's delay: the best of some."""
    return min(
        float(np.abs(found[lag : lag + 4000] - samples[1000:5000]).max())
        for lag in range(0, min(4000, len(found) - 4000))
    )


@pytest.mark.parametrize(
    ("format", "subtype", "within"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "ULAW", 2e-2),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
        ("AIFF", "PCM_16", 1e-4),
        ("AU", "PCM_16", 1e-4),
        ("CAF", "PCM_16", 1e-4),
        ("W64", "PCM_16", 1e-4),
        ("RF64", "PCM_16", 1e-4),
    ],
)
def test_lossless_formats(format, subtype, within):
    samples = tone()
    found = load_sound(written(samples, format=format, subtype=subtype))
    assert found.rate == RATE
    assert len(found.samples) == len(samples)
    assert np.abs(found.samples - samples).max() <= within


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_lossy_formats(format):
    samples = tone()
    found = load_sound(written(samples, format=format))
    assert found.rate == RATE
    assert abs(len(found.samples) - len(samples)) < 0.1 * RATE
    assert away(found.samples, samples) < 0.03


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("webm", "libopus")])
def test_formats_of_ffmpeg(container, codec):
    samples = tone(rate=48000)
    found = load_sound(by_av(samples, container, codec))
    assert found.rate == 48000
    assert abs(len(found.samples) - len(samples)) < 0.1 * 48000
    assert away(found.samples, samples) < 0.05  # coding, and half a sample of phase


def test_channels_are_mixed_down():
    left, right = tone(hertz=300), tone(hertz=500)
    found = load_sound(written(np.stack([left, right], 1), subtype="FLOAT"))
    assert np.allclose(found.samples, (left + right) / 2, atol=1e-7)


def riff(data, rate=RATE, size=None):
    """A WAV of 16 bits whose header may say something else than there is."""
    size = len(data) if size is None else size
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
    head = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 4 + len(head) + len(data)) + b"WAVE" + head + data


def whole_numbers(samples):
    return (samples * 32767).astype("<i2").tobytes()


BAD = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"This is a text and no sound at all, whatever its name.\n", "cannot be dec"),
    "no_frames": (lambda: riff(b""), "is empty: 0 samples"),
    "silent": (lambda: written(np.zeros(800, dtype=np.float32)), "is silent"),
    "cut_wav": (lambda: written(tone())[:9000], "is cut short"),
    "cut_aiff": (lambda: written(tone(), format="AIFF")[:9000], "is cut short"),
    "cut_flac": (lambda: written(noise(), format="FLAC")[:9000], "cut short|cannot be decoded"),
    "cut_ogg": (lambda: written(noise(3), format="OGG")[:-3000], "cut short|cannot be decoded"),
    "cut_mp3": (lambda: written(noise(3), format="MP3")[:9000], "is cut short"),
    "length": (lambda: riff(whole_numbers(tone()), size=10**6), "is cut short"),
    "no_rate": (lambda: riff(whole_numbers(tone()), rate=0), "rate|cannot be decoded"),
    "odd_rate": (lambda: riff(whole_numbers(tone()), rate=7), "has no usable rate"),
    "antiphase": (lambda: written(np.stack([tone(), -tone()], 1)), "cancel each other out"),
    "nan": (lambda: written(np.full(800, np.nan, np.float32), subtype="FLOAT"), "no numbers"),
    "head_only": (lambda: written(tone())[:20], "cannot be decoded"),
}


def noise(seconds=1.0):
    return (0.2 * np.random.default_rng(0).standard_normal(int(RATE * seconds))).astype(np.float32)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_a_reason(name):
    make, reason = BAD[name]
    with pytest.raises(BadSound, match=reason):
        load_sound(make())


ODD = {
    "bits8": lambda: written(tone(), subtype="PCM_U8"),
    "bits24": lambda: written(tone(), subtype="PCM_24"),
    "float": lambda: written(3 * tone(), subtype="FLOAT"),
    "high_rate": lambda: written(tone(rate=96000), rate=96000),
    "offset": lambda: written(0.2 + 0.5 * tone()),
    "clipping": lambda: written(np.clip(9 * tone(), -1, 1)),
    "short": lambda: written(tone(0.01)),
    "streamed": lambda: riff(whole_numbers(tone()), size=0xFFFFFFFF),
    "stereo": lambda: written(np.stack([tone(), 0 * tone()], 1)),
    "odd_chunk": lambda: written(tone())[:-1] + b"\0LIST\4\0\0\0abcd",
    "Größe – 音": lambda: written(tone()),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_read(name):
    found = load_sound(ODD[name]())
    assert 0.009 < found.seconds < 0.51
    assert np.isfinite(found.samples).all()


def test_all_bad_files_are_told_at_once(tmp_path):
    for place, (name, (make, _)) in enumerate(BAD.items()):
        path = tmp_path / "ab"[place % 2] / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make())
    for name, make in ODD.items():
        for label in "ab":
            (tmp_path / label / f"{name} {label}.wav").write_bytes(make())
    with pytest.raises(ValueError, match=f"{len(BAD)} of .* recordings cannot be used") as error:
        audio_folder(root=str(tmp_path))
    assert all(f"{name}.wav" in str(error.value) for name in BAD)
    made = audio_folder(root=str(tmp_path), on_bad_file="skip")
    assert len(made.notes["quarantined"]) == len(BAD)
    assert sum(map(len, made.named.values())) == 2 * len(ODD)


@pytest.mark.parametrize("place", [192, 193, 196])
def test_words_of_a_length_that_are_none_are_passed_over(place):
    """`Info` may stand anywhere in the first frame of an MP3, and what follows it be missing."""
    data = b"\xff\xfb".ljust(place, b"\0") + b"Info"
    assert read._mp3_sizes(data.ljust(400, b"\0")) == (0, 0)
    assert read._mp3_sizes(data) == (0, 0)


def test_an_hour_is_read():
    seconds = 3600
    samples = np.resize(tone(1.0, rate=8000), seconds * 8000)
    found = load_sound(written(samples, rate=8000, format="FLAC"))
    assert found.seconds == seconds


def test_what_is_missing_says_what_to_install(monkeypatch):
    read._library.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(ImportError, match="pip install soundfile soxr av"):
        load_sound(written(tone()))
    read._library.cache_clear()


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (48000, 16000), (8000, 16000)])
def test_resampling_is_exact_in_band(rate, wanted):
    """Below -100 dB, where the tone is in the band of both."""
    found = resampled(tone(1.0, rate, 1000.0), rate, wanted)
    error = (found - tone(1.0, wanted, 1000.0)[: len(found)])[wanted // 10 : -wanted // 10]
    assert 20 * np.log10(np.abs(error).max() / 0.4) < -100


def test_near_copies_are_found():
    """Of one recording resampled, fainter, in MP3; other noise is another recording."""
    generator = torch.Generator().manual_seed(0)

    def babble():
        loud = torch.rand(12, generator=generator).repeat_interleave(RATE // 12)[:, None]
        return (loud[:, 0] * torch.randn(len(loud), generator=generator) * 0.2).numpy()

    one, other = babble(), babble()
    copies = [
        Sound(one, RATE),
        Sound(0.1 * one, RATE),
        Sound(resampled(one, RATE, 8000), 8000),
        load_sound(written(one, format="MP3")),
        Sound(other, RATE),
    ]
    pairs = {(a, b) for a, b, _ in near_sounds([map_of(each) for each in copies])}
    assert pairs >= {(0, 1), (0, 2), (1, 2)}
    assert not any(4 in pair for pair in pairs)
