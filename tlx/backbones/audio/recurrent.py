"""An acoustic model of one's own: recurrent layers over the frames of a recording."""

from itertools import pairwise
from typing import Annotated, Literal, final

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tlx.backbones.audio.features import (
    Inputs,
    frames,
    pooled_frames,
    real_frames,
    sound_of,
)
from tlx.backbones.audio.front_ends import check_bands, normalised
from tlx.backbones.backbone import DEFAULT, POOLED, Backbone, Wanted
from tlx.backbones.pooling import Pooling
from tlx.backbones.weights import files as weights
from tlx.base.ranges import Range
from tlx.data.audio.spec import AudioSpec
from tlx.methods.stages import Group

MODALITY = "audio"


def acoustic_model(
    wanted: Wanted = DEFAULT,
    /,
    *,
    init: str = "none",
    front_end: Literal["mfcc", "log_mel", "fbank"] = "mfcc",
    rate: Annotated[int, Range(least=1000, most=768000)] = 16000,
    seconds: Annotated[float | None, Range(least=0)] = None,
    bands: Annotated[int, Range(least=1, most=512)] = 40,
    coefficients: Annotated[int, Range(least=1, most=512)] = 13,
    slopes: Annotated[int, Range(least=0, most=2)] = 2,
    stack: Annotated[int, Range(least=1, most=16)] = 1,
    level: Literal["none", "item"] = "none",
    width: Annotated[int, Range(least=1)] = 128,
    layers: Annotated[int, Range(least=1, most=32)] = 3,
    bidirectional: bool = True,
    pooling: Literal["mean", "last", "concat", "attention"] = "mean",
    dropout: Annotated[float, Range(least=0, below=1)] = 0.2,
) -> Backbone:
    """LSTM layers over MFCCs or mel bands, without a head: trained by oneself, then transferred.

    Source: Graves, Mohamed and Hinton 2013, "Speech recognition with deep recurrent neural
    networks", 1303.5778; Kunze et al. 2017, "Transfer learning for speech recognition on a budget",
    1706.00290, for moving one to a new corpus.

    Args:
        wanted: what the task reads: `pooled`, or `frame`.
        init: `none` (random), or the weights file of a run.
        front_end: what a frame is, see `tlx.data.audio.spec.AudioSpec`, and so are the next seven.
        rate: samples a second.
        seconds: length of every item; 0: of the longest to train on; None: items keep theirs.
        bands: of the mel scale.
        coefficients: of an MFCC, at most as many as there are bands.
        slopes: see there.
        stack: see there.
        level: see there; by item, what differs from speaker to speaker goes, and with it what is
            the same all along.
        width: of a layer, in each direction.
        layers: how many.
        bidirectional: whether each layer also reads from the end.
        pooling: of a recording's frames to one vector; `concat`: last, maximum and mean.
        dropout: of states after each layer.

    Raises:
        ValueError: more bands than a frame can tell apart, more coefficients than bands, weights
            that do not fit.
    """
    weights.require_own(init, "an acoustic model")
    spec = AudioSpec(
        rate=rate,
        seconds=seconds,
        front_end=front_end,
        bands=bands,
        coefficients=coefficients,
        slopes=slopes if front_end == "mfcc" else 0,
        stack=stack,
        level=level,
    )
    check_bands(spec)
    spec = normalised(spec)
    states = width * (1 + bidirectional)
    module = AcousticModel(
        [spec.width, *[states] * layers],
        width=width,
        bidirectional=bidirectional,
        dropout=dropout,
        pooling=Pooling(pooling, states) if wanted.features == POOLED else None,
    )
    if init != "none":
        weights.load(module, init, optional=("pooling.",))
    names = [name for name, _ in module.named_parameters()]
    groups = tuple(
        Group(
            f"layers.{level}",
            tuple(n for n in names if n.startswith(f"layers.{level}.")),
            level,
        )
        for level in range(layers)
    )
    neck = tuple(name for name in names if name.startswith("pooling."))
    if neck:
        groups = (*groups, Group("pooling", neck, layers))
    pooled = 3 * states if pooling == "concat" else states
    return Backbone(
        module=module,
        features=pooled_frames if wanted.features == POOLED else frames,
        groups=groups,
        fine_groups=groups,
        head_level=len(groups),
        dims={"pooled": pooled} if wanted.features == POOLED else {"tokens": states},
        reads=spec,
        weights_id="none" if init == "none" else weights.content_id(module),
        neck=neck,
    )


@final
class AcousticModel(nn.Module):
    """Recurrent layers one after the other, with dropout behind each."""

    def __init__(
        self,
        sizes: list[int],
        *,
        width: int,
        bidirectional: bool,
        dropout: float,
        pooling: nn.Module | None,
    ) -> None:
        """Draws the weights.

        Args:
            sizes: of what goes into the first layer, and comes out of each.
            width: of a layer in each direction.
            bidirectional: whether there are two.
            dropout: of states.
            pooling: of frames; None: they are given as they are.
        """
        super().__init__()
        self.layers = nn.ModuleList(
            DroppedStates(before, width, bidirectional=bidirectional, dropout=dropout)
            for before, _ in pairwise(sizes)
        )
        self.pooling = pooling

    def forward(self, inputs: Inputs) -> Tensor:
        """[N, D] of all frames together, or [N, T, D], one a frame, without a pooling."""
        states = sound_of(inputs)
        real = real_frames(inputs, states)
        for layer in self.layers:
            states = layer(states, real)
        if self.pooling is None:
            return states
        pooled: Tensor = self.pooling(states, real)
        return pooled


@final
class DroppedStates(nn.Module):
    """An LSTM that reads only frames that are real, from both ends, with dropout behind."""

    def __init__(self, before: int, width: int, *, bidirectional: bool, dropout: float) -> None:
        """Draws the weights; the gate that forgets is open at first (Jozefowicz et al. 2015)."""
        super().__init__()
        self.lstm = nn.LSTM(before, width, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter[width : 2 * width])

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """States [N, T, D] of frames, 0 where they are padding."""
        lengths = real.sum(1)
        if states.device.type == "meta" or bool((lengths == real.shape[1]).all()):
            out, _ = self.lstm(states)
        else:
            packed = pack_padded_sequence(
                states, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            out, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=states.shape[1]
            )
        dropped: Tensor = self.dropout(out)
        return dropped
