"""Segments: immutable files of rows of one shape and type, and what tells whether they are whole.

`<id>.bin` holds rows back to back, `<id>.json` the items' keys, the type and checksums. The JSON
is written last: without it there is no segment, whenever its writer was killed. Nothing here
imports torch, so that `tlx cache` starts at once.
"""

import io
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

from tlx.base import durable
from tlx.base.version import __version__

FORMAT = 1
CHUNK_BYTES = 4 * 2**20
NAME = re.compile(r"[0-9a-f]{16}\.json")

_whole: set[tuple[str, int, int, int]] = set()
"""Path, inode, time and size of what this process has written, or has found whole."""


class DamagedSegment(ValueError):
    """A segment that is not as it was written."""


@dataclass(frozen=True, eq=False)
class Segment:
    """What the header of a segment says; compared by identity, as hashing its keys takes long.

    Attributes:
        header: path of the `.json`.
        keys: of its items, in the order of the rows.
        shape: of a row.
        dtype: torch's name of it, such as `bfloat16`.
        row_bytes: bytes of a row.
        crcs: CRC-32 of each 4 MiB of the rows.
        largest: largest relative rounding error of an element.
        mean: mean relative rounding error of the elements.
    """

    header: Path
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    row_bytes: int
    crcs: tuple[int, ...]
    largest: float
    mean: float

    @property
    def data(self) -> Path:
        """Path of the rows."""
        return self.header.with_suffix(".bin")

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Key to row."""
        return {key: row for row, key in enumerate(self.keys)}

    @property
    def bytes(self) -> int:
        """Bytes of the rows."""
        return self.row_bytes * len(self.keys)


def canonical(value: object) -> str:
    """JSON in which equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def headers(folder: Path) -> list[Path]:
    """The headers of a folder's segments, whole or not."""
    return sorted(path for path in folder.glob("*.json") if NAME.fullmatch(path.name))


def read(header: Path) -> Segment:
    """What a header says; its rows are not looked at.

    Raises:
        DamagedSegment: it cannot be read, or is not as it was written.
    """
    try:
        status = header.stat()
    except OSError as error:
        raise DamagedSegment(f"{header.name}: {error.strerror}") from None
    return _read(header, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _read(header: Path, _version: tuple[int, int, int]) -> Segment:
    try:
        content = json.loads(header.read_bytes())
        check = content.pop("check")
        if content["format"] != FORMAT or check != zlib.crc32(canonical(content).encode()):
            raise DamagedSegment(f"{header.name} is not as it was written")
        return Segment(
            header=header,
            keys=tuple(content["keys"]),
            shape=tuple(content["shape"]),
            dtype=content["dtype"],
            row_bytes=content["row_bytes"],
            crcs=tuple(content["crc32"]),
            largest=content["rounding"]["largest"],
            mean=content["rounding"]["mean"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise (
            error
            if isinstance(error, DamagedSegment)
            else DamagedSegment(f"{header.name}: {error}")
        ) from None


def check(segment: Segment, *, again: bool = False) -> None:
    """Compares the rows with their checksums, once a process unless `again`.

    Raises:
        DamagedSegment: they differ, are too few, or cannot be read.
    """
    try:
        version = _version(segment.data)
        if version in _whole and not again:
            return
        if version[-1] != segment.bytes:
            raise DamagedSegment(f"{segment.data.name} has {version[-1]} bytes of {segment.bytes}")
        buffer = memoryview(bytearray(CHUNK_BYTES))
        with open(segment.data, "rb", buffering=0) as file:
            for number, expected in enumerate(segment.crcs):
                if zlib.crc32(buffer[: _fill(file, buffer)]) != expected:
                    at = number * CHUNK_BYTES
                    raise DamagedSegment(
                        f"{segment.data.name} differs from its checksum after byte {at}"
                    )
    except OSError as error:
        raise DamagedSegment(f"{segment.data.name}: {error.strerror}") from None
    _whole.add(version)


def _version(path: Path) -> tuple[str, int, int, int]:
    status = path.stat()
    return str(path), status.st_ino, status.st_mtime_ns, status.st_size


def _fill(file: io.FileIO, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
        filled += count
    return filled


def remove(header: Path) -> None:
    """Deletes a segment; who has it mapped keeps it until then."""
    header.unlink(missing_ok=True)
    header.with_suffix(".bin").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Deletes what a killed writer left; only for who holds the writer's lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in folder.glob("*.bin"):
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)


@final
class Writer:
    """Writes one segment: rows first, `finish` makes them a segment, `discard` forgets them."""

    def __init__(self, folder: Path, *, shape: Sequence[int], dtype: str, row_bytes: int) -> None:
        """Opens a temporary file in the folder."""
        self._header = folder / f"{os.urandom(8).hex()}.json"
        self._temporary = folder / f".{self._header.stem}.bin.tmp"
        self._what = {"shape": list(shape), "dtype": dtype, "row_bytes": row_bytes}
        self._keys: list[str] = []
        self._crcs = [0]
        self._largest = self._sum = 0.0
        self.bytes = 0
        self._file = open(self._temporary, "wb", buffering=0)  # noqa: SIM115

    def add(self, keys: Sequence[str], rows: memoryview, *, largest: float, mean: float) -> None:
        """Appends rows.

        Args:
            keys: of the rows' items.
            rows: their bytes.
            largest: largest relative rounding error among them.
            mean: mean relative rounding error of them.
        """
        self._keys += keys
        self._largest = max(self._largest, largest)
        self._sum += mean * len(keys)
        while rows:
            inside = self.bytes % CHUNK_BYTES
            if not inside and self.bytes:
                self._crcs.append(0)
            part = rows[: CHUNK_BYTES - inside]
            part = part[: _write_some(self._file.fileno(), part)]
            self._crcs[-1] = zlib.crc32(part, self._crcs[-1])
            self.bytes += len(part)
            rows = rows[len(part) :]

    def finish(self) -> None:
        """Makes a segment of what was added."""
        # on the disk before the header says so: a power cut may come between the two
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._header.with_suffix(".bin"))
        content = {
            "format": FORMAT,
            "tlx": __version__,
            **self._what,
            "bytes": self.bytes,
            "chunk_bytes": CHUNK_BYTES,
            "crc32": self._crcs,
            "rounding": {"largest": self._largest, "mean": self._sum / len(self._keys)},
            "keys": self._keys,
        }
        check = zlib.crc32(canonical(content).encode())
        durable.write(self._header, json.dumps({**content, "check": check}, ensure_ascii=False))
        # written by us this moment: reading it back would prove nothing more
        _whole.add(_version(self._header.with_suffix(".bin")))

    def discard(self) -> None:
        """Deletes what is not yet a segment; does nothing after `finish`."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
        if not self._header.exists():
            self._header.with_suffix(".bin").unlink(missing_ok=True)


def _write_some(descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)
