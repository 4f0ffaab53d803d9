"""Images in folders: one for each class, and above these one for each split."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlx.data.files import MAX_SHOWN, Listed, from_files, quoted
from tlx.data.images import EXTENSIONS
from tlx.data.splits import Labels, Splits
from tlx.data.subset import Draw

LOG = logging.getLogger(__name__)


def image_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    labels_per_class: int | None = None,
    fraction: float | None = None,
    limit_val: bool = True,
    protocol: Literal["vtab1k"] | None = None,
    on_bad_file: Literal["error", "skip"] = "error",
    drop_duplicates: bool = False,
    flips: bool = True,
    seed: int = 0,
    split_seed: int = 0,
) -> Splits:
    """A tree of images: root/train/<class>/..., or root/<class>/... where nothing is divided.

    Any depth below a class; files whose names begin with a dot are left out. Without a folder for
    test or val, these are split off, every class at its own share. Ids are paths below root.

    Args:
        root: the folder.
        train: folder below root.
        val: likewise; split off train where there is none, and for None.
        test: likewise.
        extra: names of further evaluation sets -> their folders, below root or absolute.
        val_fraction: share of the training images for validation, where that is split off.
        test_fraction: share of all images for the test, where that is split off.
        labels_per_class: training images of each class; as many to validate on.
        fraction: of the training images instead.
        limit_val: whether validation is limited likewise.
        protocol: `vtab1k`: 800 images to train, 200 to validate.
        on_bad_file: `error` lists all images that cannot be read; `skip` leaves them out.
        drop_duplicates: remove from train what is in another split, pixel by pixel.
        flips: whether a mirrored image keeps its label.
        seed: of the few-shot draw.
        split_seed: of the split into train, val and test.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad images.
    """
    base = Path(root).expanduser()
    folders = _folders(base, {"train": train, "val": val, "test": test}, extra or {})
    found = {name: _classes(folder) for name, folder in folders.items()}
    names = tuple(sorted(found["train"].classes))
    _check_classes(names, found, folders, strict=frozenset(extra or {}))
    listed = {
        split: _listed(content, names, base, folders[split], split)
        for split, content in found.items()
    }
    ignored = sorted(path for content in found.values() for path in content.ignored)
    notes = {"ignored": [_relative(path, base) for path in ignored]} if ignored else {}
    if ignored:
        LOG.warning(
            "%s: %d files are no images in a class folder and are not used (%s%s)",
            base,
            len(ignored),
            ", ".join(notes["ignored"][:3]),
            ", ..." if len(ignored) > 3 else "",
        )
    return from_files(
        listed,
        Labels("single", names),
        draw=Draw(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            labels_per_class=labels_per_class,
            fraction=fraction,
            limit_val=limit_val,
            protocol=protocol,
            seed=seed,
            split_seed=split_seed,
        ),
        on_bad_file=on_bad_file,
        drop_duplicates=drop_duplicates,
        flips=flips,
        notes=notes,
    )


@dataclass(frozen=True)
class Content:
    """What a split's folder holds: images by class, and files that are not used."""

    classes: Mapping[str, Sequence[Path]]
    ignored: Sequence[Path]


def _folders(
    base: Path, splits: Mapping[str, str | None], extra: Mapping[str, str]
) -> dict[str, Path]:
    """The folder of each split that there is.

    Raises:
        ValueError: a folder is missing, or serves two splits.
    """
    if not base.is_dir():
        raise ValueError(f"dataset.root={str(base)!r} is no folder; give one that exists")
    reserved = sorted({"train", "val", "test"} & set(extra))
    if reserved:
        raise ValueError(f"dataset.extra: {reserved[0]!r} is a split already; use another name")
    found = {}
    for split, name in splits.items():
        if name is None:
            continue
        if (base / name).is_dir():
            found[split] = base / name
        elif name != split:
            raise ValueError(
                f"dataset.{split}={name!r} is no folder in {base}; there are {_shown(base)}"
            )
    if "train" not in found:
        if found:
            raise ValueError(
                f"{base} has {', '.join(f'{folder.name}/' for folder in found.values())} but no "
                f"train/; set dataset.train to one of {_shown(base)}"
            )
        found["train"] = base
    elif "val" not in found and splits["val"] is not None:
        for name in {"valid", "validation", "dev"} - set(extra.values()):
            if (base / name).is_dir():
                raise ValueError(f"{base} has {name}/; set dataset.val={name}, or to null")
    for name, folder in extra.items():
        if not (base / folder).is_dir():
            raise ValueError(f"dataset.extra: {name}={folder!r} is no folder in {base}")
        found[name] = base / folder
    resolved = [folder.resolve() for folder in found.values()]
    for name, real in zip(found, resolved, strict=True):
        if resolved.count(real) > 1:
            raise ValueError(f"dataset.{name}: {real} serves more than one split")
    return found


def _shown(base: Path) -> str:
    names = [path.name for path in _visible(base) if path.is_dir()]
    return ", ".join(names[:MAX_SHOWN]) or "no folders"


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _classes(folder: Path) -> Content:
    """Images by the first folder below.

    Raises:
        ValueError: there are no such folders, or no images in them.
    """
    classes, ignored = {}, []
    for entry in _visible(folder):
        if not entry.is_dir():
            ignored.append(entry)
            continue
        files = _files(entry)
        classes[entry.name] = [path for path in files if path.suffix.lower() in EXTENSIONS]
        ignored += [path for path in files if path.suffix.lower() not in EXTENSIONS]
    if not classes:
        raise ValueError(f"{folder} has no folders of classes; images go to {folder}/<class>/")
    if not any(classes.values()):
        raise ValueError(
            f"the folders in {folder} ({_shown(folder)}) hold no images; known suffixes are "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return Content(classes, ignored)


def _files(folder: Path) -> list[Path]:
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
) -> None:
    """The same classes everywhere; val and test may lack some, `strict` splits may not.

    Raises:
        ValueError: a class is unknown to train, or without an image where it needs one.
    """
    empty = [name for name in names if not found["train"].classes[name]]
    if empty:
        raise ValueError(
            f"classes without an image in {folders['train']}: {quoted(empty)}; add some, or "
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
    return Listed(ids, paths, targets)


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
