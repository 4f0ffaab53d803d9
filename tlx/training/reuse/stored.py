"""Batches of stored activations, and the inputs that what lies above them may read as well."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from tlx.data.splits import Batch, Padding, Sample
from tlx.frozen import nested
from tlx.frozen.cut import Cut
from tlx.frozen.store import StoredRows
from tlx.training.loaders import Encoded, Position

STORED = "stored"
"""Key of activations among inputs."""


@dataclass(frozen=True)
class Beside:
    """The inputs themselves, where what lies above the boundary reads them too, as masks.

    Activations are then of positions, padded to the longest item of all; a batch takes as many as
    its own longest has, where the network allows.

    Attributes:
        dataset: encoded items.
        collate: of the loader.
        padding: of the inputs.
        length: to which batches are padded; None: to their own longest item.
    """

    dataset: Encoded
    collate: Callable[[list[Sample]], Batch]
    padding: Padding
    length: int | None = None

    def batch(self, positions: Sequence[Position], rows: Tensor) -> Batch:
        """A batch with its inputs, and the activations among them."""
        batch = self.collate([self.dataset[position] for position in positions])
        inputs = batch["input"]
        if self.length is not None:
            inputs = self.padding.pad(inputs, self.length)
        length = self.padding.mask(inputs).shape[1]
        part = rows[:, -length:] if self.padding.left else rows[:, :length]
        return {**batch, "input": {**inputs, STORED: part.contiguous()}}


def lengthened(rows: Tensor, length: int, *, left: bool) -> Tensor:
    """Activations [N, T, ...] of positions, padded by zeros to a length."""
    short = length - rows.shape[1]
    ends = (short, 0) if left else (0, short)
    return functional.pad(rows, (0, 0) * (rows.ndim - 2) + ends)


@final
@dataclass(frozen=True)
class Stored(Dataset[Batch]):
    """Batches of stored activations, gathered at once.

    Attributes:
        rows: the activations.
        targets: of all items; None with `beside`, which gives them.
        views: draws of an item that are stored; 0: one.
        served: counts what was asked for.
        beside: gives the inputs, where they are needed.
    """

    rows: StoredRows
    targets: Tensor | None
    views: int
    served: Counter[str]
    beside: Beside | None = None

    def __getitems__(self, positions: Sequence[Position]) -> Batch:
        """The batch at (index, epoch) positions."""
        self.served["items"] += len(positions)
        index = torch.tensor([index for index, _ in positions])
        row = index
        if self.views:
            row = index * self.views + torch.tensor([epoch for _, epoch in positions])
        rows = self.rows.gather(row)
        if self.beside is not None:
            return self.beside.batch(positions, rows)
        assert self.targets is not None
        return {"index": index, "input": rows, "target": self.targets[index]}


@dataclass(frozen=True)
class Decoded:
    """What is stored where the network has no frozen bottom: its inputs, decoded and resized.

    Attributes:
        shape: of one item's input.
        dtype: of the input.
        boundary: what records call it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    boundary: str = "input"

    def prefix(self, inputs: object) -> Tensor:
        """The inputs as they are: one tensor."""
        assert isinstance(inputs, Tensor)
        return inputs


def placed(inputs: object, device: torch.device) -> object:
    """Inputs, one tensor or several, on a device."""
    return nested.mapped(lambda tensor: tensor.to(device), inputs)


def row_bytes(part: Cut | Decoded) -> int:
    """Bytes of one item's activation."""
    return part.dtype.itemsize * torch.Size(part.shape).numel()


def by_length(
    positions: Sequence[Position], lengths: Sequence[int] | None, *, pool: int
) -> list[list[int]]:
    """Places of positions, pool by pool; within a pool the shorter items come first.

    Little is then padded, and results can be put back in order a pool at a time.

    >>> by_length([(0, 0), (1, 0), (2, 0)], [5, 2, 9], pool=2)
    [[1, 0], [2]]
    """
    pools = [
        list(range(start, min(start + pool, len(positions))))
        for start in range(0, len(positions), pool)
    ]
    if lengths is None:
        return pools
    return [sorted(each, key=lambda place: lengths[positions[place][0]]) for each in pools]


@dataclass(frozen=True)
class Chosen:
    """A batch sampler over given positions."""

    positions: Sequence[Position]
    batch_size: int

    def __iter__(self) -> Iterator[list[Position]]:
        """Yields positions."""
        for start in range(0, len(self.positions), self.batch_size):
            yield list(self.positions[start : start + self.batch_size])

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.positions) // self.batch_size)


@cache
def read_s_per_byte(folder: Path) -> float:
    """Seconds that the disk takes to read a byte, measured on a file that is not in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    size = 2**25
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.monotonic()
        file.seek(0)
        file.read()
        return (time.monotonic() - started) / size
