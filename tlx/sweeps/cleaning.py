"""What of a study takes space and is no longer needed."""

from pathlib import Path

from tlx.base import names
from tlx.execution import preparing, runs
from tlx.results import manifest as manifests
from tlx.results import reading


def disposable(folder: Path, *, whole_runs: bool = False) -> list[tuple[Path, int]]:
    """Paths that can go, with their sizes in bytes.

    Args:
        folder: of the study.
        whole_runs: the folders of its runs and of the study itself, less the runs that belong to
            another study or that another run started from; else only checkpoints of runs that are
            over, and what `--force` had set aside. Whatever is reached through a link stays.

    Raises:
        ManifestError: as `run_names` does.
    """
    mine = run_names(folder)
    runs_dir = folder.parent.parent
    # a manifest may come from somebody else: what it lists is a run only if it looks like one
    there = [runs_dir / run for run in mine if (runs_dir / run / runs.CONFIG).is_file()]
    if whole_runs:
        kept = _needed_elsewhere(folder, runs_dir, set(mine))
        paths = [path for path in there if path.name not in kept] + [folder]
    else:
        paths = []
        for path in there:
            paths.append(path / preparing.BEFORE)
            if reading.status_of(path) == "finished":
                paths.append(path / "checkpoints")
    return [
        (path, size(path))
        for path in paths
        if path.exists() and not names.is_link(path, within=runs_dir)
    ]


def run_names(folder: Path) -> list[str]:
    """Ids of a study's runs, and of those that they start from.

    Raises:
        ManifestError: the manifest cannot be read, names what is no run, or lies elsewhere than
            where studies do, so that what is beside it are no runs.
    """
    manifest = manifests.read(folder)
    if folder.parent.name != manifests.STUDIES:
        raise manifests.ManifestError(
            f"{folder} does not lie in {manifests.STUDIES}/ of a folder of runs, where studies do"
        )
    return list(dict.fromkeys([*manifest.parents, *(run.run for run in manifest.runs)]))


def _needed_elsewhere(folder: Path, runs_dir: Path, mine: set[str]) -> set[str]:
    """Runs that other studies have, or that runs outside this study started from."""
    needed: set[str] = set()
    for path in runs_dir.glob(f"{manifests.STUDIES}/*/{manifests.FILE}"):
        if path.parent != folder:
            other = manifests.read(path.parent)
            needed |= {run.run for run in other.runs} | set(other.parents)
    for path in runs_dir.glob(f"*/{runs.CONFIG}"):
        if path.parent.name not in mine:
            needed |= set(preparing.provenance_of(path.parent).get("lineage", []))
    return needed


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())
