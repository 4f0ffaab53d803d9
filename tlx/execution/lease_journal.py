"""Leases in a file that is only appended to, for network file systems, where SQLite corrupts.

Each line tells of one lease: a claim, a beat, an end. What is true is what follows from reading
them in order: a claim counts only where the lease is as its claimant had seen it. So a process that
sleeps in the midst of a claim, while others think it dead and go on, finds that it came too late.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from tlx.execution.leases import Holder, Leases, myself
from tlx.execution.silence import Silence

CLAIM, BEAT, END = "claim", "beat", "end"

Entry = tuple[str, float]
"""Of a lease: its holder as JSON, and how often that has beaten."""


@final
class JournalLeases(Leases):
    """Leases in a file that is only appended to, under a lock file."""

    compact_bytes = 2_000_000
    lock_stale_s = 30.0
    lock_wait_s = 120.0

    def __init__(
        self,
        path: Path,
        *,
        silence: Silence | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Names the file; it appears with the first lease.

        Args:
            path: of the file.
            silence: measures for how long others have been silent.
            sleep: waits for seconds, as `silence.clock` counts them.
        """
        super().__init__(silence or Silence())
        self.path = path
        self.lock = path.with_suffix(".lock")
        self.sleep = sleep

    # -- one at a time ------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[str]:
        """Keeps others out; gives the lock's text, which no other lock ever has.

        Raises:
            TimeoutError: others hold the lock for minutes.
        """
        clock, text = self.silence.clock, _text(myself())
        deadline = clock() + self.lock_wait_s
        watch = Silence(clock=clock)
        while not self._take(text):
            self._break_stale(watch)
            if clock() > deadline:
                raise TimeoutError(f"{self.lock} is held by somebody else; delete it if nobody is")
            self.sleep(0.01)
        try:
            yield text
        finally:
            if self._lock_text() == text:  # else it was taken for dead: the lock is another's
                self.lock.unlink(missing_ok=True)

    def _take(self, text: str) -> bool:
        try:
            handle = os.open(self.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return True

    def _lock_text(self, path: Path | None = None) -> str | None:
        try:
            return (path or self.lock).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _break_stale(self, watch: Silence) -> None:
        """Removes the lock of a process that died between taking and giving it back."""
        text = self._lock_text()
        if text is None:
            return
        holder = _holder(text)
        dead = holder is not None and holder.gone()
        if not dead and watch.of("lock", text) <= self.lock_stale_s:
            return
        aside = self.lock.with_name(f"{self.lock.name}.{os.urandom(4).hex()}")
        try:
            self.lock.rename(aside)  # only one of several gets it
            if self._lock_text(aside) != text:  # a living one's, which has just come
                os.link(aside, self.lock)
        except (FileNotFoundError, FileExistsError):
            pass
        finally:
            aside.unlink(missing_ok=True)

    # -- the journal --------------------------------------------------------------------------

    def _state(self) -> dict[str, Entry]:
        """Run to what its lease is after all lines."""
        entries: dict[str, Entry] = {}
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return entries
        for line in text.splitlines():
            try:
                _apply(json.loads(line), entries)
            except (ValueError, TypeError):
                continue  # cut off by a crash
        return entries

    def _append(self, lines: Sequence[list[object]], *, lock: str) -> None:
        if not lines:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            # the first line break ends what a crash cut off
            file.write("".join(f"\n{json.dumps(line)}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        if self.path.stat().st_size > self.compact_bytes:
            self._shorten(lock)

    def _shorten(self, lock: str) -> None:
        rows = [[CLAIM, run, text, None, count] for run, (text, count) in self._state().items()]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write("".join(f"{json.dumps(row)}\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        if self._lock_text() == lock:  # else others write meanwhile
            temporary.replace(self.path)
        else:
            temporary.unlink()

    # -- leases -------------------------------------------------------------------------------

    def claim_all(self, runs: Sequence[str], holder: Holder) -> dict[str, Holder]:
        """Takes what is free of several leases; returns who holds each of the others."""
        others: dict[str, Holder] = {}
        wanted = list(dict.fromkeys(runs))
        while wanted:  # again only for what others took, and gave back, while this process slept
            wanted = self._claim_once(wanted, holder, others)
        return others

    def _claim_once(
        self, runs: Sequence[str], holder: Holder, others: dict[str, Holder]
    ) -> list[str]:
        """Takes what is free, adds who holds the others; returns what is still to be claimed."""
        text = _text(holder)
        with self._locked() as lock:
            before = self._state()
            for run in runs:
                if run in before and (other := self.living(run, *before[run])) is not None:
                    others[run] = other
            free = [run for run in runs if run not in others]
            self._append([[CLAIM, run, text, before.get(run), 0] for run in free], lock=lock)
            after = self._state() if free else {}
        return [run for run in free if after.get(run, ("", 0.0))[0] != text]

    def beat_all(self, runs: Sequence[str], holder: Holder) -> bool:
        """Renews leases; False where somebody has taken one over."""
        with self._locked() as lock:
            counts = self._counts(runs, holder)
            lines = [[BEAT, run, _text(holder), count + 1] for run, count in counts.items()]
            self._append(lines, lock=lock)
        return len(counts) == len(set(runs))

    def release_all(self, runs: Sequence[str], holder: Holder) -> None:
        """Gives leases back."""
        with self._locked() as lock:
            counts = self._counts(runs, holder)
            self._append([[END, run, _text(holder), None] for run in counts], lock=lock)

    def _counts(self, runs: Sequence[str], holder: Holder) -> dict[str, float]:
        """Those of the leases that the holder has, and how often each has beaten."""
        entries, text = self._state(), _text(holder)
        return {run: entries[run][1] for run in runs if entries.get(run, ("", 0.0))[0] == text}

    def held(self) -> dict[str, Holder]:
        """Run to its living holder."""
        return self.all_living(self._state())


def _apply(line: list[Any], entries: dict[str, Entry]) -> None:
    """Does what a line says to the leases (a mutator)."""
    kind, run, text, *rest = _renewed(line, entries)
    if not isinstance(run, str) or _holder(text) is None:
        return  # damaged
    entry = entries.get(run)
    mine = entry is not None and entry[0] == text
    if kind == CLAIM:
        before, count = rest
        if entry is None or (before is not None and list(entry) == list(before)):
            entries[run] = (text, float(count))
    elif kind == BEAT and mine:
        entries[run] = (text, float(rest[0]))
    elif kind == END and mine:
        del entries[run]


def _renewed(line: list[Any], entries: dict[str, Entry]) -> list[Any]:
    """A line as it is written now; an earlier tlx wrote run, holder and time, or None at an end."""
    if len(line) != 3:
        return line
    run, text, beat = line
    if beat is None:
        return [END, run, text, None]
    return [CLAIM, run, text, entries.get(run), beat]


def _text(holder: Holder) -> str:
    return json.dumps(asdict(holder))


def _holder(text: str) -> Holder | None:
    """Who wrote a lock; None where that is not yet, or not wholly, written."""
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None
