"""Trees of files: folders of splits, and below them folders of classes."""

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlx.data import split_folders, split_names
from tlx.data.items import Medium
from tlx.data.listed import Listed, quoted
from tlx.data.spelling import refuse_alike

LOG = logging.getLogger(__name__)


def listing(
    base: Path,
    splits: Mapping[str, str | None],
    extra: Mapping[str, str],
    *,
    endings: Collection[str] | None,
    medium: Medium,
) -> tuple[dict[str, Listed], tuple[str, ...], dict[str, object]]:
    """Files of each split with their classes, the classes' names, and notes for the record.

    Args:
        base: the folder of all.
        splits: train, val and test -> folder below; without a train folder, base is it.
        extra: further evaluation sets -> folder.
        endings: of files that count, in small letters; None: all.
        medium: what a file holds.

    Raises:
        ValueError: no folders of classes, or different classes in the splits.
    """
    found_places = split_folders.find(base, splits, extra)
    places = found_places.folders
    found = {
        name: _classes(place, endings=endings, medium=medium, others=places.values(), split=name)
        for name, place in places.items()
    }
    names = tuple(sorted(found["train"].classes))
    _check_classes(names, found, places, strict=frozenset(extra), medium=medium)
    listed = {
        split: _listed(content, names, base, places[split], split)
        for split, content in found.items()
    }
    paths = sorted(path for content in found.values() for path in content.ignored)
    ignored = [_relative(path, base) for path in paths]
    if ignored:
        LOG.warning(
            "%s: %d files are no %ss in a class folder and are not used (%s%s)",
            base,
            len(ignored),
            medium.noun,
            ", ".join(ignored[:3]),
            ", ..." if len(ignored) > 3 else "",
        )
    notes: dict[str, object] = {"ignored": ignored} if ignored else {}
    return listed, names, {**notes, **split_names.unused(base, found_places.unused)}


@dataclass(frozen=True)
class Content:
    """What a split's folder holds: files by class, and files that are not used."""

    classes: Mapping[str, Sequence[Path]]
    ignored: Sequence[Path]


def _classes(
    folder: Path,
    *,
    endings: Collection[str] | None,
    medium: Medium,
    others: Collection[Path],
    split: str,
) -> Content:
    """Files by the first folder below; of some endings, or all for None.

    Folders of other splits in it are no classes.

    Raises:
        ValueError: there are no such folders, or no such files in them.
    """
    found: dict[str, list[Path]] = {}
    ignored: list[Path] = []
    elsewhere = {place.resolve() for place in others} - {folder.resolve()}
    for entry in split_folders.visible(folder):
        if elsewhere and entry.resolve() in elsewhere:
            continue
        if not entry.is_dir():
            ignored.append(entry)
            continue
        files = visible_files(entry)
        fits = [endings is None or path.suffix.lower() in endings for path in files]
        found[entry.name] = [path for path, fit in zip(files, fits, strict=True) if fit]
        ignored += [path for path, fit in zip(files, fits, strict=True) if not fit]
    if not found:
        without = f", or set dataset.{split}=null" if split in ("val", "test") else ""
        raise ValueError(
            f"{folder} has no folders of classes; {medium.noun}s go to {folder}/<class>/{without}"
        )
    if not any(found.values()):
        raise ValueError(
            f"the folders in {folder} ({split_folders.shown(folder)}) hold no {medium.noun}s; "
            f"known suffixes are {', '.join(sorted(endings or ()))}"
        )
    refuse_alike(found, str(folder))
    return Content(found, ignored)


def visible_files(folder: Path) -> list[Path]:
    """All visible files at any depth, links followed, each folder once."""
    files: list[Path] = []
    entered: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _check_classes(
    names: Sequence[str],
    found: Mapping[str, Content],
    folders: Mapping[str, Path],
    *,
    strict: frozenset[str],
    medium: Medium,
) -> None:
    """The same classes everywhere; val and test may lack some, `strict` splits may not.

    Raises:
        ValueError: a class is unknown to train, or without an item where it needs one.
    """
    empty = [name for name in names if not found["train"].classes[name]]
    if empty:
        raise ValueError(
            f"classes without {medium.one} in {folders['train']}: {quoted(empty)}; add some, or "
            "remove the folders"
        )
    for split, content in found.items():
        held = [name for name, files in content.classes.items() if files]
        unknown = [name for name in held if name not in names]
        if unknown:
            raise ValueError(
                f"{folders[split]} has classes that {folders['train']} lacks: {quoted(unknown)}; "
                f"train has {quoted(names)}"
            )
        lacking = [name for name in names if name not in held]
        if lacking and split in strict:
            raise ValueError(
                f"dataset.extra: {folders[split]} lacks classes of train: {quoted(lacking)}; an "
                "evaluation set has the same classes"
            )


def _listed(content: Content, names: Sequence[str], base: Path, folder: Path, split: str) -> Listed:
    ids, paths, targets = [], [], []
    for target, name in enumerate(names):
        for path in content.classes.get(name, ()):
            below = path.relative_to(folder).as_posix()
            outside = not folder.is_relative_to(base)
            ids.append(f"{split}/{below}" if outside else _relative(path, base))
            paths.append(path)
            targets.append(target)
    refuse_unwritable(ids)
    return Listed(ids, paths, targets)


def refuse_unwritable(names: Iterable[str]) -> None:
    """Raises ValueError where files have names that no record, table or page can hold."""
    if odd := [ascii(name) for name in names if not writable(name)]:
        raise ValueError(
            f"{len(odd)} files have names that are not in UTF-8, as old archives leave them: "
            f"{', '.join(odd[:3])}; rename them, as by convmv -f latin1 -t utf8 --notest"
        )


def writable(name: str) -> bool:
    """Whether records can hold a name: bytes that are no UTF-8 are half characters in Python."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
