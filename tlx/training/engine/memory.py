"""Out of memory on a device: less is computed at once, and what is learnt stays as it is.

In training, a rank's share of a batch is computed in twice as many parts, as if
`trainer.accumulate` were twice as large, and the step in hand is done again. In evaluation, a batch
is computed in halves. What was found to fit is kept beside a run's checkpoints, so that a run that
goes on need not find it anew; it is no part of the run's id, for it does not change the result.
"""

import gc
import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlx.base import durable
from tlx.data.splits import Batch
from tlx.frozen import nested

T = TypeVar("T")
OnOom = Literal["halve", "error"]

FILE = "parts.json"
"""Beside a run's checkpoints: the fields of `BatchParts`."""

_ALLOCATIONS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""How libraries of CUDA say that their own workspace does not fit."""

_ADVICE = "lower trainer.batch_size, or use trainer.precision=bf16-mixed or a smaller network"


NO_UPDATE = (
    "the optimizer's own state does not fit into the device's memory, however a batch is divided: "
    "use optimizer=sgd, a smaller network, or a freeze_strategy that trains less of it"
)


class TooLarge(RuntimeError):
    """Out of memory, where computing less at once is no way on; it names the keys to change."""


@dataclass
class BatchParts:
    """In how many parts a rank's share of a batch is computed, and since when.

    Attributes:
        accumulate: parts.
        halved_at: steps at which memory ran out, one for each time the parts were doubled.
    """

    accumulate: int
    halved_at: list[int] = field(default_factory=list)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory is full."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _ALLOCATIONS)


def release(error: BaseException) -> None:
    """Lets go of what the frames of an error hold (a mutator of them), and of cached memory."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def read(folder: Path, *, accumulate: int) -> BatchParts:
    """What was found to fit in an earlier launch of a run, or what its config says.

    Args:
        folder: of its checkpoints.
        accumulate: of the config.
    """
    try:
        found = BatchParts(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):  # none, or damaged
        return BatchParts(accumulate)
    counts = [found.accumulate, *found.halved_at] if isinstance(found.halved_at, list) else [None]
    whole = all(type(count) is int for count in counts) and found.accumulate >= accumulate
    return found if whole else BatchParts(accumulate)  # it is found anew


def write(folder: Path, division: BatchParts) -> None:
    """Keeps what fits, for whoever goes on with the run."""
    durable.write(folder / FILE, json.dumps(asdict(division)))


def doubled(division: BatchParts, *, share: int, step: int) -> BatchParts:
    """Twice as many parts.

    Args:
        division: as it was.
        share: least items of a rank's share of a batch.
        step: at which memory ran out.

    Raises:
        TooLarge: parts are of one item already.
    """
    if division.accumulate >= share:
        raise TooLarge(f"one item at a time does not fit into the device's memory: {_ADVICE}")
    return BatchParts(min(2 * division.accumulate, share), [*division.halved_at, step])


def why_not(
    network: nn.Module, *, mixing: Sequence[str] = (), regularization: Sequence[str] = ()
) -> str | None:
    """Why a batch in more parts would teach something else, with the keys to change.

    Args:
        network: in the modes of training.
        mixing: augmentations of the features of what is computed at once.
        regularization: options that depend on what is computed at once.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
            return (
                f"{name} takes its statistics of what is computed at once; {_ADVICE}, or "
                "frozen.norm_stats=freeze, or choose trainer.accumulate yourself"
            )
    if mixing:
        return (
            f"augmentation={mixing[0]} mixes features of what is computed at "
            f"once; {_ADVICE}, leave it out, or choose trainer.accumulate yourself"
        )
    if regularization:
        return (
            f"regularization={regularization[0]} depends on what is computed at once; "
            f"{_ADVICE}, leave it out, or choose trainer.accumulate yourself"
        )
    return None


@final
@dataclass
class AtOnce:
    """How many items of an evaluation batch are computed at once: all of them, while they fit.

    Attributes:
        halves: whether a batch that does not fit is computed in halves.
        items: most that fit, as far as that has been tried; None: no batch was too large.
    """

    halves: bool = True
    items: int | None = None

    def outputs(self, run: Callable[[object], T], batch: Batch) -> Iterator[tuple[T, Batch]]:
        """What `run` makes of a batch's inputs, and the batch; part by part where it has to be.

        Raises:
            TooLarge: one item alone does not fit.
        """
        waiting = list(divided(batch, self.items or len(batch["index"])))
        while waiting:
            part, outputs = waiting.pop(0), None
            try:
                outputs = run(part["input"])
            except RuntimeError as error:
                if not self.halves or not is_out_of_memory(error):
                    raise
                if len(part["index"]) == 1:
                    raise TooLarge(
                        f"one item at a time does not fit into the device's memory: {_ADVICE}"
                    ) from error
                self.items = len(part["index"]) // 2
                release(error)
            if outputs is None:
                waiting = [*divided(part, self.items or 1), *waiting]
            else:
                yield outputs, part

    def notes(self) -> dict[str, int]:
        """What a record says of it."""
        return {} if self.items is None else {"evaluated_at_once": self.items}


def divided(batch: Batch, items: int) -> Sequence[Batch]:
    """A batch in parts of so many items, the last maybe of fewer."""
    count = len(batch["index"])
    if items >= count:
        return [dict(batch)]
    parts = [slice(start, start + items) for start in range(0, count, items)]
    return [{k: nested.items(v, part, count) for k, v in batch.items()} for part in parts]
