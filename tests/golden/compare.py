"""Trains the golden runs with a recorded commit and with today's code, and compares every bit.

`make golden`, or `python tests/golden/compare.py [COMMIT] [NAME...]`: the commit is checked out
into a worktree of its own, and both are trained on this machine, one after the other, by the same
Python. Exits with 1 where an id, a figure or a weight differs that no change of a config's meaning
(tlx/config/changes.py) explains.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMIT = "6d35975"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def trained(checkout: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    """What the runs gave when they were trained by the tlx of a checkout."""
    subprocess.run(
        [sys.executable, HERE / "runs.py", folder, *names],
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "WANDB_MODE": "offline",
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    results: dict[str, Any] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    return results


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for each thing that is not the same bit for bit."""
    lines = [f"{name}: only in one of the two" for name in before.keys() ^ after.keys()]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        lines += [
            f"{name}: {what} {old[what]} → {new[what]}"
            for what in ("id", "weights")
            if old[what] != new[what]
        ]
        for figure in sorted(old["figures"].keys() | new["figures"].keys()):
            values = old["figures"].get(figure), new["figures"].get(figure)
            if values[0] != values[1]:
                lines.append(f"{name}: {figure} {values[0]} → {values[1]}")
    return sorted(lines)


def main(commit: str, names: list[str]) -> int:
    """Prints what differs between a commit and today; 1 where something does."""
    with tempfile.TemporaryDirectory() as temporary:
        checkout = Path(temporary) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", checkout, commit], check=True)
        try:
            before = trained(checkout, Path(temporary) / "before", names)
            after = trained(ROOT, Path(temporary) / "after", names)
        finally:
            subprocess.run([*git, "remove", "--force", checkout], check=True)
    lines = differences(before, after)
    print("\n".join(lines))
    print(f"{len(before)} runs trained by {commit} and by today's code: {len(lines)} differences")
    return int(bool(lines))


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(given[0] if given else COMMIT, given[1:]))
