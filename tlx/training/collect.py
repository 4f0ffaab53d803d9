"""Collecting what metrics need of each item, across batches and ranks."""

import math
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tlx.data.splits import IGNORED, Batch
from tlx.tasks.task import Collected, Task
from tlx.tasks.together import on_cpu

T = TypeVar("T")


class Collector:
    """Gathers per-item tensors of one evaluation; `finish` gives them in the split's order."""

    def __init__(self, task: Task) -> None:
        """Starts empty."""
        self.task = task
        self.parts: list[Collected] = []

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Adds the items of one batch."""
        part = on_cpu(self.task.collect(outputs, batch))
        self.parts.append({**part, "index": batch["index"].cpu()})

    def finish(self) -> Collected | None:
        """All items of all ranks in the split's order, each once; None on ranks other than 0."""
        mine = _concatenate(self.parts)
        self.parts = []
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[Collected] | None = (
                [{}] * dist.get_world_size() if dist.get_rank() == 0 else None
            )
            dist.gather_object(mine, gathered)
            if gathered is None:
                return None
            # a rank without items has collected no keys
            mine = _concatenate([part for part in gathered if part])
        order = mine["index"].argsort()
        return {key: value[order] for key, value in mine.items() if key != "index"}


def _concatenate(parts: list[Collected]) -> Collected:
    if not parts:
        return {}
    return {key: torch.cat(_alike([part[key] for part in parts])) for key in parts[0]}


def _alike(tensors: list[Tensor]) -> list[Tensor]:
    """Tensors whose dimensions after the first are padded to the longest of each."""
    shapes = {tensor.shape[1:] for tensor in tensors}
    if len(shapes) == 1:
        return tensors
    longest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    filler = math.nan if tensors[0].is_floating_point() else IGNORED
    made = []
    for tensor in tensors:
        wide = tensor.new_full((len(tensor), *longest), filler)
        wide[(slice(None), *(slice(size) for size in tensor.shape[1:]))] = tensor
        made.append(wide)
    return made


def broadcast(value: T) -> T:
    """Rank 0's value on every rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]
    return value
