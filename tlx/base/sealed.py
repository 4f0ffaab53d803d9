"""Seals: of each file that the record of a finished run speaks of, the SHA-256 of its content.

They are in the record under `files`. A file that is read again is compared with its seal first: one
bit of a weights file that flipped on a disk or in a copy would go unnoticed otherwise, and figures
would be of another network.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

RECORD = "record.json"
PREDICTIONS = "predictions"
BESIDE = ("config.yaml", "overrides.txt", "provenance.json", "metrics.csv")
WEIGHTS = "model.safetensors"

_Version = tuple[str, int, int, int]
_compared: set[tuple[_Version, str]] = set()
"""What was found whole in this process: many runs start from one file."""


class Damaged(ValueError):
    """A file of a run that is not, or no longer, what the run wrote.

    Attributes:
        why: what is said of it, less what can be done.
    """

    def __init__(self, why: str, *, folder: Path) -> None:
        """Puts the message together."""
        super().__init__(f"{why}; {ways_on(folder)}")
        self.why = why


def names(folder: Path, *, weights: bool) -> list[str]:
    """Names within a run's folder of the files that its record is to speak of.

    Args:
        folder: of the run, which has come to its end.
        weights: whether its weights stay.
    """
    wanted = (*BESIDE, WEIGHTS) if weights else BESIDE
    beside = [name for name in wanted if (folder / name).exists()]
    predicted = sorted(path.name for path in (folder / PREDICTIONS).glob("[!.]*"))
    return [*beside, *(f"{PREDICTIONS}/{name}" for name in predicted)]


def seals(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The seals of some files of a folder, by their names."""
    return {name: _digest(folder / name) for name in names}


def check(path: Path, *, files: Mapping[str, str] | None = None) -> None:
    """Compares a file with its seal, where the record of the run that it belongs to has one.

    Args:
        path: of the file, in a run's folder or elsewhere.
        files: the seals of its run; None: they are looked up in the record beside it.

    Raises:
        Damaged: it is not what the run wrote.
    """
    folder = path.parent.parent if path.parent.name == PREDICTIONS else path.parent
    known = _files(_version(folder / RECORD)) if files is None else files
    seal = known.get(path.relative_to(folder).as_posix())
    if seal is None or not path.exists():
        return  # older runs have no seals; what is missing is told of by who reads it
    version = _version(path)
    if version is None or (version, seal) in _compared:
        return
    digest = _digest(path)
    if digest != seal:
        raise Damaged(
            f"{path} is damaged, or was changed since its run finished: its SHA-256 is "
            f"{digest[:16]}…, {folder / RECORD} says {seal[:16]}…",
            folder=folder,
        )
    _compared.add((version, seal))


def ways_on(folder: Path) -> str:
    """What a person can do who has lost a file of a finished run, for messages."""
    return (
        "put it back from a copy, or train the run again: `tlx train … --force` with its overrides "
        f"(they are in {folder / 'overrides.txt'})"
    )


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(path: Path) -> _Version | None:
    """What changes with a file's content; None where there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _files(version: _Version | None) -> Mapping[str, str]:
    """The seals in a record; none in one that cannot be read, which its own reader tells of."""
    if version is None:
        return {}
    try:
        found = json.loads(Path(version[0]).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
