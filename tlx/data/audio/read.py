"""Reading sound rightly, or not at all."""

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
import numpy.typing as npt

from tlx.data.scan import content_of
from tlx.data.splits import Unreadable

Samples = npt.NDArray[np.float32]

BY_SOUNDFILE = frozenset(
    {
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc"),
        *(".au", ".snd", ".caf", ".w64", ".rf64"),
    }
)
BY_AV = frozenset({".m4a", ".mp4", ".webm", ".aac", ".mka", ".wma"})
EXTENSIONS = BY_SOUNDFILE | BY_AV
LEAST_RATE, MOST_RATE = 1000, 768_000
"""Samples a second; a header with others is wrong."""
MOST_SECONDS = 6 * 3600
LEFT_OVER = 0.01
"""Share of the channels' power that is left in their mean; less: they cancel each other out."""
SILENT = 1e-5
"""Peak below which there is nothing to hear (-100 dB)."""


class BadSound(Unreadable):
    """A file that is no sound, or one that cannot be read rightly; the message says why."""


@final
@dataclass(frozen=True, eq=False)
class Sound:
    """A recording of one channel.

    Attributes:
        samples: [S] float32, from -1 to 1 (floating-point files may go beyond).
        rate: samples a second.
    """

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def load_sound(source: str | Path | bytes) -> Sound:
    """The sound in a file, or in its bytes: channels mixed down, at its own rate.

    Raises:
        BadSound: it is missing, empty, cut short, no sound, silent, of an unknown rate, or its
            channels cancel each other out.
        OSError: the system failed (too many open files, an unreachable disk), not the file.
    """
    data = content_of(source, BadSound)
    by_av = _is_of_av(data)
    channels, rate = _decoded_by_av(data) if by_av else _decoded(data)
    return Sound(_mixed(channels), rate)


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """The same sound at another rate, by soxr's high quality."""
    if rate == wanted:
        return samples
    out: Samples = _library("soxr").resample(samples, rate, wanted, quality="HQ")
    return np.ascontiguousarray(out, dtype=np.float32)


@lru_cache(maxsize=3)
def _library(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"reading sound needs {name} ({error}); pip install soundfile soxr av"
        ) from error


def _decoded(data: bytes) -> tuple[Samples, int]:
    """Samples [S, channels] and rate, by libsndfile.

    Raises:
        BadSound: it cannot, or the file holds less than it says.
    """
    soundfile = _library("soundfile")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, frames, form = int(file.samplerate), int(file.frames), str(file.format)
            _check_header(rate, frames / max(rate, 1))
            channels: Samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        raise BadSound(f"cannot be decoded: {reason}") from None
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise BadSound(f"cannot be decoded: {error or type(error).__name__}") from None
    if len(channels) < frames:
        raise BadSound(f"is cut short: {len(channels)} of {frames} samples can be decoded")
    _check_whole(data, form)
    return channels, rate


def _check_header(rate: int, seconds: float) -> None:
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise BadSound(f"has no usable rate: {rate} samples a second in its header")
    if seconds > MOST_SECONDS:
        raise BadSound(f"is too long: {seconds / 3600:.1f} hours; cut it into parts")


def _check_whole(data: bytes, form: str) -> None:
    """Raises BadSound where a file ends before its own header says, which decoders pass over."""
    if form in ("WAV", "WAVEX"):
        stated, there = _chunk_sizes(data, b"data", "<")
    elif form == "AIFF":
        stated, there = _chunk_sizes(data, b"SSND", ">")
    elif form in ("MPEG", "MP3"):
        stated, there = _mp3_sizes(data)
    elif form == "OGG":
        last = data.rfind(b"OggS")
        if last >= 0 and not (data[last + 5 : last + 6] or b"\0")[0] & 4:
            raise BadSound("is cut short: its last page is missing")
        return
    else:
        return
    if there < stated:
        raise BadSound(f"is cut short: {there} of {stated} bytes of sound are there")


def _chunk_sizes(data: bytes, wanted: bytes, order: str) -> tuple[int, int]:
    """Bytes that a chunk says to hold, and that it holds; 0 and 0 where it does not say."""
    place = 12
    while place + 8 <= len(data):
        name = data[place : place + 4]
        (size,) = struct.unpack(order + "I", data[place + 4 : place + 8])
        if name == wanted:
            streamed = size in (0, 0xFFFFFFFF, 0x7FFFFFFF)
            return (0, 0) if streamed else (size, len(data) - place - 8)
        place += 8 + size + size % 2
    return 0, 0


def _mp3_sizes(data: bytes) -> tuple[int, int]:
    """Bytes that an MP3's own header (Xing, Info) says there are, and that there are."""
    start = 0
    if data[:3] == b"ID3":
        a, b, c, d = data[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    head = data[start : start + 200]
    place = max(head.find(b"Xing"), head.find(b"Info"))
    flags = head[place + 7] if 0 <= place < len(head) - 7 else 0
    behind = start + place + 8 + (4 if flags & 1 else 0)
    if not flags & 2 or behind + 4 > len(data):
        return 0, 0
    (size,) = struct.unpack(">I", data[behind : behind + 4])
    return size, len(data) - start


def _is_of_av(data: bytes) -> bool:
    """Whether bytes are a container that libsndfile does not read: MP4, Matroska, ASF, ADTS."""
    return (
        data[4:8] == b"ftyp"
        or data[:4] == b"\x1aE\xdf\xa3"
        or data[:4] == b"\x30\x26\xb2\x75"
        or (data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xF6 == 0xF0)
    )


def _decoded_by_av(data: bytes) -> tuple[Samples, int]:
    """Samples [S, channels] and rate, of the first track of sound, by FFmpeg."""
    av = _library("av")
    try:
        with av.open(io.BytesIO(data)) as container:
            tracks = container.streams.audio
            if not tracks:
                raise BadSound("has no track of sound")
            track = tracks[0]
            rate = int(track.rate or 0)
            length = float(track.duration * track.time_base) if track.duration else 0.0
            _check_header(rate, length)
            parts = list(_planes(container, track, av))
    except BadSound:
        raise
    except (av.FFmpegError, ValueError, IndexError, MemoryError) as error:
        raise BadSound(f"cannot be decoded: {error}") from None
    channels = np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)
    # an encoder's delay and padding make up for a little
    if length and len(channels) / rate < length - 0.2:
        raise BadSound(f"is cut short: {len(channels) / rate:.2f} s of {length:.2f} s are there")
    return channels, rate


def _planes(container: Any, track: Any, av: Any) -> Iterator[Samples]:
    to_float = av.AudioResampler(format="fltp")
    for frame in container.decode(track):
        yield from (part.to_ndarray().T for part in to_float.resample(frame))
    yield from (part.to_ndarray().T for part in to_float.resample(None))


def _mixed(channels: Samples) -> Samples:
    """The mean of the channels [S].

    Raises:
        BadSound: there is nothing to hear.
    """
    if not len(channels):
        raise BadSound("is empty: 0 samples")
    if not np.isfinite(channels).all():
        raise BadSound("has samples that are no numbers (NaN or infinite)")
    if np.abs(channels).max() < SILENT:
        raise BadSound(f"is silent for its {len(channels)} samples")
    if channels.shape[1] == 1:
        return np.ascontiguousarray(channels[:, 0])
    mean: Samples = np.ascontiguousarray(channels.mean(axis=1, dtype=np.float32))
    whole = float(np.square(channels, dtype=np.float64).mean())
    left = float(np.square(mean, dtype=np.float64).mean())
    if left < LEFT_OVER * whole:
        loss = math.inf if left == 0 else 10 * math.log10(whole / left)
        raise BadSound(
            f"has channels that cancel each other out (antiphase): mixed down, {loss:.0f} dB are "
            "lost; turn one of them round, or keep one"
        )
    return mean
