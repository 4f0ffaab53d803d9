"""Who drives a study, and who cleans it: leases of the study beside those of its runs.

Any number of drivers share a study, each with a lease of its own; whoever cleans it has it alone.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tlx.execution import runs
from tlx.execution.lease_places import leases
from tlx.execution.leases import LOOK_S, Holder, Leases, holding, holding_all
from tlx.results.manifest import STUDIES


@contextmanager
def driving(runs_dir: Path, study: str) -> Iterator[None]:
    """Holds a lease of a study's driver.

    Args:
        runs_dir: where runs live.
        study: its name.

    Raises:
        Busy: somebody cleans the study.
    """
    kept = leases(runs_dir)
    mine = f"{_lease(study)}/{os.urandom(8).hex()}"
    with holding(kept, mine, busy=lambda holder: runs.Busy(f"{study}: {holder} has it")):
        # looked at only now: of a driver and a cleaner at the same time, one sees the other
        if (cleaner := kept.held().get(_lease(study))) is not None:
            raise runs.Busy(f"{study} is being cleaned by {cleaner}; start it again afterwards")
        yield


@contextmanager
def alone(runs_dir: Path, study: str, run_names: Sequence[str]) -> Iterator[None]:
    """Holds a study and its runs, so that none is driven or trained meanwhile.

    Args:
        runs_dir: where runs live.
        study: its name.
        run_names: ids of its runs.

    Raises:
        Busy: somebody is at work on one of them; it says who.
    """
    kept = leases(runs_dir)
    with holding_all(kept, [_lease(study), *run_names], wait=runs.say_wait) as others:
        others = {**others, **_drivers(kept, study)}
        if others:
            raise runs.Busy(busy_text(study, others))
        yield


def at_work(runs_dir: Path, study: str, run_names: Sequence[str]) -> dict[str, Holder]:
    """Leases of a study, its drivers and its runs, and who holds them, as far as is known."""
    kept = leases(runs_dir).held()
    beginning = f"{_lease(study)}/"
    return {
        lease: holder
        for lease, holder in kept.items()
        if lease in {*run_names, _lease(study)} or lease.startswith(beginning)
    }


def busy_text(study: str, others: Mapping[str, Holder]) -> str:
    """Who is at work on a study, a line each."""
    lines = [
        f"  {'the study is driven' if '/' in lease else lease + ' is trained'} by {holder}"
        for lease, holder in sorted(others.items())
    ]
    return "\n".join(
        [f"{study} is at work; wait for it, or stop it first (tlx cancel {study}):", *lines]
    )


def _lease(study: str) -> str:
    return f"{STUDIES}/{study}"


def _drivers(kept: Leases, study: str) -> dict[str, Holder]:
    """Living drivers; those elsewhere are watched until it is known whether they live."""
    waiting = False
    while True:
        held = kept.held()
        drivers = {n: holder for n, holder in held.items() if n.startswith(f"{_lease(study)}/")}
        if not kept.in_doubt(drivers):
            return drivers
        if not waiting:
            runs.say_wait(drivers)
        waiting = True
        time.sleep(LOOK_S)
