"""Files and lines of a source: listed before they are looked at, and named where they are wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

MAX_SHOWN = 20
"""Of a list in an error, except for bad images, which are all shown."""


@dataclass(frozen=True)
class Listed:
    """Files of a split before they are looked at: id, path, target and group of each."""

    ids: Sequence[str]
    paths: Sequence[Path]
    targets: Sequence[object]
    groups: Sequence[str] = ()


def path_in(base: Path, name: str) -> str:
    r"""A path of a table as it stands, or as Windows means it, where only that is a file.

    Args:
        base: what the path starts from.
        name: the path, as `dogs\rex.jpg` or `dogs/rex.jpg`.
    """
    if "\\" not in name or (base / name).exists():
        return name
    slashes = PureWindowsPath(name).as_posix()
    return slashes if (base / slashes).exists() else name


def quoted(names: Sequence[str]) -> str:
    """Names in quotes, the first of them if there are many."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_SHOWN else ""
    return ", ".join(repr(name) for name in names[:MAX_SHOWN]) + more


def refuse_lines(wrong: Sequence[str], head: str) -> None:
    """Raises a ValueError that lists wrong lines, the first of them if there are many."""
    if wrong:
        more = f"\n  ... ({len(wrong)} in all)" if len(wrong) > MAX_SHOWN else ""
        lines = "\n".join(f"  {text}" for text in wrong[:MAX_SHOWN])
        raise ValueError(f"{head}:\n{lines}{more}")
