"""Networks of images that read spectrograms: any of timm's, pretrained on pictures or not."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from tlx.backbones.audio.front_ends import check_bands, normalised
from tlx.backbones.backbone import Backbone
from tlx.backbones.timm import networks
from tlx.base.ranges import Range
from tlx.data.audio.spec import AudioSpec
from tlx.methods.spectra import Scale

MODALITY = "audio"


def timm_audio(
    *,
    name: str,
    init: str = "hub",
    front_end: Literal["log_mel", "fbank"] = "log_mel",
    rate: Annotated[int, Range(least=1000, most=768000)] = 16000,
    seconds: Annotated[float, Range(above=0)] = 1.0,
    bands: Annotated[int, Range(least=1, most=512)] = 64,
    window: Annotated[float, Range(above=0, most=1)] = 0.025,
    hop: Annotated[float, Range(above=0, most=1)] = 0.01,
    low: Annotated[float, Range(least=0)] = 20.0,
    high: Annotated[float | None, Range(above=0)] = None,
    scale: Scale = "slaney",
    level: Literal["none", "item"] = "none",
    mean: float | None = None,
    std: Annotated[float | None, Range(above=0)] = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    kwargs: dict[str, Any] | None = None,
) -> Backbone:
    """A timm network without its classifier, of one channel: the spectrogram of a recording.

    Pretrained first layers are adapted to one channel by timm, which sums them.

    Args:
        name: timm's, as for `tlx.backbones.timm.networks.timm`, and so are `init`, both drop rates
            and `kwargs`.
        init: see there.
        front_end: `log_mel`, or `fbank` (Kaldi's).
        rate: samples a second; recordings of another are resampled.
        seconds: of every recording: cropped at its centre, or padded with silence.
        bands: height of the image; of a network of patches, a multiple of their side.
        window: seconds of a frame.
        hop: seconds from one frame to the next; frames that make no whole patch are left out.
        low: Hz.
        high: Hz; None: half the rate.
        scale: of mels.
        level: `item`: each band of a recording gets mean 0 and deviation 1.
        mean: that spectrograms are normalised by; None: of the front end, roughly.
        std: likewise.
        drop_rate: see there.
        drop_path_rate: see there.
        kwargs: see there.

    Raises:
        ValueError: as there, or more bands than a frame can tell apart.
        RuntimeError: the hub cannot be reached.
    """
    spec = AudioSpec(
        rate=rate,
        seconds=seconds,
        front_end=front_end,
        as_image=True,
        level=level,
        window=window,
        hop=hop,
        bands=bands,
        low=low,
        high=high,
        scale=scale,
    )
    check_bands(spec)
    spec = normalised(spec)
    spec = replace(
        spec,
        mean=spec.mean if mean is None else (float(mean),),
        std=spec.std if std is None else (float(std),),
    )
    patch = networks.patch_side(name, kwargs)
    frames = spec.frames_of(spec.samples or 1) // patch * patch
    if frames < 1:
        raise ValueError(
            f"backbone.seconds={seconds:g} gives fewer frames than a patch of {name!r} is wide, "
            f"{patch}; take more, or a shorter hop"
        )
    spec = replace(spec, seconds=spec.samples_of(frames) / rate)
    made = networks.timm(
        name=name,
        init=init,
        image_size=[bands, frames],
        in_chans=1,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        kwargs=kwargs,
    )
    notes = tuple(note for note in made.notes if not note.startswith("images are normalised"))
    return replace(made, reads=spec, notes=notes, export={})  # timm knows no front end
