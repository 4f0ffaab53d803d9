"""Seconds until `tlx --help` and a config check are done, in fresh processes.

Run: python -m benchmarks.start
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "tlx --help": ["--help"],
    "tlx train --check": ["train", "--check", "freeze_strategy=lp_ft", "augmentation=[standard]"],
}
LIMITS_S = {"tlx --help": 1, "tlx train --check": 15}
"""A check imports torch and builds the network, without weights."""


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tlx.cli", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main(repeats: int = 9) -> None:
    """Prints the median of each command."""
    for name, arguments in COMMANDS.items():
        seconds(arguments)
        found = sorted(seconds(arguments) for _ in range(repeats))
        middle = statistics.median(found)
        limit = LIMITS_S[name]
        verdict = "ok" if middle <= limit else "OVER"
        span = f"[{found[0]:.2f}, {found[-1]:.2f}]"
        print(f"{name}: median {middle:.2f} s {span}, limit {limit}: {verdict}")


if __name__ == "__main__":
    main()
