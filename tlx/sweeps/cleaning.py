"""What of a study takes space and is no longer needed."""

from pathlib import Path

from tlx import execute, runs
from tlx.leases import leases
from tlx.results import manifest as manifests
from tlx.results import record

DONE = frozenset(("finished", "pruned", "failed"))


def disposable(folder: Path, *, whole_runs: bool = False) -> list[tuple[Path, int]]:
    """Paths that can go, with their sizes in bytes.

    Args:
        folder: of the study.
        whole_runs: the folders of its runs and of the study itself, less the runs that belong to
            another study or that another run started from; else only checkpoints of runs that are
            over, and what `--force` had set aside.
    """
    manifest = manifests.read(folder)
    runs_dir = folder.parent.parent
    held = leases(runs_dir).held()
    mine = dict.fromkeys([*manifest.parents, *(run.run for run in manifest.runs)])
    free = [runs_dir / run for run in mine if run not in held and (runs_dir / run).is_dir()]
    if whole_runs:
        kept = _needed_elsewhere(folder, runs_dir, set(mine))
        paths = [path for path in free if path.name not in kept]
        return [(path, size(path)) for path in [*paths, folder]]
    found = []
    for path in free:
        parts = [path / execute.BEFORE]
        if record.status_of(path) == "finished":
            parts.append(path / "checkpoints")
        found += [(part, size(part)) for part in parts if part.exists()]
    return found


def _needed_elsewhere(folder: Path, runs_dir: Path, mine: set[str]) -> set[str]:
    """Runs that other studies have, or that runs outside this study started from."""
    needed: set[str] = set()
    for path in runs_dir.glob(f"{manifests.STUDIES}/*/{manifests.FILE}"):
        if path.parent != folder:
            other = manifests.read(path.parent)
            needed |= {run.run for run in other.runs} | set(other.parents)
    for path in runs_dir.glob(f"*/{runs.CONFIG}"):
        if path.parent.name not in mine:
            needed |= set(execute.provenance_of(path.parent).get("lineage", []))
    return needed


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())
