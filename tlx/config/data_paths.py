"""Files and folders that a dataset names: are they there, and do they look like data?

A source's module says in a literal `PATHS` which of its keys name some, and what each must be: one
of the words below. What a module says nothing of is recorded, and not looked at.
"""

import glob
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tlx.base.nodes import Node, node_at, target_of
from tlx.config.near_paths import beside
from tlx.config.problems import Problem
from tlx.config.signatures import constant
from tlx.data import split_files, split_folders, split_names

TWO_CLASSES = "at least 2 classes are needed"
"""To train; a finished run can be judged on one."""

FILE, FILE_OR_FOLDER, FOLDER = "file", "file or folder", "folder"
FILE_OR_ROOT = "file, or root"
"""Given, or `root` is: not both."""
CLASSES = "folder of classes"
"""With a folder for each class in it, or in the folders of splits in it."""
DOWNLOADS = "folder of downloads"
"""Is to be there only where nothing may be downloaded."""
NAME = "folder or name"
"""A folder, or something else by which data is known."""
WORD = "word"
"""Says which data it is, and is no path."""
FILE_BELOW, FOLDER_BELOW, TABLE_BELOW = "file below root", "folder below root", "table below root"
UNSTATED = {
    **{"root": NAME, "path": NAME},
    **dict.fromkeys(("name", "revision", "kwargs", "train"), WORD),
}
EVALUATION = ("val", "test", "extra", "source_text")
"""Keys of what is not trained on."""


def paths_of(target: str) -> Mapping[str, str]:
    """Keys of a source that name files or folders -> what each must be."""
    if not target:
        return {}
    module, _, function = target.rpartition(".")
    stated = constant(module, "PATHS")
    if not isinstance(stated, Mapping):
        return UNSTATED
    own = stated.get(function)
    return own if isinstance(own, Mapping) else stated


def places(target: str, values: Node) -> dict[str, str]:
    """What a dataset names outside of other folders that it names: key -> path."""
    return {
        key: path
        for key, kind in paths_of(target).items()
        if isinstance(path := values.get(key), str)
        and kind != WORD
        and not kind.endswith("below root")
    }


def origin(target: str) -> tuple[str, ...]:
    """Keys of a dataset that say which training data it has."""
    return tuple(key for key in paths_of(target) if key not in EVALUATION)


def check(dataset: Node) -> Iterator[Problem]:
    """Problems of the files and folders that a dataset names."""
    names = list(_extra(dataset))
    yield from names
    kinds, root = paths_of(target_of(dataset)), dataset.get("root")
    folder = Path(root).expanduser() if isinstance(root, str) else None
    if root == "???":
        return
    if folder is not None and (wrong := _root(dataset, folder, kinds.get("root"))):
        yield wrong
        return
    if FILE_OR_ROOT in kinds.values():
        yield from _one_of(dataset)
    for key, kind in kinds.items():
        if kind in (FILE, FILE_OR_FOLDER, FILE_OR_ROOT):
            place, value = f"dataset.{key}", dataset.get(key)
            yield from _missing(place, value, folders=kind == FILE_OR_FOLDER)
    if names:
        return
    if kinds.get("root") == CLASSES and folder is not None:
        yield from _classes(dataset, folder)
    if FILE_BELOW in kinds.values():
        yield from _files(dataset, folder)
    if TABLE_BELOW in kinds.values() and folder is not None and dataset.get("path") is None:
        yield from _tables(dataset, folder)


def _root(dataset: Node, folder: Path, kind: str | None) -> Problem | None:
    """What is wrong with the root itself."""
    if kind in (None, NAME) or (kind == DOWNLOADS and dataset.get("download") is not False):
        return None
    if folder.is_dir():
        return None
    if folder.exists():
        told = f"{dataset['root']} is a file; give a folder"
        return Problem("dataset.root", told, str(folder.parent))
    near = beside(folder, folders=True)
    return Problem("dataset.root", f"{dataset['root']} is no folder", near)


def _one_of(dataset: Node) -> Iterator[Problem]:
    """Neither or both of a file and a folder of files."""
    given = [dataset.get(key) is not None for key in ("path", "root")]
    if not any(given):
        yield Problem(
            "dataset.path",
            "must be given (a table), or dataset.root (a folder with train, val and test)",
        )
    elif all(given):
        yield Problem(
            "dataset.path",
            "both it and dataset.root are given; give one: a table, or a folder with train, val "
            "and test",
        )


def _named(dataset: Node) -> dict[str, object]:
    """Key -> what the dataset says of each of its splits and further sets."""
    return {
        **{key: dataset.get(key, key) for key in split_names.SPLITS},
        **{f"extra.{key}": name for key, name in node_at(dataset, "extra").items()},
    }


def _files(dataset: Node, folder: Path | None) -> Iterator[Problem]:
    """Files that are named and are not there, or a training file that is not named."""
    base = folder or Path()
    for key, name in _named(dataset).items():
        path = base / Path(name).expanduser() if isinstance(name, str) else base
        stated = key in dataset or key.startswith("extra.")
        if stated and isinstance(name, str) and name and not path.is_file():
            near = beside(path)
            there = near and os.path.relpath(near, base)
            yield Problem(f"dataset.{key}", f"{path} is no file", there)
    if dataset.get("train") is None:
        yield from _unnamed(target_of(dataset), folder)


def _unnamed(target: str, folder: Path | None) -> Iterator[Problem]:
    """A training file that is not named, and not found by the module that the source names."""
    finder = constant(target.rpartition(".")[0], "FINDER")
    if not isinstance(finder, str) or not finder.startswith("tlx.data."):
        return
    module = importlib.import_module(finder)
    told = f"{folder} has no file of a usual name" if folder else "no file to train on"
    try:
        if folder and "train" in module.find(folder, ["train"]):
            return
    except ValueError as error:
        yield Problem("dataset.train", str(error))
        return
    there = module.candidates(folder) if folder else ""
    hint = f"; there are {there}" if there else ""
    told += f", as train.txt or train.conll; name it here{hint}"
    yield Problem("dataset.train", told)


def _tables(dataset: Node, folder: Path) -> Iterator[Problem]:
    """Tables that are named and are not there."""
    for key, name in _named(dataset).items():
        there = isinstance(name, str) and list(folder.glob(f"{glob.escape(name)}*"))
        if not isinstance(name, str) or there or (name == key != "train"):
            continue
        if key == "train" == name and _train_table(folder):
            continue
        near = beside(folder / name)
        told = f"{folder / name} is no table"
        yield Problem(f"dataset.{key}", told, near and Path(near).name)


def _extra(dataset: Node) -> Iterator[Problem]:
    """Names of further evaluation sets that cannot be names of files."""
    extra = dataset.get("extra")
    if isinstance(extra, Mapping | list | tuple):
        try:
            split_names.check_extra(map(str, extra))
        except ValueError as error:
            yield Problem("dataset.extra", str(error).removeprefix("dataset.extra: "))


def _train_table(folder: Path) -> bool:
    """Whether a folder has a training table that is found by its name."""
    try:
        return bool(
            split_files.find(
                folder,
                ["train"],
                endings=constant("tlx.data.tables.rows", "FORMATS"),
                late=constant("tlx.data.tables.rows", "LATE"),
                usual=split_names.FIRST,
            )
        )
    except ValueError:  # several: the reader says which
        return True


def _classes(dataset: Node, folder: Path) -> Iterator[Problem]:
    """Fewer than two class folders, or an evaluation folder that is named and is not there."""
    wrong = [
        (key, folder / str(name))
        for key, name in _named(dataset).items()
        if name is not None and name != key and not (folder / str(name)).is_dir()
    ]
    for key, path in wrong:
        yield Problem(f"dataset.{key}", f"{path} is no folder", _namebeside(path))
    if wrong:
        return
    try:
        named = {key: dataset.get(key, key) for key in split_names.SPLITS}
        splits = {key: None if name is None else str(name) for key, name in named.items()}
        further = {key: str(name) for key, name in node_at(dataset, "extra").items()}
        base = split_folders.find(folder, splits, further).folders["train"]
    except ValueError as error:
        yield Problem("dataset.root", str(error))
        return
    classes = [path.name for path in split_folders.folders_in(base)]
    if len(classes) < 2:
        found = f"only the folder {classes[0]!r}" if classes else "no folders"
        yield Problem(
            "dataset.root",
            f"{base} holds {found}; there must be a folder for each class, and {TWO_CLASSES}"
            f"{_where_classes_are(folder, base, classes)}",
        )


def _where_classes_are(folder: Path, base: Path, classes: list[str]) -> str:
    """Overrides that take what lies one folder deeper, or beside, for the classes."""
    if classes and len(split_folders.folders_in(base / classes[0])) > 1:
        inner = base / classes[0]
        if not base.samefile(folder) and inner.is_relative_to(folder):
            name = inner.relative_to(folder).as_posix()
            return f"; dataset.train={name} takes those in it (and val and test likewise)"
        return f"; dataset.root={inner} takes those in it"
    if not classes and len(split_folders.folders_in(folder)) > 1 and not base.samefile(folder):
        return f"; where {base.name} is a class itself, {split_folders.ALL_CLASSES}"
    return ""


def _namebeside(path: Path) -> str | None:
    near = beside(path, folders=True)
    return Path(near).name if near else None


def _missing(place: str, name: object, *, folders: bool = False) -> Iterator[Problem]:
    """A file that is not there, or a folder where only a file will do."""
    if not isinstance(name, str) or name == "???":
        return
    path = Path(name).expanduser()
    if not path.exists():
        yield Problem(place, f"{name} is no file{' or folder' * folders}", beside(path))
    elif path.is_dir() and not folders:
        yield Problem(place, f"{name} is a folder; give a file")
