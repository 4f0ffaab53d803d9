"""The worker: trains the run whose frozen config lies in a folder. It never composes."""

import argparse
import sys
from pathlib import Path

from tlx import launch


def main() -> int:
    """Trains one run; exits with 0 when it finished, 3 when a signal stopped it."""
    parser = argparse.ArgumentParser(description="Trains one frozen run.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--init", required=True, help="hub, none or a file of weights")
    args = parser.parse_args()
    launch.die_with_parent()
    from tlx import execute
    from tlx.training.signals import Interrupted

    try:
        execute.run_here(args.folder, init=args.init)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 3
    finally:
        launch.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
