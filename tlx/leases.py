"""Leases: who is at work on which run, across processes and machines.

A lease is held by heartbeats. It is free again when it is given back, when its process on this
machine is gone, or when no heartbeat has come for a while. On a local disk leases live in SQLite;
on network file systems, where SQLite corrupts, in a journal that is only appended to.
"""

import json
import os
import signal
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

BEAT_S = 10.0
STALE_S = 60.0
FOLDER = ".leases"
NETWORK = frozenset(
    ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "afs", "9p")
)
"""File systems on which SQLite's locks are not to be trusted; `fuse.*` counts too."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease.

    Attributes:
        machine: host and process namespace.
        pid: process id there.
        started: the process's start in clock ticks since boot; ids are used again.
        nonce: tells two leases of one process apart.
    """

    machine: str
    pid: int
    started: int
    nonce: str

    def __str__(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.machine.partition('/')[0]}"

    def gone(self) -> bool:
        """Whether this machine knows that the process has ended."""
        return self.machine == machine() and start_ticks(self.pid) != self.started


def machine() -> str:
    """This host and process namespace: containers of one host have the same name, other pids."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{os.uname().nodename}/{space}"


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 where there is none, 0 off Linux."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        if os.path.isdir("/proc/self"):
            return -1
        return 0 if _alive(pid) else -1
    fields = text.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def myself() -> Holder:
    """This process, as the holder of a new lease."""
    return Holder(machine(), os.getpid(), start_ticks(os.getpid()), os.urandom(8).hex())


class Leases(ABC):
    """Where leases are kept."""

    @abstractmethod
    def claim_all(self, runs: Sequence[str], holder: Holder) -> dict[str, Holder]:
        """Takes what is free of several leases; returns who holds each of the others."""

    @abstractmethod
    def beat_all(self, runs: Sequence[str], holder: Holder) -> bool:
        """Renews leases; False where somebody has taken one over."""

    @abstractmethod
    def release_all(self, runs: Sequence[str], holder: Holder) -> None:
        """Gives leases back."""

    @abstractmethod
    def held(self) -> dict[str, Holder]:
        """Run to its living holder."""

    def claim(self, run: str, holder: Holder) -> Holder | None:
        """Takes a free lease; returns None on success, else who holds it."""
        return self.claim_all([run], holder).get(run)

    def beat(self, run: str, holder: Holder) -> bool:
        """Renews a lease; False where somebody has taken it over."""
        return self.beat_all([run], holder)

    def release(self, run: str, holder: Holder) -> None:
        """Gives a lease back."""
        self.release_all([run], holder)


def leases(runs_dir: Path | str) -> Leases:
    """The leases of a folder of runs, kept as its file system allows.

    `TLX_LEASES=journal` or `sqlite` overrules the choice.
    """
    folder = Path(runs_dir).expanduser().absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    kind = os.environ.get("TLX_LEASES") or ("journal" if on_network(folder) else "sqlite")
    if kind == "journal":
        return JournalLeases(folder / "leases.jsonl")
    if kind == "sqlite":
        return SqliteLeases(folder / "leases.db")
    raise ValueError(f"TLX_LEASES={kind!r}; it is sqlite or journal")


def on_network(folder: Path) -> bool:
    """Whether a folder lies on a file system that machines share."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind in NETWORK or kind.startswith("fuse.")


@final
class SqliteLeases(Leases):
    """Leases in a SQLite file, for machines of their own disk."""

    def __init__(self, path: Path) -> None:
        """Creates the file where it is missing."""
        self.path = path
        with self._open() as db:
            columns = "run TEXT PRIMARY KEY, holder TEXT, beat REAL"
            db.execute(f"CREATE TABLE IF NOT EXISTS leases ({columns})")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # a connection a transaction: it may not cross a fork, and workers are forked
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=OFF")  # leases need not outlive a crash of the machine
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()

    def claim_all(self, runs: Sequence[str], holder: Holder) -> dict[str, Holder]:
        """Takes what is free of several leases; returns who holds each of the others."""
        others = {}
        with self._open() as db:
            for run in runs:
                row = db.execute("SELECT holder, beat FROM leases WHERE run = ?", (run,)).fetchone()
                if row is not None and (other := _living(*row)) is not None:
                    others[run] = other
                    continue
                values = (run, json.dumps(asdict(holder)), time.time())
                db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", values)
        return others

    def beat_all(self, runs: Sequence[str], holder: Holder) -> bool:
        """Renews leases; False where somebody has taken one over."""
        now, mine = time.time(), json.dumps(asdict(holder))
        command = "UPDATE leases SET beat = ? WHERE run = ? AND holder = ?"
        with self._open() as db:
            return all([db.execute(command, (now, run, mine)).rowcount == 1 for run in runs])

    def release_all(self, runs: Sequence[str], holder: Holder) -> None:
        """Gives leases back."""
        values = [(run, json.dumps(asdict(holder))) for run in runs]
        with self._open() as db:
            db.executemany("DELETE FROM leases WHERE run = ? AND holder = ?", values)

    def held(self) -> dict[str, Holder]:
        """Run to its living holder."""
        with self._open() as db:
            rows = db.execute("SELECT run, holder, beat FROM leases").fetchall()
        found = {run: _living(text, beat) for run, text, beat in rows}
        return {run: holder for run, holder in found.items() if holder is not None}


def _living(text: str, beat: float) -> Holder | None:
    holder = Holder(**json.loads(text))
    return None if time.time() - beat > STALE_S or holder.gone() else holder


@final
class JournalLeases(Leases):
    """Leases in a file that is only appended to, under a lock file, for network file systems."""

    compact_bytes = 2_000_000
    lock_stale_s = 30.0

    def __init__(self, path: Path) -> None:
        """Names the file; it appears with the first lease."""
        self.path = path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_suffix(".lock")
        deadline = time.monotonic() + 120
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                break
            except FileExistsError:
                self._break_stale(lock)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{lock} is held by somebody else; delete it if nobody runs")
            time.sleep(0.01)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)

    def _break_stale(self, lock: Path) -> None:
        """Removes the lock of a process that died between taking and giving it back."""
        try:
            age = time.time() - lock.stat().st_mtime
            if age > self.lock_stale_s:
                aside = lock.with_name(f"{lock.name}.{os.urandom(4).hex()}")
                lock.rename(aside)  # only one of several gets it
                aside.unlink()
        except FileNotFoundError:
            return

    def _state(self) -> dict[str, tuple[str, float]]:
        """Run to holder (as JSON) and last beat."""
        found: dict[str, tuple[str, float]] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                run, holder, beat = json.loads(line)
            except ValueError:
                continue  # cut off by a crash
            if beat is None:
                found.pop(run, None)
            else:
                found[run] = (holder, beat)
        return found

    def _append(self, runs: Sequence[str], holder: Holder, beat: float | None) -> None:
        if not runs:
            return
        lines = [json.dumps([run, json.dumps(asdict(holder)), beat]) for run in runs]
        with open(self.path, "a", encoding="utf-8") as file:
            # the first line break ends what a crash cut off
            file.write("".join(f"\n{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        if self.path.stat().st_size > self.compact_bytes:
            state = self._state()
            lines = [json.dumps([name, *entry]) for name, entry in state.items()]
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            temporary.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
            temporary.replace(self.path)

    def claim_all(self, runs: Sequence[str], holder: Holder) -> dict[str, Holder]:
        """Takes what is free of several leases; returns who holds each of the others."""
        others = {}
        with self._locked():
            state = self._state()
            for run in runs:
                if run in state and (other := _living(*state[run])) is not None:
                    others[run] = other
            self._append([run for run in runs if run not in others], holder, time.time())
        return others

    def beat_all(self, runs: Sequence[str], holder: Holder) -> bool:
        """Renews leases; False where somebody has taken one over."""
        with self._locked():
            mine = self._mine(runs, holder)
            self._append(mine, holder, time.time())
        return len(mine) == len(runs)

    def release_all(self, runs: Sequence[str], holder: Holder) -> None:
        """Gives leases back."""
        with self._locked():
            self._append(self._mine(runs, holder), holder, None)

    def _mine(self, runs: Sequence[str], holder: Holder) -> list[str]:
        state, text = self._state(), json.dumps(asdict(holder))
        return [run for run in runs if run in state and state[run][0] == text]

    def held(self) -> dict[str, Holder]:
        """Run to its living holder."""
        found = {run: _living(*entry) for run, entry in self._state().items()}
        return {run: holder for run, holder in found.items() if holder is not None}


@contextmanager
def holding(
    kept: Leases, run: str, *, busy: Callable[[Holder], Exception], every_s: float = BEAT_S
) -> Iterator[None]:
    """Holds the lease of a run, with heartbeats from a thread.

    Args:
        kept: where leases are.
        run: its id.
        busy: makes the exception that is raised where somebody else holds it.
        every_s: seconds between heartbeats.
    """
    with holding_all(kept, [run], every_s=every_s) as others:
        if run in others:
            raise busy(others[run])
        yield


@contextmanager
def holding_all(
    kept: Leases, runs: Sequence[str], *, every_s: float = BEAT_S
) -> Iterator[dict[str, Holder]]:
    """Holds what is free of the leases of several runs, with heartbeats from one thread.

    Args:
        kept: where leases are.
        runs: their ids.
        every_s: seconds between heartbeats.

    Yields:
        Who holds each of the others.
    """
    holder = myself()
    others = kept.claim_all(runs, holder)
    held = [run for run in runs if run not in others]
    over = threading.Event()

    def keep_beating() -> None:
        while not over.wait(every_s):
            try:
                mine = kept.beat_all(held, holder)
            except (OSError, sqlite3.Error):
                continue  # a full disk, a server away: the next beat may get through
            if not mine:  # this process slept for so long that somebody took over: stop and save
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if not held:
        yield others
        return
    thread = threading.Thread(target=keep_beating, daemon=True, name=f"lease {held[0]}")
    thread.start()
    try:
        yield others
    finally:
        over.set()
        thread.join()
        kept.release_all(held, holder)
