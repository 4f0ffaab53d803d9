"""What a network of sound reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, TypeVar, final

from torch import Tensor

from tlx.data.inputs import plain_of, replaced
from tlx.methods import spectra
from tlx.methods.spectra import MelForm, Scale

Count = TypeVar("Count", int, Tensor)
FrontEnd = Literal["waveform", "log_mel", "mfcc", "fbank"]


@final
@dataclass(frozen=True, kw_only=True)
class AudioSpec:
    """See the protocol Spec.

    Attributes:
        rate: samples a second; what has another rate is resampled.
        seconds: length of every item, which is cropped or padded with silence; None: items keep
            their lengths, and batches are padded and masked.
        front_end: `waveform`, `log_mel` and `mfcc` (as librosa's), or `fbank` (Kaldi's).
        as_image: whether the network reads one channel of an image [1, bands, frames], not a row a
            frame.
        level: `item`: an item's wave, or each of its bands, gets mean 0 and deviation 1; `none`.
        mean: that front ends other than waves are normalised by, one a band or one for all.
        std: likewise.
        window: seconds of a frame.
        hop: seconds from one frame to the next.
        bands: of the mel scale.
        low: lowest frequency of the bands, in Hz.
        high: highest; None: half the rate.
        scale: of mels, `slaney` or `htk`; Kaldi's is always the latter.
        coefficients: of an MFCC.
        slopes: how often the change from frame to frame is added to an MFCC: 0, 1 (delta) or 2
            (and that of delta).
        stack: frames that are put side by side as one.
        kernels: widths of the convolutions that turn a waveform into frames; none: a frame is a
            sample.
        strides: of them.
    """

    modality: ClassVar[str] = "audio"
    made_by: ClassVar[str] = "tlx.data.audio.inputs.AUDIO"

    rate: int
    seconds: float | None
    front_end: FrontEnd
    as_image: bool = False
    level: Literal["none", "item"] = "none"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    window: float = 0.025
    hop: float = 0.01
    bands: int = 80
    low: float = 0.0
    high: float | None = None
    scale: Scale = "slaney"
    coefficients: int = 13
    slopes: int = 0
    stack: int = 1
    kernels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def plain(self) -> dict[str, object]:
        """See the protocol Spec."""
        return plain_of(self)

    def kept(self, plain: Mapping[str, object]) -> Self:
        """See the protocol Spec."""
        return replaced(self, plain)

    @property
    def form(self) -> MelForm:
        """Of the mel spectrogram."""
        return MelForm(
            rate=self.rate,
            window=round(self.window * self.rate),
            hop=round(self.hop * self.rate),
            mels=self.bands,
            low=self.low,
            high=self.high,
            scale=self.scale,
        )

    @property
    def width(self) -> int:
        """Numbers a frame; 1 for a waveform."""
        if self.front_end == "waveform":
            return 1
        one = self.coefficients * (1 + self.slopes) if self.front_end == "mfcc" else self.bands
        return one * self.stack

    @property
    def samples(self) -> int | None:
        """Of every item; None where items keep their lengths."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    def frames_of(self, samples: int) -> int:
        """Frames that a wave of so many samples gives."""
        if self.front_end == "waveform":
            for kernel, stride in zip(self.kernels, self.strides, strict=True):
                samples = max(0, 1 + (samples - kernel) // stride)
            return samples
        if self.front_end == "fbank":
            return spectra.kaldi_frames(samples, self.form) // self.stack
        return (1 + samples // self.form.hop) // self.stack

    def samples_of(self, frames: int) -> int:
        """The fewest samples that give so many frames, at least one."""
        if self.front_end == "waveform":
            return samples_under(frames, self.kernels, self.strides)
        frames *= self.stack
        if self.front_end == "fbank":
            return self.form.window + (frames - 1) * self.form.hop
        return max(1, (frames - 1) * self.form.hop)


def samples_under(frames: Count, kernels: Sequence[int], strides: Sequence[int]) -> Count:
    """The fewest samples of which convolutions make so many frames; of each of a tensor."""
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        frames = kernel + (frames - 1) * stride
    return frames
