"""Rows of a store, open for reading, and how they are rounded when they are written."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.frozen.entries import Hold
from tlx.frozen.segments import Segment

UNITS = (torch.int64, torch.int32, torch.int16, torch.uint8)


@dataclass(frozen=True)
class Rounding:
    """Relative rounding error of elements: `|stored - x| / max(|x|, smallest normal number)`.

    Attributes:
        largest: of one element; 0 where nothing was rounded.
        mean: of all elements.
    """

    largest: float
    mean: float


def rounded(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Rounding]:
    """Values in another floating-point type, and the error of that.

    Raises:
        ValueError: a finite value has no finite counterpart, or a type is no floating-point type.
    """
    if values.dtype == dtype:
        return values, Rounding(0.0, 0.0)
    if not (values.dtype.is_floating_point and dtype.is_floating_point):
        raise ValueError(f"values are {values.dtype}, to be stored as {dtype}; convert them first")
    narrow = values.to(dtype)
    wide = torch.float64 if torch.float64 in (values.dtype, dtype) else torch.float32
    exact, stored = values.to(wide), narrow.to(wide)
    error = (stored - exact).abs_().div_(exact.abs().clamp_(min=torch.finfo(dtype).tiny))
    largest = float(error.max())
    if not math.isfinite(largest):
        finite = exact.isfinite()
        if not bool(stored[finite].isfinite().all()):
            biggest = float(exact[finite].abs().max())
            raise ValueError(
                f"activations reach {biggest:.3g}, {dtype} ends at {torch.finfo(dtype).max:.3g}; "
                "store them as bfloat16 or float32"
            )
        error = torch.where(finite, error, 0.0)
        largest = float(error.max())
    return narrow, Rounding(largest, float(error.mean()))


@dataclass(frozen=True)
class RowPlaces:
    """Where rows are.

    Attributes:
        segments: that may have them.
        segment_N: for each position, the number of its segment; -1: in none.
        row_N: for each position, its row there.
    """

    segments: Sequence[Segment]
    segment_N: Tensor
    row_N: Tensor


@final
class StoredRows:
    """Rows of items, one for each position of the keys that were asked for.

    Small ones are in memory as one tensor, others are read from the mapped files. Their entry in
    the store stays until `close`, or until nothing refers to them any more.

    Attributes:
        shape: of a row.
        dtype: of the rows.
        computed: items that were computed for this.
        reused: items that were in the store.
        bytes: of the rows of all different items.
        error: how much was rounded when they were written.
    """

    def __init__(
        self,
        places: RowPlaces,
        *,
        shape: Sequence[int],
        dtype: torch.dtype,
        computed: int,
        hold: Hold,
        resident_bytes: int,
    ) -> None:
        """Maps the segments that are needed, and copies rows up to `resident_bytes` in all."""
        self.shape, self.dtype = tuple(shape), dtype
        self.close = weakref.finalize(self, hold.close)
        row_bytes = dtype.itemsize * torch.Size(shape).numel()
        # copied as the widest integers that divide a row: faster, and right for any type
        self._unit = next(unit for unit in UNITS if row_bytes % unit.itemsize == 0)
        # numbered anew, without the segments that have none of these rows
        used, self._segment_N = places.segment_N.unique(return_inverse=True)
        self._row_N = places.row_N
        segments = [places.segments[number] for number in used.tolist()]
        counts = _items(self._segment_N, self._row_N, len(segments))
        items = sum(counts)
        self.computed, self.reused = computed, items - computed
        self.bytes = items * row_bytes
        self.error = Rounding(
            max((segment.largest for segment in segments), default=0.0),
            sum(s.mean * count for s, count in zip(segments, counts, strict=True)) / max(items, 1),
        )
        self._maps = [self._mapped(segment) for segment in segments]
        self._resident: Tensor | None = None
        if len(self) * row_bytes <= resident_bytes:
            self._resident = self._typed(self._collect(self._segment_N, self._row_N))
            self._maps = []

    def __len__(self) -> int:
        return len(self._row_N)

    @property
    def resident(self) -> bool:
        """Whether all rows are in memory."""
        return self._resident is not None

    def tensor(self) -> Tensor:
        """All rows [n, *shape], shared by whoever asks: do not change them.

        Raises:
            ValueError: they are not in memory.
        """
        if self._resident is None:
            raise ValueError(f"{self.bytes / 1e6:.1f} MB of rows are not in memory; use gather")
        return self._resident

    def gather(self, positions: Tensor | Sequence[int]) -> Tensor:
        """The rows of some positions, copied [n, *shape].

        Raises:
            IndexError: a position is negative, or beyond the last.
        """
        index_N = torch.as_tensor(positions, dtype=torch.int64, device="cpu")
        if self._resident is not None:
            return self._resident.index_select(0, index_N)
        segment_N = self._segment_N.index_select(0, index_N)
        return self._typed(self._collect(segment_N, self._row_N.index_select(0, index_N)))

    def _collect(self, segment_N: Tensor, row_N: Tensor) -> Tensor:
        """Rows as integers [n, units]: any type is copied alike."""
        numbers: list[int] = segment_N.unique().tolist()
        if len(numbers) == 1:
            return self._maps[numbers[0]].index_select(0, row_N)
        width = self.dtype.itemsize * torch.Size(self.shape).numel() // self._unit.itemsize
        out_NU = torch.empty(len(row_N), width, dtype=self._unit)
        for number in numbers:
            at = (segment_N == number).nonzero().squeeze(1)
            out_NU.index_copy_(0, at, self._maps[number].index_select(0, row_N[at]))
        return out_NU

    def _typed(self, rows_NU: Tensor) -> Tensor:
        return rows_NU.view(self.dtype).reshape(len(rows_NU), *self.shape)

    def _mapped(self, segment: Segment) -> Tensor:
        size = segment.bytes // self._unit.itemsize
        flat = torch.from_file(str(segment.data), shared=False, size=size, dtype=self._unit)
        return flat.view(len(segment.keys), -1)


def _items(segment_N: Tensor, row_N: Tensor, segments: int) -> list[int]:
    """How many different rows of each segment there are."""
    most = int(row_N.max()) + 1 if len(row_N) else 1
    different = (segment_N * most + row_N).unique()
    counts: list[int] = (different // most).bincount(minlength=segments).tolist()
    return counts
