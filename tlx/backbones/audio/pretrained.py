"""Backbones from transformers that read waves: wav2vec2, HuBERT, WavLM, data2vec and their kin."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel, PreTrainedConfig

from tlx.backbones.audio.features import Inputs, frames, pooled_frames, real_frames, sound_of
from tlx.backbones.backbone import DEFAULT, POOLED, Backbone, Wanted
from tlx.backbones.pooling import Pooling
from tlx.backbones.transformers.sources import (
    WeightsSource,
    built_by_library,
    check_init,
    config_of,
    quiet,
    reached,
    set_dropout,
    source_of,
)
from tlx.backbones.weights import files as weights
from tlx.base.ranges import Range
from tlx.data.audio.spec import AudioSpec, samples_under
from tlx.methods.stages import Group

MODALITY = "audio"
RATE = 16000
"""Of all networks of this family that are known; a folder's own says so itself."""
OWN_DRAWS = ("mask_time_prob", "mask_feature_prob", "layerdrop")
"""Rates of what the networks draw by themselves, even in a trunk that is frozen around them: off.
SpecAugment is an augmentation here, and layers that are left out break several devices."""
STEM = re.compile(r"model\.feature_extractor\.conv_layers\.(\d+)\..*")
LAYER = re.compile(r"model\.encoder\.layers\.(\d+)\..*")
ABOVE = ("model.adapter.", "model.encoder.upsample.", "pooling.")
MASKED = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")
"""Kinds that give a recording the same features whatever it is padded by, where their first norm
counts over channels (`feat_extract_norm: layer`) and they are told what is real."""


def audio_transformers(
    wanted: Wanted = DEFAULT,
    /,
    *,
    name: str,
    init: str = "hub",
    seconds: Annotated[float | None, Range(least=0)] = 0,
    pooling: Literal["mean", "attention"] = "mean",
    level: Literal["auto", "none", "item"] = "auto",
    dropout: Annotated[float | None, Range(least=0, below=1)] = None,
    kwargs: dict[str, Any] | None = None,
) -> Backbone:
    """An encoder of waves of transformers, without its head.

    Args:
        wanted: what the task reads: `pooled`, or `frame`.
        name: a name of the hub, `facebook/wav2vec2-base`; a folder that `save_pretrained` wrote;
            or, where the weights are not the hub's, a kind of network, `wav2vec2`, of the size that
            `kwargs` states.
        init: `hub` (the weights of `name`, a folder's too), `none` (random), or a weights file.
        seconds: length of every recording; 0: of the longest to train on; None: they keep their
            lengths, which only networks allow whose frames do not depend on padding.
        pooling: of frames to one vector.
        level: `item`: a recording gets mean 0 and deviation 1; `auto`: as the network's own feature
            extractor does, and so for a kind of network.
        dropout: all rates of dropout inside the network; None: its own.
        kwargs: entries of the network's config, `{num_hidden_layers: 4}`; `attn_implementation`.

    Raises:
        ValueError: no network of waves, an unknown entry, weights that do not fit, or lengths that
            the network cannot keep apart from padding.
        RuntimeError: the hub cannot be reached.
    """
    source = source_of(name, init)
    check_init(init)
    config: Any = config_of(source, kwargs or {}, tokenizer=None)
    if not hasattr(config, "conv_kernel"):
        raise ValueError(
            f"backbone.name={name!r} ({config.model_type}) reads no waves; choose a network as "
            "wav2vec2, hubert, wavlm, unispeech-sat, data2vec-audio"
        )
    if seconds is None and not _masked(config):
        raise ValueError(
            f"backbone.name={name!r} ({config.model_type}): padding changes a recording's "
            "features, which would depend on the others of its batch; give backbone.seconds, or 0 "
            "for the longest to train on"
        )
    _set_rates(config, dropout)
    rate, levelled = _extractor(source)
    module = _built(config, source if init == "hub" else None, (kwargs or {}), pooling, wanted)
    if init not in {"hub", "none"}:
        weights.load(module, init, optional=("pooling.", "model.masked_spec_embed"))
    coarse, fine = _groups(module, stable=bool(getattr(config, "do_stable_layer_norm", False)))
    return Backbone(
        module=module,
        features=pooled_frames if wanted.features == POOLED else frames,
        groups=coarse,
        fine_groups=fine,
        head_level=fine[-1].level if _is_neck(fine[-1]) else fine[-1].level + 1,
        dims={"pooled" if wanted.features == POOLED else "tokens": int(config.hidden_size)},
        reads=AudioSpec(
            rate=rate,
            seconds=seconds,
            front_end="waveform",
            level=("item" if levelled else "none") if level == "auto" else level,
            kernels=tuple(config.conv_kernel),
            strides=tuple(config.conv_stride),
        ),
        weights_id="none" if init == "none" else weights.content_id(module),
        neck=fine[-1].parameters if _is_neck(fine[-1]) else (),
    )


@final
class SoundNetwork(nn.Module):
    """A network of waves and a pooling of its frames."""

    def __init__(self, model: nn.Module, pooling: nn.Module | None, *, masked: bool) -> None:
        """Keeps the parts.

        Args:
            model: of transformers.
            pooling: of frames; None: they are given as they are.
            masked: whether the network is told which samples are real, or reads silence as such.
        """
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.masked = masked

    def forward(self, inputs: Inputs) -> Tensor:
        """[N, D] of all frames together, or [N, T, D], one a frame, without a pooling."""
        sound, mask = sound_of(inputs), None
        if self.masked and not isinstance(inputs, Tensor):
            mask = self._samples(inputs["real"], sound.shape[1]).long()
        states: Tensor = self.model(input_values=sound, attention_mask=mask).last_hidden_state
        if self.pooling is None:
            return states
        pooled: Tensor = self.pooling(states, real_frames(inputs, states))
        return pooled

    def _samples(self, real_NT: Tensor, there: int) -> Tensor:
        """Which samples are real, of the frames that are: as many as these need."""
        config: Any = self.model.config
        needed_N = samples_under(real_NT.sum(1), config.conv_kernel, config.conv_stride)
        return torch.arange(there, device=real_NT.device) < needed_N[:, None]


def _set_rates(config: Any, dropout: float | None) -> None:
    """Turns off what the network draws by itself, and sets its dropout (a mutator)."""
    for key in OWN_DRAWS:
        if hasattr(config, key):
            setattr(config, key, 0.0)
    set_dropout(config, dropout)


def _extractor(source: WeightsSource) -> tuple[int, bool]:
    """Rate, and whether recordings are levelled, as the network's feature extractor says."""
    there = Path(source.name, "preprocessor_config.json").is_file()
    if source.kind == "type" or (source.kind == "folder" and not there):
        return RATE, True
    with reached(source, "feature extractor"):
        found = AutoFeatureExtractor.from_pretrained(source.name, trust_remote_code=False)
    return int(found.sampling_rate), bool(getattr(found, "do_normalize", True))


def _built(
    config: PreTrainedConfig,
    source: WeightsSource | None,
    kwargs: Mapping[str, object],
    pooling: str,
    wanted: Wanted,
) -> SoundNetwork:
    options: dict[str, object] = {"dtype": torch.float32}
    if "attn_implementation" in kwargs:
        options["attn_implementation"] = kwargs["attn_implementation"]
    if source is None:
        with quiet(), built_by_library(config):
            model: Any = AutoModel.from_config(config, **options)
    else:
        with reached(source, "weights"):
            model = AutoModel.from_pretrained(
                source.name, config=config, trust_remote_code=False, **options
            )
    # else its convolutions ask for a gradient of the wave, and are run backwards while frozen
    model.feature_extractor._requires_grad = False
    width = int(model.config.hidden_size)
    pool = Pooling(pooling, width) if wanted.features == POOLED else None
    return SoundNetwork(model.train(), pool, masked=_masked(model.config))


def _masked(config: Any) -> bool:
    return config.model_type in MASKED and config.feat_extract_norm == "layer"


def _groups(module: nn.Module, *, stable: bool) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Coarse groups, with the convolutions as one, and fine ones, with one each.

    Args:
        module: the network.
        stable: whether the encoder's norm comes after its layers, not before.
    """
    names = [name for name, _ in module.named_parameters()]
    fine: dict[str, list[str]] = {}
    coarse: dict[str, list[str]] = {}
    for name in names:
        short = _part_of(name, stable=stable)
        fine.setdefault(short, []).append(name)
        coarse.setdefault(re.sub(r"^(feature_extractor)\..*", r"\1", short), []).append(name)
    return _ordered(coarse), _ordered(fine)


def _part_of(name: str, *, stable: bool) -> str:
    if found := STEM.fullmatch(name):
        return f"feature_extractor.{found[1]}"
    if found := LAYER.fullmatch(name):
        return f"encoder.layers.{found[1]}"
    if name.startswith(ABOVE) or (stable and name.startswith("model.encoder.layer_norm.")):
        return "neck"
    if name.startswith(("model.feature_extractor.", "model.feature_projection.")) or (
        name.count(".") == 1
    ):
        return "feature_projection"
    return "encoder.pos_conv_embed"


def _ordered(parts: Mapping[str, Sequence[str]]) -> tuple[Group, ...]:
    def place(part: str) -> tuple[int, int]:
        head, _, number = part.rpartition(".")
        if not number.isdigit():
            head, number = part, "0"
        order = (
            *("feature_extractor", "feature_projection", "encoder.pos_conv_embed"),
            *("encoder.layers", "neck"),
        )
        return order.index(head), int(number)

    return tuple(
        Group(part, tuple(parts[part]), level)
        for level, part in enumerate(sorted(parts, key=place))
    )


def _is_neck(group: Group) -> bool:
    return group.name == "neck"
