"""Entries: a store's folders, one for each prefix of a network, and who may write or delete them.

An entry is named by a hash of the facts that its rows depend on. Two locks of the kernel's, given
back however a process ends: `used` is shared by all who have rows of the entry open, and needed
alone to delete it; `writer.lock` is for the one who adds segments. The time of `used` tells when
the entry was last opened.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tlx.frozen import segments
from tlx.frozen.segments import DamagedSegment

KEY = re.compile(r"[0-9a-f]{24}")
FACTS, USED, WRITER = "facts.json", "used", "writer.lock"
GONE = ".gone-"
RESERVE_BYTES, RESERVE_SHARE = 2**30, 0.05
SAY_AFTER_S = 2.0


class StoreError(RuntimeError):
    """The store cannot be used; the same can be computed without it."""


class NoLocks(StoreError):
    """The file system has no locks."""


class NoRoom(StoreError):
    """What is to be stored does not fit.

    Attributes:
        needed: bytes that are to be added.
        budget: bytes that the store may have; None: as the disk allows.
        free: bytes that are free on the disk.
    """

    def __init__(self, message: str, *, needed: int, budget: int | None, free: int) -> None:
        super().__init__(message)
        self.needed, self.budget, self.free = needed, budget, free


@dataclass(frozen=True)
class Entry:
    """What an entry's folder says.

    Attributes:
        path: the folder; its name is the key.
        facts: what its rows depend on, shape and type included; empty where unreadable.
        items: how many items have rows in readable segments.
        bytes: of all its files.
        used: when it was last opened, in seconds since the epoch.
        in_use: whether a process has it open.
    """

    path: Path
    facts: Mapping[str, object]
    items: int
    bytes: int
    used: float
    in_use: bool


def identity(facts: Mapping[str, object], *, shape: Sequence[int], dtype: str) -> dict[str, object]:
    """All that rows depend on, as plain JSON data."""
    format = {"shape": list(shape), "dtype": dtype, "byteorder": sys.byteorder}
    whole = {"facts": dict(facts), **format, "format": segments.FORMAT}
    plain = json.loads(segments.canonical(whole))
    assert isinstance(plain, dict)
    return plain


def key_of(identity: Mapping[str, object]) -> str:
    """The name of the folder for rows that depend on this."""
    return hashlib.sha256(segments.canonical(identity).encode()).hexdigest()[:24]


def read_identity(path: Path) -> dict[str, object]:
    """What `facts.json` says.

    Raises:
        DamagedSegment: it cannot be read, or does not belong to the folder's name.
    """
    try:
        content = json.loads((path / FACTS).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedSegment(f"{FACTS}: {error}") from None
    if not isinstance(content, dict) or key_of(content) != path.name:
        raise DamagedSegment(f"{FACTS} does not belong to {path.name}")
    return content


@final
class Hold:
    """An open lock file; `close` gives the lock back, once, and only in the process that took it.

    A forked process has the same lock: what it does may not take it from its parent.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._pid = descriptor, os.getpid()

    def close(self) -> None:
        """Gives the lock back."""
        if self._descriptor < 0 or os.getpid() != self._pid:
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1


def hold(path: Path) -> Hold:
    """Opens an entry, made where it is missing: nobody deletes it until the hold is closed."""
    while True:
        with suppress(FileExistsError):
            path.mkdir(parents=True)
        with suppress(FileNotFoundError):  # deleted in this moment
            held = _locked(path / USED, fcntl.LOCK_SH)
            if held is not None:
                os.utime(path / USED)
                return held


@contextmanager
def writing(path: Path, *, say: Callable[[str], object]) -> Iterator[None]:
    """Holds the one right to write into an entry that is held open; waits until it is free."""
    begun, has_said = time.monotonic(), False
    while (held := _locked(path / WRITER, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
        if not has_said and time.monotonic() - begun > SAY_AFTER_S:
            say("waits for another run that computes the same activations")
            has_said = True
        time.sleep(0.05)
    try:
        yield
    finally:
        held.close()


def _alone(path: Path) -> Hold | None:
    """The right to delete an entry; None where somebody has it open, or it is gone."""
    try:
        return _locked(path / USED, fcntl.LOCK_EX | fcntl.LOCK_NB, make=path.is_dir())
    except FileNotFoundError:
        return None


def _locked(path: Path, how: int, *, make: bool = True) -> Hold | None:
    """A lock on a file; None where another holds it, or where it was deleted meanwhile."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o666)
    try:
        fcntl.flock(descriptor, how)
        # the name may stand for another file by now: its folder was deleted, and made anew
        mine, there = os.fstat(descriptor), os.stat(path)
        if mine.st_ino == there.st_ino and mine.st_dev == there.st_dev:
            held, descriptor = Hold(descriptor), -1
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise NoLocks(
                f"the file system of {path.parent} has no locks (flock: {error.strerror}), which "
                "the cache needs; put it on another disk, or train with cache=off"
            ) from None
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


def paths(folder: Path) -> list[Path]:
    """The entries' folders."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if KEY.fullmatch(path.name) and path.is_dir())


def entries(folder: Path) -> list[Entry]:
    """The entries of a store, last used first."""
    return sorted(map(_entry, paths(folder)), key=lambda entry: -entry.used)


def _entry(path: Path) -> Entry:
    items: set[str] = set()
    for header in segments.headers(path):
        with suppress(DamagedSegment):
            items.update(segments.read(header).keys)
    facts: Mapping[str, object] = {}
    with suppress(DamagedSegment):
        facts = read_identity(path)
    alone = _alone(path)
    if alone is not None:
        alone.close()
    return Entry(path, facts, len(items), size(path), last_used(path), alone is None)


def size(path: Path) -> int:
    """Bytes of an entry's files."""
    total = 0
    for file in path.glob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def last_used(path: Path) -> float:
    """When an entry was last opened, in seconds since the epoch; 0 where that is unknown."""
    try:
        return (path / USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def faults(path: Path) -> dict[Path, str]:
    """Headers of damaged segments, or `facts.json`, of an entry, to what is wrong with them."""
    held, wrong = hold(path), {}
    try:
        for header in segments.headers(path):
            try:
                segments.check(segments.read(header), again=True)
            except DamagedSegment as error:
                if header.exists():  # else somebody has just repaired it
                    wrong[header] = str(error)
        if (path / FACTS).exists():  # else the next run writes it
            try:
                read_identity(path)
            except DamagedSegment as error:
                wrong[path / FACTS] = str(error)
    finally:
        held.close()
    return wrong


def repair(path: Path, damaged: Sequence[Path], *, say: Callable[[str], object]) -> None:
    """Deletes what is damaged, and what killed writers left; the next run makes it again."""
    held = hold(path)
    try:
        with writing(path, say=say):
            segments.sweep(path)
            for file in damaged:
                segments.remove(file)
    finally:
        held.close()


def remove(path: Path, *, only_empty: bool = False) -> bool:
    """Deletes an entry, unless a process has it open; tells whether it did.

    Args:
        path: its folder.
        only_empty: leave it, too, where it has segments.
    """
    alone = _alone(path)
    if alone is None:
        return False
    try:
        delete = not only_empty or not segments.headers(path)
        if delete:
            _delete(path)
    finally:
        alone.close()
    return delete


def _delete(path: Path) -> None:
    # renamed first: whoever opens it from now on makes a new one
    aside = path.with_name(f"{GONE}{path.name}-{os.urandom(4).hex()}")
    path.rename(aside)
    _delete_aside(aside)


def _delete_aside(path: Path) -> None:
    for _ in range(5):
        try:
            shutil.rmtree(path)
        except OSError as error:
            # another process sweeps too, or opens a file there, or the server keeps an open one;
            # what stays goes with the next sweep
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        if not path.exists():
            return


def sweep(folder: Path) -> None:
    """Deletes what was half deleted when a process was killed."""
    for path in folder.glob(f"{GONE}*"):
        _delete_aside(path)


def make_room(
    needed: int, *, entry: Path, budget: int | None, say: Callable[[str], object]
) -> None:
    """Deletes entries, least recently used first, until `needed` bytes fit beside the others.

    Nothing is deleted where that would not be enough.

    Args:
        needed: bytes that are to be added.
        entry: where; it is never deleted, nor is one that a process has open.
        budget: bytes that the store may have; None: what the disk has. A twentieth of the disk,
            1 GiB at most, is left free in any case.
        say: is told of what is deleted.

    Raises:
        NoRoom: it does not fit.
    """
    folder = entry.parent
    sweep(folder)
    sizes = {path: size(path) for path in paths(folder)}
    over = needed - room(folder)
    if budget is not None:
        over = max(over, sum(sizes.values()) + needed - budget)
    with ExitStack() as stack:
        chosen, gain = [], 0
        for path in sorted(sizes, key=last_used):
            if gain >= over:
                break
            if path != entry and (alone := _alone(path)) is not None:
                stack.callback(alone.close)
                chosen.append(path)
                gain += sizes[path]
        if gain < over:
            raise too_large(needed, folder=folder, budget=budget)
        for path in chosen:
            say(f"{path.name} is deleted, the least recently used, {sizes[path] / 1e6:.1f} MB")
            _delete(path)


def room(folder: Path) -> int:
    """Bytes that may still be written to the disk, less what is left free."""
    disk = shutil.disk_usage(folder)
    return disk.free - int(min(RESERVE_BYTES, RESERVE_SHARE * disk.total))


def too_large(needed: int, *, folder: Path, budget: int | None) -> NoRoom:
    """The error that says by how much something does not fit."""
    free = shutil.disk_usage(folder).free
    allowed = "no budget" if budget is None else f"a budget of {budget / 1e6:.1f} MB"
    return NoRoom(
        f"{needed / 1e6:.1f} MB do not fit into {folder}, with {allowed}, {free / 1e6:.1f} MB free "
        "on the disk, and entries in use; raise the budget, or see `tlx cache list` and `clear`",
        needed=needed,
        budget=budget,
        free=free,
    )
