"""Front ends: what normalises them, and which cannot be."""

from dataclasses import replace

from tlx.data.audio.spec import AudioSpec
from tlx.methods import spectra


def check_bands(spec: AudioSpec) -> None:
    """Passes a spec whose frames can be made.

    Raises:
        ValueError: more bands than a frame can tell apart, frequencies above half the rate, or
            more coefficients than bands.
    """
    if spec.high is not None and spec.high > spec.rate / 2:
        raise ValueError(
            f"backbone.high={spec.high:g} Hz is above half the rate, {spec.rate / 2:g} Hz"
        )
    if spec.front_end == "mfcc" and spec.coefficients > spec.bands:
        raise ValueError(
            f"backbone.coefficients={spec.coefficients} is more than backbone.bands={spec.bands}"
        )
    if spec.front_end in ("waveform", "fbank"):
        return
    try:
        spectra.mel_bands(spec.form)
    except ValueError as error:
        raise ValueError(f"backbone.bands={spec.bands}: {error}") from None


LOG_MEL = (-6.0, 5.0)
FBANK = (-4.2677393 + 20.794415, 2 * 4.5689974)
"""Mean and deviation of bands, roughly. Kaldi's: AST's figures of AudioSet (Gong et al. 2021,
2104.01778), which divides by twice the deviation, and for whole numbers, 2 ln(32768) higher."""
LOUDNESS, SHAPE = (-250.0, 100.0), (0.0, 30.0)
"""Of an MFCC: of the 0th coefficient, and of the others."""
PER_SLOPE = 10.0
"""By which the change from frame to frame is smaller."""


def normalised(spec: AudioSpec) -> AudioSpec:
    """The spec with a mean and a deviation that bring its frames to about 0 and 1."""
    if spec.level == "item" or spec.front_end == "waveform":
        return spec
    if spec.front_end != "mfcc":
        mean, std = LOG_MEL if spec.front_end == "log_mel" else FBANK
        return replace(spec, mean=(mean,), std=(std,))
    means = [LOUDNESS[0], *[SHAPE[0]] * (spec.coefficients - 1)]
    stds = [LOUDNESS[1], *[SHAPE[1]] * (spec.coefficients - 1)]
    for order in range(1, spec.slopes + 1):
        means += [0.0] * spec.coefficients
        stds += [value / PER_SLOPE**order for value in stds[: spec.coefficients]]
    return replace(spec, mean=tuple(means), std=tuple(stds))
