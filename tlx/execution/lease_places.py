"""Which leases a folder of runs has: those that its file system allows."""

import os
from pathlib import Path

from tlx.execution.lease_journal import JournalLeases
from tlx.execution.leases import Leases, SqliteLeases
from tlx.execution.silence import Silence

FOLDER = ".leases"
NETWORK = frozenset(
    ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "afs", "9p")
)
"""File systems on which SQLite's locks are not to be trusted; `fuse.*` counts too."""

_SILENCES: dict[Path, Silence] = {}
"""Of each folder, what this process has seen so far: silences are long, and looks many."""


def leases(runs_dir: Path | str) -> Leases:
    """The leases of a folder of runs, kept as its file system allows.

    `TLX_LEASES=journal` or `sqlite` overrules the choice.
    """
    folder = Path(runs_dir).expanduser().absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _SILENCES:
        _SILENCES[folder] = Silence(folder)
    silence = _SILENCES[folder]
    kind = os.environ.get("TLX_LEASES") or ("journal" if on_network(folder) else "sqlite")
    if kind == "journal":
        return JournalLeases(folder / "leases.jsonl", silence=silence)
    if kind == "sqlite":
        return SqliteLeases(folder / "leases.db", silence=silence)
    raise ValueError(f"TLX_LEASES={kind!r}; it is sqlite or journal")


def on_network(folder: Path) -> bool:
    """Whether a folder lies on a file system that machines share."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind in NETWORK or kind.startswith("fuse.")
