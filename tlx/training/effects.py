"""What a regularization option may change: the seams between options and training."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytorch_lightning as pl
from torch import Tensor

from tlx.methods.step import Step

Penalty = Callable[[Step], Tensor]
Rows = Callable[[Mapping[str, Any], str], Tensor]
"""(batch, unit that the task reads) -> how many rows of it a penalty is the mean of."""
T = TypeVar("T")


@dataclass(frozen=True)
class EarlyStopping:
    """Ends the run after `patience` validations that do not improve by `min_delta`."""

    patience: int
    min_delta: float


@dataclass(frozen=True)
class Ema:
    """Averages weights from `start_fraction` of the budget on; see `methods.averaging`."""

    decay: float
    start_fraction: float


@dataclass(frozen=True)
class Effects:
    """One option's effects; those of a list are joined by `join`.

    Attributes:
        penalty: function of a Step, added to the task's loss.
        rows: what the penalty is a mean of, where that is not the batch's items; what depends on
            weights alone needs none either.
        needs_anchor: whether the penalty reads the starting weights.
        smoothing: label smoothing of the task's loss.
        weight_decay: of the parameters that take any; None leaves it alone.
        head_only_decay: restricts weight decay to the head (a penalty rules the trunk).
        backbone: arguments of the backbone, `drop_path_rate`.
        head_dropout: before the head's last layer.
        head_norm: whether the head starts with batch norm.
        grad_clip: largest norm of the gradient.
        early_stopping: ends the run.
        ema: averaged weights, evaluated and kept instead of the raw ones.
        callbacks: Lightning callbacks.
        reads_inputs: whether the network's inputs are needed in each step, which are not at hand
            where training starts from stored activations.
        kinds: kinds of labels that the option is for; empty: all.
        embedding_noise: alpha of NEFTune's noise on the embeddings of tokens.
        of_whole_batches: whether it depends on what is computed at once, as a loss that compares
            items with one another does: then memory that runs out must not divide a batch.
    """

    penalty: Penalty | None = None
    rows: Rows | None = None
    needs_anchor: bool = False
    smoothing: float | None = None
    weight_decay: float | None = None
    head_only_decay: bool = False
    backbone: dict[str, Any] = field(default_factory=dict)
    head_dropout: float | None = None
    head_norm: bool = False
    grad_clip: float | None = None
    early_stopping: EarlyStopping | None = None
    ema: Ema | None = None
    callbacks: tuple[pl.Callback, ...] = ()
    reads_inputs: bool = False
    kinds: tuple[str, ...] = ()
    embedding_noise: float | None = None
    of_whole_batches: bool = False


@dataclass(frozen=True)
class Joined:
    """The effects of all options together, with the neutral value where none speaks."""

    penalties: dict[str, Penalty]
    rows: dict[str, Rows]
    needs_anchor: bool
    smoothing: float
    weight_decay: float
    head_only_decay: bool
    backbone: dict[str, Any]
    asked_by: dict[str, str]  # the option that gives each of these arguments
    head_dropout: float
    head_norm: bool
    grad_clip: float | None
    early_stopping: EarlyStopping | None
    ema: Ema | None
    callbacks: tuple[pl.Callback, ...]
    reads_inputs: bool
    kinds: dict[str, tuple[str, ...]]
    embedding_noise: float | None
    of_whole_batches: tuple[str, ...]


def join(options: dict[str, Effects]) -> Joined:
    """The effects of named options as one.

    Raises:
        ValueError: two options set the same thing.
    """
    named = options.items()
    return Joined(
        penalties={name: e.penalty for name, e in named if e.penalty is not None},
        rows={name: e.rows for name, e in named if e.rows is not None},
        needs_anchor=any(e.needs_anchor for e in options.values()),
        smoothing=_only("smoothing", ((n, e.smoothing) for n, e in named)) or 0.0,
        weight_decay=_only("weight_decay", ((n, e.weight_decay) for n, e in named)) or 0.0,
        head_only_decay=any(e.head_only_decay for e in options.values()),
        backbone={key: value for e in options.values() for key, value in e.backbone.items()},
        asked_by={key: name for name, e in named for key in e.backbone},
        head_dropout=_only("head_dropout", ((n, e.head_dropout) for n, e in named)) or 0.0,
        head_norm=any(e.head_norm for e in options.values()),
        grad_clip=_only("grad_clip", ((n, e.grad_clip) for n, e in named)),
        early_stopping=_only("early_stopping", ((n, e.early_stopping) for n, e in named)),
        ema=_only("ema", ((n, e.ema) for n, e in named)),
        callbacks=tuple(c for e in options.values() for c in e.callbacks),
        reads_inputs=any(e.reads_inputs for e in options.values()),
        kinds={name: e.kinds for name, e in named if e.kinds},
        embedding_noise=_only("embedding_noise", ((n, e.embedding_noise) for n, e in named)),
        of_whole_batches=tuple(name for name, e in named if e.of_whole_batches),
    )


def _only(what: str, values: Iterable[tuple[str, T | None]]) -> T | None:
    given = [(name, value) for name, value in values if value is not None]
    if len(given) > 1:
        names = ", ".join(name for name, _ in given)
        raise ValueError(f"regularization: {names} all set {what}; keep one of them")
    return given[0][1] if given else None
