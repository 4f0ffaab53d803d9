"""Which files of a folder are splits. Standard library only."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from tlx.data import split_names
from tlx.data.split_folders import visible


def find(
    base: Path,
    wanted: Sequence[str],
    *,
    endings: Collection[str],
    usual: Mapping[str, Sequence[str]],
    used: Collection[Path] = (),
    off: str = "null",
    plain: Callable[[str], str] = str,
    late: Collection[str] = (),
) -> dict[str, Path]:
    """The files of the splits that no argument names.

    Args:
        base: the folder.
        wanted: splits.
        endings: of names of files that hold data, in small letters; the longest counts.
        usual: names of each split, without endings, that come before all others.
        used: files that an argument names.
        off: what an argument says for a part of train to be split off.
        plain: a name without its ending -> without what says nothing of splits in this source.
        late: endings of files that come after those of a usual name.

    Raises:
        ValueError: several files may be one split, or it is not sure that one is.
    """
    taken = {path.resolve() for path in used}
    names = [p.name for p in visible(base) if p.is_file() and p.resolve() not in taken]
    stems = {name: plain(stem) for name in names if (stem := _stem(name, endings)) is not None}
    stems |= {name: f"{stem} data" for name, stem in stems.items() if Path(name).suffix in late}
    found = split_names.find(stems, wanted, place=base, usual=usual, off=off)
    # what has an ending that is not known here may be a split all the same
    missing = [split for split in wanted if split not in found and split != "train"]
    others = {name: f"{Path(name).stem} other" for name in names if name not in stems}
    found |= split_names.find(others, missing, place=base, off=off)
    return {split: base / name for split, name in found.items()}


def unused(base: Path, used: Collection[Path]) -> list[str]:
    """What lies in a folder and is none of the files that are used; folders end in a slash."""
    taken = {path.resolve() for path in used}
    return [p.name + "/" * p.is_dir() for p in visible(base) if p.resolve() not in taken]


def _stem(name: str, endings: Collection[str]) -> str | None:
    fitting = [ending for ending in endings if name.lower().endswith(ending)]
    return name[: len(name) - len(max(fitting, key=len))] if fitting else None
