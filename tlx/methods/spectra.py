"""Spectral features of sound: log-mel spectrograms, MFCCs, and their slopes.

Shapes: N items, S samples, T frames, F frequencies, M mel bands, C coefficients.

The conventions are those of librosa (Slaney's Auditory Toolbox, 1998; HTK, Young et al. 2006) and
of Kaldi (Povey et al. 2011), to whose features these are equal to rounding.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

Scale = Literal["slaney", "htk"]
Table = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]
LEAST = 1e-10
"""Power below which a logarithm is not taken, as in librosa."""
DECIBELS = 80.0
"""Below an item's loudest band, what an MFCC takes for silence (librosa's top_db)."""
PREEMPHASIS = 0.97
FLOOR = 1.1920928955078125e-07
"""Kaldi's: the smallest single-precision step at 1."""


@final
@dataclass(frozen=True)
class MelForm:
    """What a mel spectrogram is made by.

    Attributes:
        rate: samples a second.
        window: samples of a frame.
        hop: samples from one frame to the next.
        mels: bands.
        low: lowest frequency of the bands, in Hz.
        high: highest, in Hz; None: half of `rate`.
        scale: of mels: `slaney` (linear below 1 kHz) or `htk` (a logarithm).
        even: whether bands have equal area (Slaney's norm), not equal height.
        transform: points of the Fourier transform; None: `window`.
    """

    rate: int
    window: int
    hop: int
    mels: int
    low: float = 0.0
    high: float | None = None
    scale: Scale = "slaney"
    even: bool = True
    transform: int | None = None

    @property
    def points(self) -> int:
        """Of the Fourier transform."""
        return self.transform or self.window

    @property
    def top(self) -> float:
        """Highest frequency, in Hz."""
        return self.rate / 2 if self.high is None else self.high


def mel_power(wave_NS: Tensor, form: MelForm) -> Tensor:
    """Power of the mel bands [N, M, T] of frames centred on every hop, T = 1 + S // hop.

    The wave is taken for silent before its start and after its end; windows are Hann's.

    Args:
        wave_NS: samples from -1 to 1.
        form: of the spectrogram.
    """
    window = torch.hann_window(form.window, device=wave_NS.device, dtype=wave_NS.dtype)
    spectrum_NFT = torch.stft(
        wave_NS,
        form.points,
        hop_length=form.hop,
        win_length=form.window,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    bands_MF = torch.from_numpy(mel_bands(form)).to(wave_NS)
    return bands_MF @ (spectrum_NFT.real.square() + spectrum_NFT.imag.square())


def log_mel(wave_NS: Tensor, form: MelForm) -> Tensor:
    """Natural logarithms of `mel_power` [N, M, T], of at least `LEAST`."""
    return mel_power(wave_NS, form).clamp(min=LEAST).log()


def mfcc(wave_NS: Tensor, form: MelForm, *, coefficients: int) -> Tensor:
    """Mel-frequency cepstral coefficients [N, C, T] (Davis and Mermelstein 1980), as in librosa.

    The orthonormal cosine transform of decibels, of which none is further than `DECIBELS` below an
    item's highest.

    Args:
        wave_NS: samples from -1 to 1.
        form: of the spectrogram beneath.
        coefficients: the lowest, with the 0th, which is loudness.
    """
    decibels_NMT = 10 * mel_power(wave_NS, form).clamp(min=LEAST).log10()
    loudest_N = decibels_NMT.amax(dim=(1, 2), keepdim=True)
    decibels_NMT = torch.maximum(decibels_NMT, loudest_N - DECIBELS)
    table_CM = torch.from_numpy(cosines(coefficients, form.mels)).to(wave_NS)
    return table_CM @ decibels_NMT


def slopes(features_NCT: Tensor, *, reach: int = 2) -> Tensor:
    """How features change from frame to frame [N, C, T]: the regression over 2 · reach + 1 frames.

    HTK Book, equation 5.16; the first and the last frame stand for those beyond.
    """
    frames = features_NCT.shape[-1]
    wide = pad(features_NCT, (reach, reach), mode="replicate")
    total = torch.zeros_like(features_NCT)
    for step in range(1, reach + 1):
        later = wide[..., reach + step : reach + step + frames]
        total += step * (later - wide[..., reach - step : reach - step + frames])
    return total / (2 * sum(step * step for step in range(1, reach + 1)))


def kaldi_frames(samples: int, form: MelForm) -> int:
    """Frames that `kaldi_banks` gives: those that lie in the wave as a whole."""
    return max(0, 1 + (samples - form.window) // form.hop)


def kaldi_banks(wave_NS: Tensor, form: MelForm) -> Tensor:
    """Kaldi's logarithms of filter banks [N, M, T], without dither, T = `kaldi_frames`.

    Each frame loses its mean, gets preemphasis and Povey's window; bands are triangles on the mel
    scale itself. Values rise by 2 ln(32768) where samples are whole numbers, as Kaldi reads them.

    Args:
        wave_NS: samples.
        form: of the frames; `scale` and `even` do not count.
    """
    frames_NTW = wave_NS.unfold(1, form.window, form.hop)
    frames_NTW = frames_NTW - frames_NTW.mean(2, keepdim=True)
    before_NTW = torch.cat([frames_NTW[..., :1], frames_NTW[..., :-1]], dim=2)
    ramp_W = torch.from_numpy(np.hanning(form.window) ** 0.85).to(wave_NS)
    shaped_NTW = (frames_NTW - PREEMPHASIS * before_NTW) * ramp_W
    points = _kaldi_points(form)
    spectrum_NTF = torch.fft.rfft(shaped_NTW, n=points)
    power_NTF = spectrum_NTF.real.square() + spectrum_NTF.imag.square()
    bands_MF = torch.from_numpy(kaldi_bands(form)).to(wave_NS)
    banks_NTM: Tensor = (power_NTF @ bands_MF.T).clamp(min=FLOOR).log()
    return banks_NTM.transpose(1, 2)


# Tables are of numpy: they are remembered, whatever torch's default device is when they are made.


@lru_cache(maxsize=64)
def mel_bands(form: MelForm) -> Table:
    """Weights of frequencies in bands [M, F], float32; triangles in Hz.

    Raises:
        ValueError: a band holds no frequency: there are too many for the transform.
    """
    low, high = _to_mels(np.array([form.low, form.top]), form.scale)
    edges = _to_hertz(np.linspace(low, high, form.mels + 2), form.scale)
    hertz_F = np.arange(form.points // 2 + 1) * form.rate / form.points
    width_M = np.diff(edges)
    ramp_MF = edges[:, None] - hertz_F[None, :]
    rising_MF = -ramp_MF[:-2] / width_M[:-1, None]
    falling_MF = ramp_MF[2:] / width_M[1:, None]
    bands_MF = np.minimum(rising_MF, falling_MF).clip(min=0)
    if form.even:
        bands_MF = bands_MF * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    empty = int((bands_MF.sum(1) == 0).sum())
    if empty:
        raise ValueError(
            f"{empty} of {form.mels} mel bands from {form.low:g} to {form.top:g} Hz hold no "
            f"frequency of a transform of {form.points} points at {form.rate} Hz; take fewer bands "
            "or a longer window"
        )
    return bands_MF.astype(np.float32)


@lru_cache(maxsize=64)
def kaldi_bands(form: MelForm) -> Table:
    """Weights of frequencies in Kaldi's bands [M, F], float32; triangles in mels.

    Bands that hold no frequency are always silent, as some of AST's are (Kaldi refuses them).
    """
    points = _kaldi_points(form)
    mels_F = _to_mels(np.arange(points // 2) * form.rate / points, "htk")
    low, high = _to_mels(np.array([form.low, form.top]), "htk")
    edges, width = np.linspace(low, high, form.mels + 2), (high - low) / (form.mels + 1)
    rising_MF = (mels_F[None, :] - edges[:-2, None]) / width
    falling_MF = (edges[2:, None] - mels_F[None, :]) / width
    bands_MF = np.minimum(rising_MF, falling_MF).clip(min=0)
    return np.pad(bands_MF, ((0, 0), (0, 1))).astype(np.float32)  # Kaldi has no last frequency


def _kaldi_points(form: MelForm) -> int:
    return 1 << (form.points - 1).bit_length()


@lru_cache(maxsize=64)
def cosines(coefficients: int, bands: int) -> Table:
    """The orthonormal cosine transform of type II [C, M], float32."""
    place_M = (np.arange(bands) + 0.5) * math.pi / bands
    table_CM = np.cos(np.arange(coefficients)[:, None] * place_M) * math.sqrt(2 / bands)
    table_CM[0] /= math.sqrt(2)
    return table_CM.astype(np.float32)


BREAK_HERTZ, BREAK_MELS = 1000.0, 15.0
"""Where Slaney's scale turns from linear, 200 / 3 Hz a mel, to logarithmic, 27 mels for a factor
of 6.4."""
STEP = math.log(6.4) / 27


def _to_mels(hertz: Exact, scale: Scale) -> Exact:
    if scale == "htk":
        return np.asarray(1127 * np.log1p(hertz / 700))
    above = BREAK_MELS + np.log(hertz.clip(min=BREAK_HERTZ) / BREAK_HERTZ) / STEP
    return np.where(hertz < BREAK_HERTZ, hertz * 3 / 200, above)


def _to_hertz(mels: Exact, scale: Scale) -> Exact:
    if scale == "htk":
        return np.asarray(700 * np.expm1(mels / 1127))
    above = BREAK_HERTZ * np.exp(STEP * (mels - BREAK_MELS))
    return np.where(mels < BREAK_MELS, mels * 200 / 3, above)
