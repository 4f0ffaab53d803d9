"""Ranks that are gone: told apart from ranks that failed, so that a run is started again."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlx.base.ends import Divided, Interrupted, Pruned
from tlx.base.interrupts import Stopped
from tlx.base.secrecy import masked_text
from tlx.execution import runs

FILE = "rank_failed.json"
"""In a run's folder: why a rank other than 0 failed, which has no record to say so."""

LOST = "lost: "
"""How the record's reason begins where a rank did not fail but was gone, or silent."""

NOTE_S = 3.0
"""How long rank 0 waits for the note of a rank whose connection closed; files may be late."""

GLOO = re.compile(r"\bgloo/(transport|rendezvous)|Connection (closed by|reset by) peer")


def is_lost(error: BaseException) -> bool:
    """Whether an exception says that another rank is gone, or was silent for too long."""
    from torch.distributed import DistError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DistError) or (
            isinstance(seen, RuntimeError) and GLOO.search(str(seen))
        ):
            return True
        seen = seen.__cause__
    return False


@contextmanager
def noted(folder: Path, rank: int) -> Iterator[None]:
    """Notes why a rank fails, before the others see that its connection is closed.

    Raises:
        Lost: it is another rank that is gone.
    """
    try:
        yield
    except (Interrupted, Pruned, Divided, Stopped, KeyboardInterrupt):
        raise
    except Exception as error:
        if is_lost(error):
            raise runs.Lost(reason_of(error)) from error
        reason = f"rank {rank}: {type(error).__name__}: {error}"
        runs.write_json(folder / FILE, {"rank": rank, "reason": masked_text(reason)})
        raise


def forget(folder: Path) -> None:
    """Removes what an earlier attempt noted."""
    (folder / FILE).unlink(missing_ok=True)


def failure_of(folder: Path, *, wait_s: float = 0.0) -> str | None:
    """Why a rank failed, by its note; None where none says that it did."""
    until = time.monotonic() + wait_s
    while True:
        try:
            return str(json.loads((folder / FILE).read_text(encoding="utf-8"))["reason"])
        except FileNotFoundError:
            if time.monotonic() >= until:
                return None
        except (ValueError, KeyError, TypeError):
            return f"a rank failed, see {folder / runs.LOG}"
        time.sleep(0.1)


def reason_of(error: BaseException) -> str:
    """For the record: that a rank is gone, and what the library said of it."""
    said = str(error).strip().partition("\n")[0]
    node = os.uname().nodename
    return (
        f"{LOST}another rank is gone, or was silent for longer than trainer.timeout_minutes; "
        f"on {node}: {type(error).__name__}: {said[:300]}"
    )


def verdict(folder: Path, error: BaseException) -> tuple[str, str]:
    """Status and reason for rank 0's record, of an exception for which `is_lost` holds.

    Returns:
        `interrupted` where a rank is gone, so that the run goes on; `failed` where one failed.
    """
    failure = failure_of(folder, wait_s=NOTE_S)
    return ("failed", failure) if failure is not None else ("interrupted", reason_of(error))
