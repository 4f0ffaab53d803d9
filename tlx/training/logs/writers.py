"""Slow writing beside other work: waiting for the disk, many files at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import final

THREADS = 8
"""fsync calls of so many files wait for the disk together; more gain nothing."""

MOST_WAITING = 16
"""Jobs that are begun at once, with all that they hold in memory."""


@final
class Writers:
    """Threads that write; leaving the context waits for all of them."""

    def __init__(self) -> None:
        """Starts no thread yet."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="writer")
        self._room = threading.BoundedSemaphore(MOST_WAITING)

    def __enter__(self) -> "Writers":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Waits for what has been begun."""
        self._pool.shutdown()

    def begin(self, job: Callable[..., object], *arguments: object) -> "Future[object]":
        """Begins a job as soon as there is room for it."""
        self._room.acquire()
        future: Future[object] = self._pool.submit(job, *arguments)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def all(self, job: Callable[..., object], *columns: object) -> None:
        """Does a job for each of many arguments, in no particular order; raises what one raises."""
        begun = [self.begin(job, *arguments) for arguments in zip(*columns, strict=True)]
        for future in begun:
            future.result()
