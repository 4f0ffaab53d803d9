"""Who works on which trial: a lock round each claim, and a sign of life of each worker.

Optuna's own heartbeat works within `optimize()` only.
"""

import fcntl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, final

from tlx.execution.leases import Holder
from tlx.execution.silence import Silence
from tlx.training.engine.pruning import KEEPALIVES

LOCK_S = 300.0
"""Seconds that a worker waits for the others' claims; a claim takes far below one, but for `gp`."""


class Place(Protocol):
    """Where the workers of one search meet."""

    def lock(self, *, opening: bool = False) -> AbstractContextManager[None]:
        """Keeps every other worker, of this machine or another, out.

        Args:
            opening: out of making the storage, rather than out of a claim in this search.
        """
        ...

    def beat(self, worker: str, count: int) -> None:
        """Shows that a worker lives."""
        ...

    def beats(self, worker: str) -> int | None:
        """The last count that a worker showed; None where it said farewell, or never came."""
        ...

    def leave(self, worker: str) -> None:
        """Says that a worker is gone."""
        ...


def meeting_place(storage: str, study: str) -> Place:
    """Where the workers of a search meet that is kept in `storage`, before it is opened.

    Raises:
        ValueError: a kind of server whose locks are not known.
    """
    if "://" not in storage:
        return Files(Path(storage))
    kind = storage.partition("://")[0].partition("+")[0]
    if kind == "sqlite":
        return Files(Path(storage.removeprefix("sqlite:///")))
    if kind == "postgresql":
        return Postgres(storage, study)
    raise ValueError(f"search.storage={storage!r}; give a journal, postgresql+psycopg:// or sqlite")


@final
class Files:
    """Beside the search's file: a lock, which the kernel gives back when its holder is killed."""

    def __init__(self, file: Path) -> None:
        """Makes the folder."""
        self.path = file.with_name(f"{file.name}.claim")
        self.folder = file.with_name(f"{file.name}.workers")
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self, *, opening: bool = False) -> Iterator[None]:
        """Keeps other workers out.

        Raises:
            TimeoutError: somebody holds the lock for minutes.
        """
        until = time.monotonic() + LOCK_S
        with open(self.path, "a+", encoding="utf-8") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError(
                            f"{self.path} is locked for {LOCK_S:.0f} s; `fuser` tells by whom"
                        ) from None
                    time.sleep(0.01)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def beat(self, worker: str, count: int) -> None:
        """Writes the count into the worker's file."""
        temporary = self.folder / f".{worker}.tmp"
        temporary.write_text(str(count), encoding="utf-8")
        temporary.replace(self.folder / worker)

    def beats(self, worker: str) -> int | None:
        """Reads it."""
        try:
            return int((self.folder / worker).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def leave(self, worker: str) -> None:
        """Removes it."""
        (self.folder / worker).unlink(missing_ok=True)


@final
class Postgres:
    """In the database: an advisory lock, which ends with its transaction, and a table of beats."""

    def __init__(self, url: str, study: str) -> None:
        """Connects, and makes the table."""
        import sqlalchemy as sa

        self.engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=KEEPALIVES)
        self.study = study
        with self.lock(opening=True):
            self._do("CREATE TABLE IF NOT EXISTS tlx_workers (worker TEXT PRIMARY KEY, beat INT)")

    @contextmanager
    def lock(self, *, opening: bool = False) -> Iterator[None]:
        """Keeps other workers out.

        Raises:
            OperationalError: somebody holds the lock for minutes.
        """
        import sqlalchemy as sa

        key = zlib.crc32(b"tlx" if opening else f"tlx search {self.study}".encode())
        with self.engine.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_S:.0f}s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield

    def beat(self, worker: str, count: int) -> None:
        """Writes the count into the worker's row."""
        self._do(
            "INSERT INTO tlx_workers VALUES (:worker, :beat) "
            "ON CONFLICT (worker) DO UPDATE SET beat = :beat",
            worker=worker,
            beat=count,
        )

    def beats(self, worker: str) -> int | None:
        """Reads it."""
        rows = self._do("SELECT beat FROM tlx_workers WHERE worker = :worker", worker=worker)
        return int(rows[0][0]) if rows else None

    def leave(self, worker: str) -> None:
        """Removes it."""
        self._do("DELETE FROM tlx_workers WHERE worker = :worker", worker=worker)

    def _do(self, command: str, **values: object) -> list[Any]:
        import sqlalchemy as sa

        with self.engine.begin() as connection:
            result = connection.execute(sa.text(command), values)
            return list(result) if result.returns_rows else []


@final
class Watch:
    """Tells which workers are gone: at once on this machine, by their silence elsewhere.

    Silence is counted by this machine's own clock, so that clocks need not agree.
    """

    def __init__(self, place: Place, *, stale_s: float) -> None:
        """Knows nobody yet."""
        self.place = place
        self.stale_s = stale_s
        self.silence = Silence()

    def gone(self, worker: Holder) -> bool:
        """Whether a worker has ended, or is silent for too long."""
        if worker.gone():
            return True
        count = self.place.beats(worker.nonce)
        return count is None or self.silence.of(worker.nonce, str(count)) > self.stale_s


@final
class Heart:
    """Shows from a thread that this process lives."""

    def __init__(self, place: Place, worker: Holder, *, every_s: float) -> None:
        """Beats for the first time, and starts the thread."""
        self.place, self.worker, self.every_s = place, worker, every_s
        self.over = threading.Event()
        place.beat(worker.nonce, 0)
        self.thread = threading.Thread(target=self._run, daemon=True, name="search heartbeat")
        self.thread.start()

    def _run(self) -> None:
        import sqlalchemy.exc

        count = 0
        while not self.over.wait(self.every_s):
            count += 1
            try:
                self.place.beat(self.worker.nonce, count)
            except (OSError, sqlalchemy.exc.SQLAlchemyError):
                continue  # a full disk, a server away: the next beat may get through

    def stop(self) -> None:
        """Says farewell, so that others take over at once."""
        self.over.set()
        self.thread.join()
        self.place.leave(self.worker.nonce)
