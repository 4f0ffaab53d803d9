"""Which folders of a tree are splits, and which are classes. Standard library only."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlx.data import split_names
from tlx.data.split_names import MAX_SHOWN, Reading

ALL_CLASSES = "dataset.train=. dataset.val=null dataset.test=null"
"""The overrides that take every folder for a class."""


@dataclass(frozen=True)
class Places:
    """Where the splits of a tree are.

    Attributes:
        folders: of each split that there is; train's is the tree itself where nothing is divided.
        unused: what lies beside them, below the tree; folders end in a slash.
    """

    folders: Mapping[str, Path]
    unused: Sequence[str]


def find(base: Path, splits: Mapping[str, str | None], extra: Mapping[str, str]) -> Places:
    """The folders of the splits.

    Names that an argument gives come first, and so do `train`, `val` and `test` themselves; then
    folders are looked for that are called as splits usually are.

    Args:
        base: the folder of all.
        splits: train, val and test -> folder below; its own name: by a usual name, if at all; None:
            not looked for.
        extra: further evaluation sets -> folder.

    Raises:
        ValueError: a folder is missing, serves two splits, or it is not sure what it is.
    """
    if not base.is_dir():
        raise ValueError(f"dataset.root={str(base)!r} is no folder; give one that exists")
    split_names.check_extra(extra)
    found = {
        split: base / name for split, name in splits.items() if name and (base / name).is_dir()
    }
    for split, name in splits.items():
        if name is not None and split not in found and name != split:
            raise ValueError(
                f"dataset.{split}={name!r} is no folder in {base}; there are {shown(base)}"
            )
    further = {name: base / folder for name, folder in extra.items()}
    for name, folder in further.items():
        if not folder.is_dir():
            raise ValueError(f"dataset.extra: {name}={extra[name]!r} is no folder in {base}")
    used = [*found.values(), *further.values()]
    free = _free(base, used)
    whole = "train" in found and found["train"].samefile(base)
    if not whole and ("train" in found or _divided(base, free, found)):
        # beside a train that is deeper in the tree lie the others
        above = {folder.parent for folder in found.values()} - {base}
        free += [path for folder in sorted(above) for path in _free(folder, used)]
        wanted = [s for s, name in splits.items() if name == s and s not in found]
        names = {_below(path, base): path.name for path in free}
        usual = {split: (split,) for split in wanted}
        entries = split_names.find(names, wanted, place=base, usual=usual)
        found |= {split: base / entry for split, entry in entries.items()}
    found = {"train": found.get("train", base), **found, **further}
    _check_once(found)
    return Places(found, _unused(base, list(found.values())))


def _free(folder: Path, used: Sequence[Path]) -> list[Path]:
    return [path for path in folders_in(folder) if not _holds(path, used)]


def _below(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def folders_in(base: Path) -> list[Path]:
    """Visible folders, sorted."""
    with os.scandir(base) as entries:  # asks no file of its own what it is: there may be many
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [base / name for name in sorted(names)]


def visible(folder: Path) -> list[Path]:
    """All whose names begin with no dot, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def shown(base: Path) -> str:
    """The folders in a folder, for messages."""
    return _listed([path.name for path in folders_in(base)]) or "no folders"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _holds(path: Path, used: Sequence[Path]) -> bool:
    """Whether a folder is one of those that are used, or above one."""
    return bool(used) and any(
        each.resolve().is_relative_to(real) for real in (path.resolve(),) for each in used
    )


def _divided(base: Path, free: Sequence[Path], found: Mapping[str, Path]) -> bool:
    """Whether folders are splits although none is called `train`, and none is named.

    Args:
        base: the folder of all.
        free: folders that are not yet anything.
        found: folders of val and test.

    Raises:
        ValueError: they may be splits or classes, or there is nothing to train on.
    """
    inner = {path.name: {p.name for p in folders_in(path)} for path in free}
    read_as = split_names.readings(inner)
    # a folder of training data holds folders of classes; without any, it is a class itself
    trains = [
        n for n, r in read_as.items() if r.splits == ("train",) and r.grade != "maybe" and inner[n]
    ]
    sure = [n for n, r in read_as.items() if r.grade == "sure" and "train" not in r.splits]
    if (found or sure) and not trains:
        there = [*(folder.name for folder in found.values()), *sure]
        raise ValueError(
            f"{base} has {', '.join(f'{name}/' for name in there[:MAX_SHOWN])} but no train/; set "
            f"dataset.train to one of {shown(base)}, or to . where the other folders are classes, "
            f"with dataset.val or dataset.test={there[0]}; where all are classes, {ALL_CLASSES}"
        )
    if found or sure:
        return True
    if any(read_as[name].grade == "sure" for name in trains):
        if len(read_as) > 1 or len(free) == 1:
            return True
        raise _unsure(base, trains, "they are no splits' names that lie beside")
    _check_classes(base, inner, read_as)
    return False


def _check_classes(
    base: Path, inner: Mapping[str, set[str]], read_as: Mapping[str, Reading]
) -> None:
    """Raises a ValueError where folders that are taken for classes look like splits.

    Args:
        base: the folder of all.
        inner: folders -> names of the folders in them.
        read_as: what those may mean that may be splits.
    """
    # de/ holds the same as tr/ and te/: all are languages
    plain = {n for name, below in inner.items() if name not in read_as for n in below}
    for name, reading in read_as.items():
        others = {*inner, *(n for other in read_as if other != name for n in inner[other])} - {name}
        if inner[name] & (others - plain if reading.grade == "short" else others):
            raise _unsure(base, list(read_as), "they hold folders of the same names")
    for name, below in inner.items():
        parts = split_names.readings(below)
        clear = {r.splits for r in parts.values() if r.grade == "sure"}
        if len(clear) > 1 and ("train",) in clear:
            here = ", ".join(f"{part}/" for part in sorted(parts))
            raise ValueError(
                f"{base / name} is divided itself: {here}; give dataset.root={base / name}; or, "
                f"where it is a class, move the splits to the top, as train/{name}/, or take all "
                f"files of each class: {ALL_CLASSES}"
            )


def _unsure(base: Path, names: Sequence[str], why: str) -> ValueError:
    here = ", ".join(f"{name}/" for name in names[:MAX_SHOWN])
    return ValueError(
        f"{base}: {here} may be splits or classes ({why}); if splits, name them by dataset.train, "
        f"dataset.val and dataset.test, as dataset.train={names[0]}; if classes, {ALL_CLASSES}"
    )


def _check_once(found: Mapping[str, Path]) -> None:
    resolved = [folder.resolve() for folder in found.values()]
    for name, real in zip(found, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ValueError(f"dataset.{name}: {real} serves more than one split; set one to null")


def _unused(base: Path, used: Sequence[Path]) -> list[str]:
    """What lies in the tree, or beside a split that is elsewhere, and is no split's."""
    if any(path.samefile(base) for path in used):  # all folders of it are classes
        return [f"../{name}/" for name in _beside_train(base)]
    return [
        _below(path, base) + "/" * path.is_dir()
        for folder in sorted({base, *(path.parent for path in used if path.is_relative_to(base))})
        for path in visible(folder)
        if not _holds(path, used)
    ]


def _beside_train(base: Path) -> list[str]:
    """Folders of val and test beside a tree that is called as train is."""
    real = base.resolve()
    read_as = split_names.readings([path.name for path in folders_in(real.parent)])
    clear = {name: r.splits for name, r in read_as.items() if r.grade != "maybe"}
    if clear.get(real.name) != ("train",):
        return []
    return [name for name, splits in clear.items() if splits != ("train",)]
