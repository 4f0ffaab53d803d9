"""Tables of a folder: which is of which split."""

from collections.abc import Mapping
from pathlib import Path

from tlx.data import split_files, split_names
from tlx.data.listed import quoted
from tlx.data.tables.rows import FORMATS, LATE


def table_files(
    path: str | None, root: str | None, splits: Mapping[str, str | None]
) -> dict[str, Path]:
    """The file of each split; with `path`, that of all as train's.

    Args:
        path: the only table.
        root: instead, a folder of tables.
        splits: name -> file below root, with or without its ending; None: there is none.

    Raises:
        ValueError: a file is missing, or several may be meant.
    """
    if (path is None) == (root is None):
        raise ValueError("dataset.path and dataset.root: give one of them")
    if path is not None:
        return {"train": Path(path).expanduser()}
    base = Path(str(root)).expanduser()
    if not base.is_dir():
        raise ValueError(f"dataset.root={str(base)!r} is no folder; give one that exists")
    found: dict[str, Path] = {}
    for split, name in splits.items():
        place = None if name is None else _file(base, name, split=split)
        if place is not None:
            found[split] = place
    wanted = [split for split, name in splits.items() if name == split and split not in found]
    found |= split_files.find(
        base, wanted, endings=FORMATS, usual=split_names.FIRST, used=list(found.values()), late=LATE
    )
    if "train" not in found:
        there = [p.name for p in sorted(base.iterdir()) if p.is_file()]
        raise ValueError(
            f"dataset.train={splits['train']!r} is no table in {base}; there are {quoted(there)}"
        )
    for split, place in found.items():
        if list(found.values()).count(place) > 1:
            raise ValueError(f"dataset.{split}: {place} serves more than one split")
    return {split: found[split] for split in splits if split in found}


def _file(base: Path, name: str, *, split: str) -> Path | None:
    """A file by its name, or by its name without a known ending; None where no name is given.

    Raises:
        ValueError: there is no such file, or there are several.
    """
    if (base / name).is_file():
        return base / name
    if name == split and split in split_names.SPLITS:
        return None
    paths = [p for ending in FORMATS if (p := base / f"{name}{ending}").is_file()]
    paths = [path for path in paths if path.suffix not in LATE] or paths
    if len(paths) > 1:
        raise ValueError(
            f"{base} has {' and '.join(p.name for p in paths)}; name the one that is meant"
        )
    if not paths:
        there = [p.name for p in sorted(base.iterdir()) if p.is_file()]
        raise ValueError(
            f"dataset.{split}={name!r} is no table in {base}; there are {quoted(there)}"
        )
    return paths[0]


def unused(path: str | None, files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Notes on what lies beside the tables."""
    base = files["train"].parent
    if path is None:
        return split_names.unused(base, split_files.unused(base, list(files.values())))
    hint = f"; dataset.root={base} in place of dataset.path reads one table a split"
    return split_names.unused(base, split_names.beside(files["train"]), hint=hint)
