"""Copies of the code that jobs run from, so that a queued job is not changed by later edits."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlx.config import project
from tlx.config.places import conf_dir, experiments_dir
from tlx.config.signatures import PACKAGE
from tlx.execution import runs

FOLDER = "code"
PROJECT = "project"
LARGEST_BYTES = 100_000_000
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info")


def take(runs_dir: Path, *, paths: Sequence[str] = ()) -> Path:
    """Copies tlx, one's project and further folders into `runs_dir/code/HASH`, once if equal.

    Args:
        runs_dir: folder of the runs.
        paths: folders that workers find modules in, beside tlx.

    Raises:
        RunError: a path is no folder, or the code is too large to be code.
    """
    sources = {"tlx": PACKAGE, "tlx/conf": conf_dir(), "tlx/experiments": experiments_dir()}
    work = project.current()
    sources |= {f"{PROJECT}/{path.name}": path for path in (work.code() if work else ())}
    for place, path in enumerate(paths):
        folder = Path(path).expanduser().absolute()
        if not folder.is_dir():
            raise runs.RunError(f"executor.snapshot_paths: {path!r} is no folder")
        sources[f"paths/{place}"] = folder
    digest = _digest(sources)
    target = runs_dir.absolute() / FOLDER / digest
    if not target.is_dir():
        temporary = target.with_name(f".{digest}.{os.getpid()}.tmp")
        for name, source in sources.items():
            if source.is_file():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, temporary / name)
            else:
                shutil.copytree(source, temporary / name, ignore=LEFT_OUT, dirs_exist_ok=True)
        try:
            temporary.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(temporary)
    return target


def environment(copy: Path) -> dict[str, str]:
    """Variables that make Python take tlx and the user's modules from a copy.

    PYTHONSAFEPATH, because `python -m` would look into the current folder first.
    """
    found = [str(copy), *(str(path) for path in sorted((copy / "paths").glob("*")))]
    if before := os.environ.get("PYTHONPATH"):
        found.append(before)
    own = {project.VARIABLE: str(copy / PROJECT)} if (copy / PROJECT).is_dir() else {}
    return {"PYTHONPATH": os.pathsep.join(found), "PYTHONSAFEPATH": "1", **own}


def _files(folder: Path) -> Iterator[Path]:
    """A file itself; of a folder all that is copied."""
    if folder.is_file():
        yield folder
    for base, folders, names in os.walk(folder):
        left_out = LEFT_OUT(base, [*folders, *names])
        folders[:] = sorted(set(folders) - left_out)
        yield from (Path(base) / name for name in sorted(set(names) - left_out))


def _digest(sources: dict[str, Path]) -> str:
    made, total = hashlib.sha256(), 0
    for name, source in sources.items():
        for file in _files(source):
            total += file.stat().st_size
            if total > LARGEST_BYTES:
                raise runs.RunError(
                    f"executor.snapshot: the code has more than {LARGEST_BYTES // 10**6} MB by "
                    f"{file}; name folders in executor.snapshot_paths that hold nothing but code"
                )
            made.update(f"{name}/{file.relative_to(source)}\0".encode())
            made.update(hashlib.sha256(file.read_bytes()).digest())
    return made.hexdigest()[:12]
