"""Leases: who is at work on which run, across processes and machines.

A lease is held by heartbeats, which are counted. It is free again when it is given back, when its
process is known to this machine and has ended, or when whoever wants it has seen no further
heartbeat for a minute of its own clock; no clock of another machine is looked at. On a local disk
leases live in SQLite; on network file systems, where SQLite corrupts, in a journal that is only
appended to.
"""

import fcntl
import json
import logging
import os
import signal
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from tlx.execution.silence import Silence, boot_id

logger = logging.getLogger(__name__)

BEAT_S = 10.0
STALE_S = 60.0
"""Without a heartbeat for so long, somebody on another machine is taken for dead."""

LOOK_S = 0.5
"""How often it is looked whether somebody on another machine lives."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease.

    Attributes:
        machine: host, process namespace, and boot.
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

    def known_alive(self) -> bool:
        """Whether this machine knows that the process has not ended, whether it beats or not."""
        return self.started > 0 and self.machine == machine() and not self.gone()


def machine() -> str:
    """This host, process namespace and boot.

    Containers of one host have the same name, and other pids. Hosts may have the same name too, and
    all have the same first namespace, but none has the same boot.
    """
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{os.uname().nodename}/{space}/{boot_id()}"


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

    def __init__(self, silence: Silence) -> None:
        """Measures with `silence` for how long others have been silent."""
        self.silence = silence

    def living(self, run: str, text: str, count: float) -> Holder | None:
        """The holder of a lease; None where it is dead.

        Args:
            run: the lease's name.
            text: its holder, as JSON.
            count: how often that has beaten.
        """
        try:
            holder = Holder(**json.loads(text))
        except (ValueError, TypeError):
            return None  # nobody that anything is known of
        if holder.known_alive():
            return holder
        dead = holder.gone() or self.silence.of(run, f"{count} {text}") > STALE_S
        return None if dead else holder

    def all_living(self, entries: Mapping[str, tuple[str, float]]) -> dict[str, Holder]:
        """Run to its holder, less those that are dead.

        Args:
            entries: run to its holder, as JSON, and how often that has beaten.
        """
        found = {run: self.living(run, *entry) for run, entry in entries.items()}
        self.silence.keep_only(entries)
        return {run: holder for run, holder in found.items() if holder is not None}

    def in_doubt(self, others: Mapping[str, Holder]) -> bool:
        """Whether any of these holders may be dead, as far as was looked."""
        return any(
            not holder.known_alive() and self.silence.in_doubt(run)
            for run, holder in others.items()
        )

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


@final
class SqliteLeases(Leases):
    """Leases in a SQLite file, for machines of their own disk."""

    def __init__(self, path: Path, *, silence: Silence | None = None) -> None:
        """Creates the file where it is missing; a damaged one is set aside.

        Args:
            path: of the file.
            silence: measures for how long others have been silent.
        """
        super().__init__(silence or Silence())
        self.path = path
        if self._damage() is not None:
            self._set_aside()
        with self._open() as db:
            columns = "run TEXT PRIMARY KEY, holder TEXT, beat REAL"
            db.execute(f"CREATE TABLE IF NOT EXISTS leases ({columns})")

    def _damage(self) -> str | None:
        """What is wrong with the file itself; None where it is whole, or not there."""
        db = sqlite3.connect(self.path, timeout=60)
        try:
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            wrong = error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
            return str(error) if wrong else None  # `_open` tells what else is the matter
        finally:
            db.close()
        return None if answer == "ok" else str(answer)

    def _set_aside(self) -> None:
        """Moves a damaged file out of the way; who holds a lease takes it again at the next beat.

        Two processes of one machine are kept apart by the lock of each run all the same.
        """
        with open(self.path.with_suffix(".aside.lock"), "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            damage = self._damage()  # unless another process was faster
            if damage is None:
                return
            aside = self.path.with_name(f"{self.path.name}.damaged-{os.urandom(3).hex()}")
            self.path.rename(aside)
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        logger.warning(
            "%s is damaged (%s): it was moved to %s, and leases are noted anew",
            *(self.path, damage, aside.name),
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # a connection a transaction: it may not cross a fork, and workers are forked
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=OFF")  # leases need not outlive a crash of the machine
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self.path}: {error}") from error
        finally:
            db.close()

    def claim_all(self, runs: Sequence[str], holder: Holder) -> dict[str, Holder]:
        """Takes what is free of several leases; returns who holds each of the others."""
        others = {}
        with self._open() as db:
            for run in runs:
                row = db.execute("SELECT holder, beat FROM leases WHERE run = ?", (run,)).fetchone()
                if row is not None and (other := self.living(run, *row)) is not None:
                    others[run] = other
                    continue
                values = (run, json.dumps(asdict(holder)), 0.0)
                db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", values)
        return others

    def beat_all(self, runs: Sequence[str], holder: Holder) -> bool:
        """Renews leases; False where somebody has taken one over."""
        mine = json.dumps(asdict(holder))
        # one that is gone was lost with a damaged file, and nobody has taken it
        command = (
            "INSERT INTO leases VALUES (?, ?, 0) ON CONFLICT (run) DO UPDATE "
            "SET beat = beat + 1 WHERE holder = excluded.holder"
        )
        with self._open() as db:
            return all([db.execute(command, (run, mine)).rowcount == 1 for run in runs])

    def release_all(self, runs: Sequence[str], holder: Holder) -> None:
        """Gives leases back."""
        values = [(run, json.dumps(asdict(holder))) for run in runs]
        with self._open() as db:
            db.executemany("DELETE FROM leases WHERE run = ? AND holder = ?", values)

    def held(self) -> dict[str, Holder]:
        """Run to its living holder."""
        with self._open() as db:
            rows = db.execute("SELECT run, holder, beat FROM leases").fetchall()
        return self.all_living({run: (text, count) for run, text, count in rows})


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
    kept: Leases,
    runs: Sequence[str],
    *,
    every_s: float = BEAT_S,
    wait: Callable[[Mapping[str, Holder]], None] | None = None,
) -> Iterator[dict[str, Holder]]:
    """Holds what is free of the leases of several runs, with heartbeats from one thread.

    Args:
        kept: where leases are.
        runs: their ids.
        every_s: seconds between heartbeats.
        wait: told of holders on other machines that may be dead; then they are watched until each
            shows that it lives, or has been silent for so long that its lease is taken. None: all
            count as living at first sight.

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
                mine = kept.beat_all(list(held), holder)
            except (OSError, sqlite3.Error):
                continue  # a full disk, a server away: the next beat may get through
            if not mine:  # this process slept for so long that somebody took over: stop and save
                os.kill(os.getpid(), signal.SIGTERM)
                return

    name = f"lease {runs[0]}" if runs else "lease"
    thread = threading.Thread(target=keep_beating, daemon=True, name=name)
    if held or wait is not None:
        thread.start()
    try:
        if wait is not None and kept.in_doubt(others):
            wait(others)
            while kept.in_doubt(others):
                time.sleep(LOOK_S)
                still = kept.claim_all(list(others), holder)
                held += [run for run in others if run not in still]
                others = still
        yield others
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()
        if held:
            kept.release_all(held, holder)
