"""What becomes of recordings before the network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from tlx.data.audio.near import seconds_in
from tlx.data.audio.read import EXTENSIONS, Samples, Sound, load_sound, resampled
from tlx.data.audio.spec import AudioSpec
from tlx.data.augment import IN_STEP, Augmentation, check_kinds
from tlx.data.inputs import Spec
from tlx.data.scan import to_predict
from tlx.data.splits import Fitted, Padding, Sample, Split, Splits, Unreadable, raw_of
from tlx.methods import spectra
from tlx.methods.spectra import MelForm

KINDS = ("geometry", "wave", "bands")
"""Of augmentations, in the order in which they act: which part of the wave is taken, the wave, the
bands of its frames."""

SHOWN = MelForm(rate=16000, window=512, hop=160, mels=64)
"""Of the picture of a recording."""
MOST_SHOWN_S = 10.0
LEVEL_FLOOR = 1e-7
"""Added to a wave's variance, as transformers' feature extractors do."""


@final
@dataclass(frozen=True)
class FittedSounds(Fitted):
    """A split whose items' lengths are known.

    Attributes:
        frames: that the network sees of each item.
    """

    frames: Sequence[int]


@final
@dataclass(frozen=True)
class AudioInputs:
    """Recordings as waves or frames; see the protocol Inputs.

    Of one length: a tensor a batch, [N, S] of waves, [N, T, W] of frames or [N, 1, W, T] as images.
    Of several: `sound`, padded, and `real` [N, T], True where frames are of the recording.
    """

    modality = AudioSpec.modality

    def learn(self, spec: AudioSpec, corpus: Callable[[], Iterable[str]]) -> AudioSpec:
        """Where items are to be as long as the longest, its seconds; see `AudioSpec.seconds`."""
        if spec.seconds is None or spec.seconds > 0:
            return spec
        return replace(spec, seconds=max(map(float, corpus())))

    def fit(self, spec: AudioSpec, splits: Splits) -> Splits:
        """Where items keep their lengths: the same with these known."""
        if spec.seconds is not None:
            return splits
        fitted = {name: fitted_to(spec, split) for name, split in splits.named.items()}
        extra = {name: fitted[name] for name in splits.extra}
        return replace(
            splits, train=fitted["train"], val=fitted["val"], test=fitted["test"], extra=extra
        )

    def encoder(
        self, spec: Spec, augmentations: Sequence[Augmentation], *, train: bool
    ) -> "AudioEncoder":
        """From a recording to the network's input; augmentations act in training only.

        Raises:
            ValueError: the network reads no sound, or an augmentation does not fit.
        """
        if not isinstance(spec, AudioSpec):
            raise ValueError(f"this data holds recordings, the backbone takes {spec.modality!r}")
        check_kinds(augmentations, (*KINDS, *IN_STEP), of="recordings")
        used = tuple(augmentations) if train else ()
        bands = tuple(a for a in used if a.kind == "bands")
        if bands and spec.front_end == "waveform":
            raise ValueError(
                f"augmentation.{bands[0].name} acts on the bands of frames, and the backbone reads "
                "waves; leave it out"
            )
        crops = [a for a in used if a.kind == "geometry"]
        if len(crops) > 1:
            names = ", ".join(a.name for a in crops)
            raise ValueError(f"augmentation: {names} each choose the part; keep one")
        return AudioEncoder(
            spec=spec,
            start=crops[0].make if crops else _centre,
            wave=tuple(a.make for a in used if a.kind == "wave"),
            bands=tuple(a.make for a in bands),
            random=any(not a.deterministic for a in used),
        )

    @staticmethod  # depends on nothing of the data, which stored activations are known by
    def collate(spec: AudioSpec, inputs: Sequence[Tensor]) -> object:
        """Stacks items of one length; pads others at their ends."""
        if spec.seconds is not None:
            return torch.stack(list(inputs))
        frames = [_frames(spec, each) for each in inputs]
        real = torch.arange(max(frames)) < torch.tensor(frames)[:, None]
        return {"sound": pad_sequence(list(inputs), batch_first=True), "real": real}

    def padding(self, spec: AudioSpec) -> Padding | None:
        """By silence, or frames of 0, at the end; None where all items have one length."""
        if spec.seconds is not None:
            return None
        return Padding(lengths=_lengths, pad=partial(_at_length, spec), mask=_mask)

    def example(self, spec: AudioSpec, *, items: int, device: torch.device) -> object:
        """Silence."""
        samples = spec.samples or spec.samples_of(8)
        frames = max(1, spec.frames_of(samples))
        shape: tuple[int, ...] = (frames, spec.width)
        if spec.front_end == "waveform":
            shape = (samples,)
        elif spec.as_image:
            shape = (1, spec.width, frames)
        sound = torch.zeros(items, *shape, device=device)
        if spec.seconds is not None:
            return sound
        return {"sound": sound, "real": torch.ones(items, frames, dtype=torch.bool, device=device)}

    def read(
        self,
        spec: AudioSpec,
        given: Iterable[str | Path],
        *,
        dataset: Mapping[str, object],
        folder: Path,
    ) -> Split:
        """Files, folders of them and tables of paths."""
        from tlx.data.tables.given import paths_of

        paths = paths_of(given, dataset, endings=EXTENSIONS, argument="audio_column")
        pool = to_predict(paths, load_sound)
        return pool if spec.seconds is not None else fitted_to(spec, pool)

    def shown(self, raw: Sound) -> Image.Image:
        """Its spectrogram, low frequencies at the bottom."""
        return picture(raw)

    def columns(self, raw: Sound) -> Mapping[str, str]:
        """How long it is."""
        return {"seconds": f"{raw.seconds:.3f}"}

    def corpus(self, split: Split) -> Iterable[str]:
        """The seconds of each."""
        return map(str, seconds_of(split))


AUDIO = AudioInputs()


@final
@dataclass(frozen=True)
class AudioEncoder:
    """A recording -> the network's input.

    Attributes:
        spec: what the network reads.
        start: of a wave that is too long: (samples there, samples wanted) -> the first one taken.
        wave: augmentations: (samples [S], rate) -> samples, perhaps of another number.
        bands: augmentations: frames [T, W] -> frames.
        random: whether an augmentation draws.
    """

    spec: AudioSpec
    start: Callable[[int, int], int]
    wave: tuple[Callable[[Tensor, int], Tensor], ...]
    bands: tuple[Callable[[Tensor], Tensor], ...]
    random: bool

    def __call__(self, sample: Sample) -> Sample:
        """The sample with its input encoded: [S], [T, W], or [1, W, T] for images."""
        sound: Sound = sample["input"]
        wave_S = torch.from_numpy(resampled(sound.samples, sound.rate, self.spec.rate).copy())
        for change in self.wave:
            wave_S = change(wave_S, self.spec.rate)
        wave_S = self._fitted(wave_S)
        return {**sample, "input": features(wave_S, self.spec, bands=self.bands)}

    def facts(self) -> Mapping[str, object]:
        """All of its parts."""
        return vars(self)

    def _fitted(self, wave_S: Tensor) -> Tensor:
        """The wave at its level, and at its length."""
        wanted = self.spec.samples
        if wanted is not None and len(wave_S) > wanted:
            first = self.start(len(wave_S), wanted)
            wave_S = wave_S[first : first + wanted]
        if self.spec.level == "item" and self.spec.front_end == "waveform":
            wave_S = _levelled(wave_S)
        if wanted is None:  # no sample more than its frames hold, so that padding adds none
            wanted = self.spec.samples_of(max(1, self.spec.frames_of(len(wave_S))))
        return pad(wave_S, (0, wanted - len(wave_S)))  # cuts off where that is below 0


def _levelled(values: Tensor) -> Tensor:
    """Values whose last dimension has mean 0 and deviation 1."""
    spread = (values.var(-1, correction=0, keepdim=True) + LEVEL_FLOOR).sqrt()
    return (values - values.mean(-1, keepdim=True)) / spread


def _centre(there: int, wanted: int) -> int:
    return (there - wanted) // 2


def features(
    wave_S: Tensor, spec: AudioSpec, *, bands: Sequence[Callable[[Tensor], Tensor]] = ()
) -> Tensor:
    """What the front end makes of a wave: [S], frames [T, W], or [1, W, T] for images.

    Args:
        wave_S: samples.
        spec: what the network reads.
        bands: augmentations of the frames.
    """
    if spec.front_end == "waveform":
        return wave_S
    if spec.front_end == "fbank":
        made_WT = spectra.kaldi_banks(wave_S[None] * 2**15, spec.form)[0]
    elif spec.front_end == "log_mel":
        made_WT = spectra.log_mel(wave_S[None], spec.form)[0]
    else:
        made_WT = spectra.mfcc(wave_S[None], spec.form, coefficients=spec.coefficients)[0]
        parts = [made_WT]
        for _ in range(spec.slopes):
            parts.append(spectra.slopes(parts[-1][None])[0])
        made_WT = torch.cat(parts)
    if spec.level == "item":
        made_WT = _levelled(made_WT)
    mean, std = (torch.tensor(values)[:, None] for values in (spec.mean, spec.std))
    made_TW = ((made_WT - mean) / std).T
    for change in bands:
        made_TW = change(made_TW)
    if spec.stack > 1:
        frames = len(made_TW) // spec.stack
        made_TW = made_TW[: frames * spec.stack].reshape(frames, -1)
    return made_TW.T[None].contiguous() if spec.as_image else made_TW.contiguous()


def _frames(spec: AudioSpec, item: Tensor) -> int:
    """Of an encoded item that is no image."""
    return spec.frames_of(len(item)) if spec.front_end == "waveform" else len(item)


def seconds_of(split: Split) -> list[float]:
    """How long each recording is: as it was seen to be, or by reading it; 0 if it is bad."""
    raw = raw_of(split)
    marks = getattr(raw, "marks", ())
    known = [seconds_in(mark) for mark in marks] or [None] * len(raw)
    return [_seconds(raw, place) if found is None else found for place, found in enumerate(known)]


def _seconds(split: Split, place: int) -> float:
    try:
        sound: Sound = split[place]["input"]
    except Unreadable:  # told where it is asked for
        return 0.0
    return sound.seconds


def fitted_to(spec: AudioSpec, split: Split) -> FittedSounds:
    """The split with its items' frames, which whatever it was fitted to before does not change."""
    raw = raw_of(split)
    samples = [round(seconds * spec.rate) for seconds in seconds_of(raw)]
    return FittedSounds(raw, [max(1, spec.frames_of(count)) for count in samples])


def _lengths(split: Split) -> Sequence[int]:
    assert isinstance(split, FittedSounds)
    return split.frames


def _mask(inputs: Mapping[str, Tensor]) -> Tensor:
    return inputs["real"]


def _at_length(spec: AudioSpec, inputs: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
    sound, real = inputs["sound"], inputs["real"]
    there = sound.shape[1]
    wanted = spec.samples_of(length) if spec.front_end == "waveform" else length
    behind = (0, 0) * (sound.ndim - 2)
    return {
        "sound": pad(sound, (*behind, 0, wanted - there)),
        "real": pad(real, (0, length - real.shape[1])),
    }


def picture(sound: Sound) -> Image.Image:
    """A recording's spectrogram in grey, of its first seconds; 80 dB from black to white."""
    first = sound.samples[: int(MOST_SHOWN_S * sound.rate)]
    wave: Samples = resampled(first, sound.rate, SHOWN.rate)
    power = spectra.mel_power(torch.from_numpy(wave.copy())[None], SHOWN)[0]
    decibels = 10 * power.clamp(min=spectra.LEAST).log10()
    grey = ((decibels - decibels.max()) / spectra.DECIBELS + 1).clamp(0, 1) * 255
    return Image.fromarray(np.flipud(grey.round().to(torch.uint8).numpy()))
