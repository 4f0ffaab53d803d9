"""The store of activations: what was computed once for an item is never computed again.

A folder for each prefix (its weights, boundary, transform, versions: the facts), and in it rows
for each item, by the item's content. Runs share what they have in common, whatever the rest of
their data; only what is missing is computed, by one process at a time.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from tlx.base import durable
from tlx.frozen import entries, segments
from tlx.frozen.entries import NoLocks, NoRoom, StoreError
from tlx.frozen.rows import Rounding, RowPlaces, StoredRows, rounded
from tlx.frozen.segments import DamagedSegment, Segment

__all__ = ["NoLocks", "NoRoom", "Rounding", "Store", "StoreError", "StoredRows"]

logger = logging.getLogger(__name__)

Compute = Callable[[Sequence[int]], Iterator[Tensor]]
Say = Callable[[str], object]


@dataclass(frozen=True)
class _Wanted:
    """What one call asks for."""

    entry: Path
    keys: Sequence[str]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass
class _Holdings:
    """Where wanted items are, which positions have none, and which segments are damaged."""

    places: RowPlaces
    missing: list[int]
    damaged: dict[Path, str]


@final
@dataclass(eq=False)
class Store:
    """A folder of activations, shared by processes.

    Attributes:
        folder: made where it is missing.
        budget_bytes: what the store may have on disk; None: what the disk has.
        segment_bytes: a segment is closed when it has these, so that a restart finds it.
        segment_s: and after these seconds of computing.
        resident_bytes: rows up to this size in all are read into memory.
    """

    folder: Path
    budget_bytes: int | None = None
    segment_bytes: int = 512 * 2**20
    segment_s: float = 60.0
    resident_bytes: int = 2**30

    def __post_init__(self) -> None:
        self.folder = self.folder.expanduser().absolute()

    def rows(
        self,
        facts: Mapping[str, object],
        keys: Sequence[str],
        *,
        shape: Sequence[int],
        dtype: torch.dtype,
        compute: Compute,
        say: Say = logger.warning,
    ) -> StoredRows:
        """The rows of items, read where they are in the store, else computed and stored.

        Args:
            facts: all that rows depend on beside the item, as plain JSON data.
            keys: a hash of each item's content; the same twice is computed once.
            shape: of a row.
            dtype: rows are stored so; floating-point values are rounded, and the error is told.
            compute: given positions of `keys`, yields their rows [n_i, *shape], in order.
            say: is told of waiting, damage and deletions.

        Raises:
            NoRoom: what is missing does not fit on the disk, or into the budget.
            NoLocks: the file system has none.
            ValueError: `compute` yields other shapes, types or numbers of rows; a value overflows.
        """
        if 0 in shape:
            raise ValueError(f"shape={tuple(shape)}; rows have one element or more")
        identity = entries.identity(facts, shape=shape, dtype=str(dtype).removeprefix("torch."))
        wanted = _Wanted(self.folder / entries.key_of(identity), keys, tuple(shape), dtype)
        hold = entries.hold(wanted.entry)
        try:
            holdings, computed = _find(wanted), 0
            if holdings.missing or holdings.damaged or not _described(wanted.entry):
                with entries.writing(wanted.entry, say=say):
                    holdings, computed = self._complete(wanted, identity, compute=compute, say=say)
            return StoredRows(
                holdings.places,
                shape=wanted.shape,
                dtype=dtype,
                computed=computed,
                hold=hold,
                resident_bytes=self.resident_bytes,
            )
        except BaseException:
            hold.close()
            # else each failure would leave a folder that nobody asks for again
            entries.remove(wanted.entry, only_empty=True)
            raise

    def _complete(
        self, wanted: _Wanted, identity: Mapping[str, object], *, compute: Compute, say: Say
    ) -> tuple[_Holdings, int]:
        """Adds what is missing, as the entry's only writer; another may just have done it."""
        segments.sweep(wanted.entry)
        # looked for anew: whoever wrote before us may have computed what was missing
        holdings = _find(wanted)
        for header, why in holdings.damaged.items():
            say(f"{wanted.entry.name}: {why}; its items are computed again")
            segments.remove(header)
        extra = sum(len(wanted.keys[position].encode()) + 4 for position in holdings.missing)
        needed = len(holdings.missing) * wanted.row_bytes + extra
        if holdings.missing:
            entries.make_room(needed, entry=wanted.entry, budget=self.budget_bytes, say=say)
        with self._full_disk(needed):
            durable.write(wanted.entry / entries.FACTS, segments.canonical(identity))
        if not holdings.missing:
            return holdings, 0
        self._compute(wanted, holdings.missing, compute=compute, needed=needed)
        again = _find(wanted)
        if again.missing:
            raise StoreError(f"rows vanished from {wanted.entry} as soon as they were written")
        return again, len(holdings.missing)

    def _compute(
        self, wanted: _Wanted, positions: Sequence[int], *, compute: Compute, needed: int
    ) -> None:
        """Computes rows and writes them, as one segment or, of what takes long, several."""
        writer, begun, done = None, 0.0, 0
        try:
            for rows in self._pieces(wanted, compute(positions)):
                count = len(rows)
                if done + count > len(positions):
                    raise ValueError(
                        f"compute yields more than the {len(positions)} rows asked for"
                    )
                narrow, error = rounded(rows, wanted.dtype)
                keys = [wanted.keys[position] for position in positions[done : done + count]]
                data = narrow.cpu().contiguous().reshape(count, -1).view(torch.uint8).numpy().data
                with self._full_disk(needed):
                    if writer is None:
                        writer, begun = _writer(wanted), time.monotonic()
                    writer.add(keys, data.cast("B"), largest=error.largest, mean=error.mean)
                    done += count
                    late = time.monotonic() - begun > self.segment_s
                    if late or writer.bytes >= self.segment_bytes or done == len(positions):
                        writer.finish()
                        writer = None
        finally:
            if writer is not None:
                writer.discard()
        if done < len(positions):
            raise ValueError(f"compute yields {done} of the {len(positions)} rows asked for")

    def _pieces(self, wanted: _Wanted, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """Batches of the right shape, none larger than a segment."""
        most = max(1, self.segment_bytes // wanted.row_bytes)
        for batch in batches:
            if tuple(batch.shape[1:]) != wanted.shape or not batch.dim():
                raise ValueError(
                    f"compute yields a tensor {list(batch.shape)}; rows are {list(wanted.shape)}"
                )
            if len(batch):
                yield from batch.detach().split(most)

    @contextmanager
    def _full_disk(self, needed: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise entries.too_large(needed, folder=self.folder, budget=self.budget_bytes) from error


def _writer(wanted: _Wanted) -> segments.Writer:
    return segments.Writer(
        wanted.entry, shape=wanted.shape, dtype=wanted.dtype_name, row_bytes=wanted.row_bytes
    )


def _described(entry: Path) -> bool:
    try:
        entries.read_identity(entry)
    except DamagedSegment:
        return False
    return True


def _find(wanted: _Wanted) -> _Holdings:
    """Looks for items in the entry's segments, and checks those that are needed."""
    readable: list[Segment] = []
    damaged: dict[Path, str] = {}
    for header in segments.headers(wanted.entry):
        try:
            readable.append(_fitting(header, wanted))
        except DamagedSegment as error:
            damaged[header] = str(error)
    places = RowPlaces(
        readable, torch.full((len(wanted.keys),), -1), torch.full((len(wanted.keys),), -1)
    )
    left_N, keys = torch.arange(len(wanted.keys)), list(wanted.keys)
    for number, segment in enumerate(readable):
        row_N = torch.tensor(list(map(segment.index.get, keys, repeat(-1))), dtype=torch.int64)
        here_N = row_N >= 0
        if not bool(here_N.any()):
            continue
        try:
            segments.check(segment)
        except DamagedSegment as error:
            damaged[segment.header] = str(error)
            continue
        places.segment_N[left_N[here_N]] = number
        places.row_N[left_N[here_N]] = row_N[here_N]
        left_N = left_N[~here_N]
        keys = [wanted.keys[position] for position in left_N.tolist()]
    first: dict[str, int] = {}
    for key, position in zip(keys, left_N.tolist(), strict=True):
        first.setdefault(key, position)
    return _Holdings(places, list(first.values()), damaged)


def _fitting(header: Path, wanted: _Wanted) -> Segment:
    segment = segments.read(header)
    expected = (wanted.shape, wanted.dtype_name, wanted.row_bytes)
    if (segment.shape, segment.dtype, segment.row_bytes) != expected:
        raise DamagedSegment(f"{header.name} has rows {segment.shape} of {segment.dtype}")
    return segment
