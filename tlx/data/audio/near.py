"""Near copies among recordings: re-encoded, resampled, louder or fainter ones, by small maps.

Shapes: N recordings, B bands, L slots of time, P values of a map, M pairs.
"""

import logging
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tlx.data.audio.read import Sound

LOG = logging.getLogger(__name__)
BANDS, SLOTS = 16, 24
MAP = BANDS * SLOTS
BYTES = MAP + 8
LOW, HIGH = 100.0, 3600.0
"""Hz; what telephone speech has too, so that neither a codec nor a resampling counts."""
RANGE = 50.0
"""Decibels below the loudest, under which all is one."""
ALIKE = 0.985
"""Correlation of the maps of two copies of one recording."""
MOST_RECORDINGS = 20_000
"""More are not compared: the look, which grows with the square, would take longer than reading."""
MOST_CANDIDATES = 64
"""A mean over recordings; where more are alike all are of a kind (tones, clicks), and no copies."""
AT_ONCE = 512


def map_of(sound: Sound) -> bytes:
    """Loudness by band and slot of time [L, B], a byte each, whatever its rate and its level.

    Behind it stand its seconds.
    """
    length = max(64, -(-len(sound.samples) // SLOTS))
    whole = np.zeros(length * SLOTS, dtype=np.float32)
    whole[: len(sound.samples)] = sound.samples
    slots_LS = whole.reshape(SLOTS, length) * np.hanning(length).astype(np.float32)
    power_LF = np.square(np.abs(np.fft.rfft(slots_LS, axis=1)))
    hertz_F = np.fft.rfftfreq(length, 1 / sound.rate)
    edges = np.searchsorted(hertz_F, np.geomspace(LOW, HIGH, BANDS + 1))
    total_LF = np.concatenate([np.zeros((SLOTS, 1)), power_LF.cumsum(1)], axis=1)
    # of a very short one some bands hold no frequency: they take the next
    ends = np.maximum(edges[1:], edges[:-1] + 1).clip(max=power_LF.shape[1])
    starts = np.minimum(edges[:-1], ends - 1)
    decibels_LB = 10 * np.log10(total_LF[:, ends] - total_LF[:, starts] + 1e-20)
    above_LB = (decibels_LB - decibels_LB.max() + RANGE).clip(min=0)
    bands: bytes = (above_LB * (255 / RANGE) + 0.5).astype(np.uint8).tobytes()
    return bands + struct.pack("<d", sound.seconds)


def seconds_in(mark: bytes) -> float | None:
    """How long the recording is that a map was made of; None for an empty one."""
    return struct.unpack("<d", mark[MAP:])[0] if len(mark) == BYTES else None


def near_sounds(maps: Sequence[bytes | None]) -> Iterator[tuple[int, int, bool]]:
    """Positions of copies of one recording, the lower first; none is ever mirrored.

    Args:
        maps: of the recordings; an empty one, or none, is of one that was not looked at.
    """
    places = [i for i, each in enumerate(maps) if each and len(each) == BYTES]
    if len(places) > MOST_RECORDINGS:
        LOG.info(
            "no look for near copies: %d recordings, more than %d", len(places), MOST_RECORDINGS
        )
        return
    unit_NP = _units([(maps[i] or b"")[:MAP] for i in places])
    for start in range(0, len(places), AT_ONCE):
        some = unit_NP[start : start + AT_ONCE]
        first_M, second_M = np.nonzero(np.triu(some @ unit_NP[start:].T >= ALIKE, k=1))
        if len(first_M) > MOST_CANDIDATES * len(some):
            continue
        for one, other in zip(first_M, second_M, strict=True):
            yield places[start + one], places[start + other], False


def _units(maps: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """The maps without their mean, of length 1 [N, P]; 0 where a map is flat."""
    values_NP = np.frombuffer(b"".join(maps), dtype=np.uint8).reshape(-1, MAP)
    from_mean_NP = values_NP - values_NP.mean(1, keepdims=True, dtype=np.float32)
    norm_N1 = np.linalg.norm(from_mean_NP, axis=1, keepdims=True)
    units: npt.NDArray[np.float32] = from_mean_NP / np.maximum(norm_N1, 1e-6)
    return units
