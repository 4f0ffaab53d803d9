"""The nearest other name to a path that is not there."""

from pathlib import Path

from tlx.config.suggest import nearest


def beside(path: Path, *, folders: bool = False) -> str | None:
    """The nearest other name in a path's folder, or the nearest folder above it.

    Args:
        path: what was given, missing or of the wrong kind.
        folders: only they are wanted.
    """
    parent = path.parent
    if not parent.is_dir():
        return beside(parent, folders=True) if parent != parent.parent else None
    names = [
        p.name for p in parent.iterdir() if p.name != path.name and (p.is_dir() or not folders)
    ]
    near = nearest(path.name, names, cutoff=0.6)
    return str(parent / near) if near else None
