"""How long others have been silent, by this machine's own clock alone.

What another machine writes about time is never read: clocks of machines differ by seconds, and
by hours where one is set wrong. Whoever lives changes a count that others can see; whoever looks
measures for how long it has stayed the same.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tlx.base import durable


@dataclass(frozen=True)
class Sign:
    """The last sign of life of somebody.

    Attributes:
        text: what was read; it changes with each beat, and with whoever beats.
        since: this machine's clock when it was first read.
        alive: whether this process saw it change, so that somebody lived then.
    """

    text: str
    since: float
    alive: bool = False


@final
class Silence:
    """Measures silences; may pass on what it saw to later processes of the same machine."""

    save_every_s = 10.0

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Knows what earlier processes of this machine have seen.

        Args:
            folder: where that is kept; None: nowhere.
            clock: of this machine, in seconds; it never goes back, and is no time of day.
        """
        self.clock = clock
        self.signs: dict[str, Sign] = {}
        self._looked: set[str] = set()
        boot = boot_id() if folder is not None else ""
        self.file = folder / f"seen-{boot}.json" if folder is not None and boot else None
        self._saved = -self.save_every_s
        self._unsaved = False
        self._load()

    def of(self, name: str, sign: str) -> float:
        """Seconds for which a sign has been the same, as far as was looked; 0 at first."""
        now, before = self.clock(), self.signs.get(name)
        looked = name in self._looked
        self._looked.add(name)
        if before is None or before.text != sign:
            self.signs[name] = Sign(sign, now, alive=looked)
            self._unsaved = True
            return 0.0
        return now - before.since

    def in_doubt(self, name: str) -> bool:
        """Whether somebody has not been looked at for long enough to see that they live."""
        return name in self.signs and not self.signs[name].alive

    def keep_only(self, names: Iterable[str]) -> None:
        """Forgets all others (a mutator), and passes on what is known."""
        for name in self.signs.keys() - set(names):
            del self.signs[name]
            self._looked.discard(name)
            self._unsaved = True
        self._save()

    def _load(self) -> None:
        if self.file is None:
            return
        try:
            rows = json.loads(self.file.read_text(encoding="utf-8"))
            signs = {str(name): Sign(str(text), float(since)) for name, text, since in rows}
        except (OSError, ValueError, TypeError):
            return  # there is none, or it is damaged: silences are measured from now on
        now = self.clock()
        self.signs = {name: sign for name, sign in signs.items() if sign.since <= now}

    def _save(self) -> None:
        now = self.clock()
        if self.file is None or not self._unsaved or now - self._saved < self.save_every_s:
            return
        self._saved, self._unsaved = now, False
        rows = [[name, sign.text, sign.since] for name, sign in self.signs.items()]
        # without it, as in a folder that is only read, the next process looks for longer
        with contextlib.suppress(OSError):
            durable.write(self.file, json.dumps(rows), sync=False)


def boot_id() -> str:
    """Names what shares this process's monotonic clock; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    try:
        clock = os.readlink("/proc/self/ns/time")
    except OSError:  # a kernel before 5.6, where clocks have no namespaces
        clock = ""
    return hashlib.sha256(f"{boot} {clock}".encode()).hexdigest()[:16]
