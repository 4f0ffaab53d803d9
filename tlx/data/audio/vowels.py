"""Data that needs no download: vowels of twenty made-up speakers, by formant synthesis.

A train of pulses at the pitch of a voice, with the fall of a glottis' spectrum and some breath,
goes through four resonators (Klatt 1980, "Software for a cascade/parallel formant synthesizer").
Mean formants are those of men, women and children (Peterson and Barney 1952, "Control methods used
in a study of the vowels", table II). It is synthesis and sounds like it; what it is good for is
that each speaker has a pitch, a length of the vocal tract and a noise of its own.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Annotated, Literal, Unpack, final

import numpy as np
import numpy.typing as npt

from tlx.base.ranges import Range
from tlx.data.audio.inputs import AUDIO
from tlx.data.audio.near import map_of
from tlx.data.audio.read import Samples, Sound
from tlx.data.audio.scan import MEDIUM, sound_key
from tlx.data.divide import divide
from tlx.data.draw import Draw, Few
from tlx.data.items import Pool
from tlx.data.splits import Labels, Splits

MODALITY = "audio"
Exact = npt.NDArray[np.float64]
RATE = 16000
VOWELS = ("a", "ae", "e", "er", "i", "o", "u", "uh")
FORMANTS = {  # Hz of the first three, of men, women, children
    "a": ((730, 1090, 2440), (850, 1220, 2810), (1030, 1370, 3170)),
    "ae": ((660, 1720, 2410), (860, 2050, 2850), (1010, 2320, 3320)),
    "e": ((530, 1840, 2480), (610, 2330, 2990), (690, 2610, 3570)),
    "er": ((490, 1350, 1690), (500, 1640, 1960), (560, 1820, 2160)),
    "i": ((270, 2290, 3010), (310, 2790, 3310), (370, 3200, 3730)),
    "o": ((570, 840, 2410), (590, 920, 2710), (680, 1060, 3180)),
    "u": ((300, 870, 2240), (370, 950, 2670), (430, 1170, 3260)),
    "uh": ((640, 1190, 2390), (760, 1400, 2780), (850, 1590, 3360)),
}
WIDTHS = (90.0, 110.0, 170.0, 250.0)
"""Hz: bandwidths of the resonators."""
PITCH = ((95.0, 145.0), (180.0, 245.0), (240.0, 320.0))
FOURTH = (3500.0, 4000.0, 4600.0)
SPEAKERS = 20
TESTED = 6
"""Speakers of the test, the last ones; of whom each kind of voice has some."""
VALIDATED = 3
Noise = Literal["none", "hum", "babble", "white"]


@final
@dataclass(frozen=True)
class Speaker:
    """A made-up voice.

    Attributes:
        kind: 0, 1, 2: of a man, a woman, a child.
        pitch: Hz.
        tract: what formants are multiplied with.
        breath: loudness of noise in the source, of the pulses'.
        tilt: how strongly high frequencies fall, 0 to 1.
    """

    kind: int
    pitch: float
    tract: float
    breath: float
    tilt: float


def vowels(
    *,
    utterances: Annotated[int, Range(least=1, most=100)] = 4,
    noise: Noise = "none",
    decibels: Annotated[float, Range(least=-20, most=60)] = 10.0,
    **draw: Unpack[Few],
) -> Splits:
    """Eight vowels of twenty made-up speakers; six speakers are the test, three validation.

    Args:
        utterances: of each vowel by each speaker.
        noise: that every recording is in: mains `hum` with harmonics, `babble` of other voices,
            `white`.
        decibels: of the voice above it.
        draw: see `Draw`; groups are speakers.
    """
    whole = _recordings(utterances, noise, decibels)
    undivided = draw.get("folds") is not None
    places: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for place, group in enumerate(whole.groups):
        places["train" if undivided else _split_of(group)].append(place)
    return divide(
        {name: whole.take(some) for name, some in places.items() if some},
        Labels("single", VOWELS),
        draw=Draw(**draw),
        medium=MEDIUM,
        inputs=AUDIO,
    )


def _split_of(group: str) -> str:
    from_end = SPEAKERS - int(group.removeprefix("s"))
    if from_end <= TESTED:
        return "test"
    return "val" if from_end <= TESTED + VALIDATED else "train"


@lru_cache(maxsize=4)
def _recordings(utterances: int, noise: Noise, decibels: float) -> Pool:
    """All of them, speaker by speaker, vowel by vowel; groups are speakers."""
    ids, targets, sounds, groups = [], [], [], []
    for number, (label, vowel), take in product(
        range(SPEAKERS), enumerate(VOWELS), range(utterances)
    ):
        draw = np.random.Generator(np.random.PCG64([number, label, take]))
        wave = _in_noise(utterance(speaker_of(number), vowel, draw), noise, decibels, draw)
        ids.append(f"s{number:02d}-{vowel}-{take}")
        targets.append(label)
        sounds.append(Sound(wave, RATE))
        groups.append(f"s{number:02d}")
    return Pool(
        ids=ids,
        targets=targets,
        keys=[sound_key(sound) for sound in sounds],
        inputs=sounds,
        marks=[map_of(sound) for sound in sounds],
        groups=groups,
    )


def speaker_of(number: int) -> Speaker:
    """The voice of a number; kinds follow each other."""
    draw = np.random.Generator(np.random.PCG64([number]))
    kind = number % 3
    return Speaker(
        kind=kind,
        pitch=float(draw.uniform(*PITCH[kind])),
        tract=float(draw.uniform(0.93, 1.07)),
        breath=float(draw.uniform(0.01, 0.15)),
        tilt=float(draw.uniform(0.85, 0.97)),
    )


def utterance(speaker: Speaker, vowel: str, draw: np.random.Generator) -> Samples:
    """A vowel of a quarter to half a second, at a level of its own.

    Args:
        speaker: whose.
        vowel: of VOWELS.
        draw: of pitch, length, level and how the formants differ from the speaker's mean.
    """
    from scipy.signal import lfilter

    length = int(RATE * draw.uniform(0.25, 0.5))
    time = np.arange(length) / RATE
    glide = 1 + draw.uniform(-0.12, 0.12) * time / time[-1] + 0.01 * np.sin(2 * np.pi * 5.5 * time)
    phase = np.cumsum(speaker.pitch * draw.uniform(0.93, 1.07) * glide) / RATE
    source = np.diff(np.floor(phase), prepend=0.0)
    source = lfilter([1.0], [1.0, -speaker.tilt], source)
    source = source + speaker.breath * draw.standard_normal(length)
    wave: Exact = source
    centres = [*FORMANTS[vowel][speaker.kind], FOURTH[speaker.kind]]
    for centre, width in zip(centres, WIDTHS, strict=True):
        hertz = centre * speaker.tract * draw.uniform(0.96, 1.04)
        radius = np.exp(-np.pi * width / RATE)
        a1, a2 = -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius * radius
        wave = lfilter([1 + a1 + a2], [1.0, a1, a2], wave)
    edge = int(0.02 * RATE)
    wave[:edge] *= np.linspace(0, 1, edge)
    wave[-edge:] *= np.linspace(1, 0, edge)
    level = draw.uniform(0.1, 0.6) / np.abs(wave).max()
    said: Samples = (level * wave).astype(np.float32)
    return said


def _in_noise(wave: Samples, noise: Noise, decibels: float, draw: np.random.Generator) -> Samples:
    if noise == "none":
        return wave
    length = len(wave)
    if noise == "white":
        other = draw.standard_normal(length)
    elif noise == "hum":
        time = np.arange(length) / RATE
        tones = [np.sin(2 * np.pi * (50 * n * time + draw.random())) / n for n in range(1, 12)]
        other = np.sum(tones, axis=0)
    else:
        other = np.zeros(length)
        for _ in range(3):
            voice = speaker_of(SPEAKERS + int(draw.integers(1000)))
            said = utterance(voice, VOWELS[int(draw.integers(len(VOWELS)))], draw)
            other += np.resize(said, length)
    ratio = np.sqrt(np.square(wave, dtype=np.float64).mean() / np.square(other).mean())
    mixed: Samples = (wave + 10 ** (-decibels / 20) * ratio * other).astype(np.float32)
    return mixed
