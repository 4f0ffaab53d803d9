"""Augmentations of sound; the kinds are in `tlx.data.augment`.

- `geometry`: make(samples there, samples wanted) gives the first sample of the part that is taken.
- `wave`: make is (samples [S], rate) -> samples, perhaps of another number.
- `bands`: make is frames [T, W] -> frames, before they are stacked.

Items draw from torch's global generator, which the loader seeds.
"""

import math
from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor

from tlx.base.ranges import Range
from tlx.data.audio.read import resampled
from tlx.data.augment import Augmentation

MODALITY = "audio"
SPEED_STEP = 10
"""Hz to which a changed rate is rounded, so that a resampling filter has few phases."""


def random_part() -> Augmentation:
    """Of a recording that is too long: a random part in place of its middle."""
    return Augmentation("random_part", "geometry", _random_start)


def _random_start(there: int, wanted: int) -> int:
    return int(torch.randint(there - wanted + 1, ()))


def spec_augment(
    *,
    time_masks: Annotated[int, Range(least=0, most=20)] = 2,
    time_share: Annotated[float, Range(least=0, most=1)] = 0.1,
    band_masks: Annotated[int, Range(least=0, most=20)] = 2,
    band_share: Annotated[float, Range(least=0, most=1)] = 0.2,
) -> Augmentation:
    """Masks stretches of frames and of bands, with an item's mean.

    Args:
        time_masks: stretches of frames.
        time_share: longest stretch, of all frames.
        band_masks: stretches of bands.
        band_share: widest stretch, of all bands.

    Source: Park et al. 2019, "SpecAugment", 1904.08779, without its warping of time.
    """
    make = _Masks((time_masks, time_share), (band_masks, band_share))
    return Augmentation("spec_augment", "bands", make)


@final
@dataclass(frozen=True)
class _Masks:
    """Number and largest share of the masks over frames, and over bands."""

    frames: tuple[int, float]
    bands: tuple[int, float]

    def __call__(self, frames_TW: Tensor) -> Tensor:
        changed_TW, mean = frames_TW.clone(), frames_TW.mean()
        for axis, (count, share) in enumerate((self.frames, self.bands)):
            whole = frames_TW.shape[axis]
            for _ in range(count):
                length = int(torch.randint(int(share * whole) + 1, ()))
                first = int(torch.randint(whole - length + 1, ()))
                changed_TW.narrow(axis, first, length).copy_(mean)
        return changed_TW


def gain(*, decibels: Annotated[float, Range(above=0, most=60)] = 6.0) -> Augmentation:
    """Makes a recording louder or fainter.

    Args:
        decibels: most, up or down.
    """
    return Augmentation("gain", "wave", _Gain(decibels))


@final
@dataclass(frozen=True)
class _Gain:
    decibels: float

    def __call__(self, wave_S: Tensor, rate: int) -> Tensor:
        change = (2 * torch.rand(()) - 1) * self.decibels
        return wave_S * 10 ** (change / 20)


def shift(*, seconds: Annotated[float, Range(above=0, most=60)] = 0.1) -> Augmentation:
    """Moves a recording in time; silence comes in, and what leaves is lost.

    Args:
        seconds: most, forth or back; of a shorter recording at most half of it.
    """
    return Augmentation("shift", "wave", _Shift(seconds))


@final
@dataclass(frozen=True)
class _Shift:
    seconds: float

    def __call__(self, wave_S: Tensor, rate: int) -> Tensor:
        most = min(int(self.seconds * rate), len(wave_S) // 2)
        by = int(torch.randint(-most, most + 1, ()))
        moved_S = torch.zeros_like(wave_S)
        if by >= 0:
            moved_S[by:] = wave_S[: len(wave_S) - by]
        else:
            moved_S[:by] = wave_S[-by:]
        return moved_S


def speed(
    *,
    least: Annotated[float, Range(least=0.5, most=1)] = 0.9,
    most: Annotated[float, Range(least=1, most=2)] = 1.1,
) -> Augmentation:
    """Plays a recording slower or faster, its pitch with it.

    Args:
        least: factor.
        most: factor.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition".
    """
    return Augmentation("speed", "wave", _Speed(least, most))


@final
@dataclass(frozen=True)
class _Speed:
    least: float
    most: float

    def __call__(self, wave_S: Tensor, rate: int) -> Tensor:
        factor = self.least + float(torch.rand(())) * (self.most - self.least)
        played = round(rate * factor / SPEED_STEP) * SPEED_STEP or SPEED_STEP
        return torch.from_numpy(resampled(wave_S.numpy(), played, rate).copy())


def noise(
    *,
    least: Annotated[float, Range(least=-20, most=80)] = 10.0,
    most: Annotated[float, Range(least=-20, most=80)] = 40.0,
    pink: bool = True,
) -> Augmentation:
    """Adds noise, some decibels below the recording.

    Args:
        least: decibels of the recording above the noise.
        most: likewise.
        pink: equal power in each octave, as much of what is heard indoors has; else white.

    Raises:
        ValueError: `least` is above `most`.
    """
    if least > most:
        raise ValueError(f"noise: least={least:g} is above most={most:g}")
    return Augmentation("noise", "wave", _AddedNoise(least, most, pink))


@final
@dataclass(frozen=True)
class _AddedNoise:
    least: float
    most: float
    pink: bool

    def __call__(self, wave_S: Tensor, rate: int) -> Tensor:
        above = self.least + float(torch.rand(())) * (self.most - self.least)
        noise_S = torch.randn(len(wave_S))
        if self.pink:
            spectrum_F = torch.fft.rfft(noise_S)
            spectrum_F[1:] /= torch.arange(1, len(spectrum_F)).sqrt()
            spectrum_F[0] = 0
            noise_S = torch.fft.irfft(spectrum_F, n=len(wave_S))
        power = float(noise_S.square().mean())
        if power == 0:
            return wave_S
        wanted = float(wave_S.square().mean()) * 10 ** (-above / 10)
        return wave_S + math.sqrt(wanted / power) * noise_S
