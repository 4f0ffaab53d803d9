"""The worker: trains the run whose frozen config lies in a folder. It never composes."""

import argparse
import sys
import traceback
from pathlib import Path

from tlx.base import interrupts
from tlx.base.ends import Divided, Interrupted, Pruned
from tlx.base.secrecy import masked_text
from tlx.execution import launch, runs
from tlx.sweeps.executor import APART, BUSY, FAILED, FINISHED, INTERRUPTED, LOST, PRUNED

STATUSES: dict[type[BaseException], int] = {
    **dict.fromkeys((Interrupted, Divided, interrupts.Stopped), INTERRUPTED),
    **{Pruned: PRUNED, runs.Apart: APART, runs.Busy: BUSY, runs.Lost: LOST},
}
"""How a run ends that has not failed, by what it raises then."""


def main() -> int:
    """Trains one run; returns the exit status."""
    interrupts.REQUESTS.install(status=INTERRUPTED)
    parser = argparse.ArgumentParser(description="Trains one frozen run.")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    launch.die_with_parent()
    return work(args.folder)


def work(folder: Path) -> int:
    """Trains the run that is frozen in a folder; how it ended, as an exit status."""
    interrupts.REQUESTS.install(status=INTERRUPTED)  # in a fork, nobody has yet
    from tlx.execution import execute

    try:
        with interrupts.at_work():
            execute.run_folder(folder)
    except tuple(STATUSES) as end:
        print(end, file=sys.stderr)
        return next(status for kind, status in STATUSES.items() if isinstance(end, kind))
    except Exception:
        print(masked_text(traceback.format_exc()), file=sys.stderr, end="", flush=True)
        return FAILED
    finally:
        launch.leave()
    return FINISHED


if __name__ == "__main__":
    sys.exit(main())
