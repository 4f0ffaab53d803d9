"""Files and folders that a config names: are they there, and are weights only weights?"""

import glob
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tlx.backbones.weights import kinds as weight_kinds
from tlx.base import bounds
from tlx.config.problems import Problem
from tlx.config.signatures import constant
from tlx.config.suggest import listed, nearest
from tlx.data import split_files, split_folders, split_names
from tlx.data.text import column_files

Node = Mapping[str, Any]
TWO_CLASSES = "at least 2 classes are needed"
"""To train; a finished run can be judged on one."""
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)"
    r"|torch\._utils _rebuild_\w+"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.nn\.parameter (Parameter|Buffer)"
    r"|torch(\.storage)? (\w*Storage|Size|device|dtype|Tensor)"
    r"|torch (float|bfloat|complex|int|uint|qint|quint)\d\w*|torch (bool|strided|sparse_coo)"
    r"|torch\.serialization _get_layout"
    r"|_codecs encode"
    r"|argparse Namespace"
    r"|(builtins|__builtin__) (set|complex|dict|list|tuple|int|float|str|slice)"
)
"""Module and name of what a file of plain tensors refers to; timm's checkpoints keep arguments.

No bytearray: 34 bytes ask for gigabytes of it.
"""


def check(config: Node) -> list[Problem]:
    """Problems of the files and folders that a config names."""
    dataset = config.get("dataset")
    extra = list(_extra(dataset))
    return [
        *_weights(config.get("backbone")),
        *_without_file(config),
        *extra,
        *([] if extra else _data(dataset)),
        *_texts(dataset),
    ]


def _extra(dataset: Any) -> Iterator[Problem]:
    """Names of further evaluation sets that cannot be names of files."""
    extra = dataset.get("extra") if isinstance(dataset, Mapping) else None
    if isinstance(extra, Mapping | list | tuple):
        try:
            split_names.check_extra(map(str, extra))
        except ValueError as error:
            yield Problem("dataset.extra", str(error).removeprefix("dataset.extra: "))


def _weights(backbone: Any) -> Iterator[Problem]:
    init = backbone.get("init", "hub") if isinstance(backbone, Mapping) else "hub"
    if not isinstance(init, str) or init in {"hub", "none", "???"}:
        return
    place = "backbone.init"
    if init.startswith(("run:", "experiment:")):
        if not init.partition(":")[2].strip():
            yield Problem(place, f"{init!r} names nothing; give run:ID or experiment:NAME")
        return
    path = Path(init).expanduser()
    if path.is_dir():
        yield Problem(
            place, f"{init} is a folder; give a weights file in it", _beside(path / "model")
        )
    elif not path.exists():
        words = nearest(init, ["hub", "none"], cutoff=0.6) if "/" not in init else None
        yield Problem(
            place,
            f"{init!r} is no file; give hub, none, a weights file, run:ID or experiment:NAME",
            words or _beside(path),
        )
    elif said := weight_kinds.refusal(path):
        yield Problem(place, said)
    elif weight_kinds.kind_of(path) == weight_kinds.TORCH and (packed := _packed(path)):
        yield Problem(place, packed)
    elif weight_kinds.kind_of(path) == weight_kinds.TORCH and (found := foreign_globals(path)):
        yield Problem(
            place,
            f"{init} is a pickle with code in it ({listed(found, most=3)}); it was not opened. "
            "Give a .safetensors file, or a file of plain tensors",
        )


def _packed(path: Path) -> str:
    """Why a file of weights is not even looked into; empty where it may be."""
    try:
        bounds.require_unpacked(path)
    except bounds.TooMuch as error:
        return str(error)
    return ""


def _without_file(config: Node) -> Iterator[Problem]:
    """Keys on what a weights file holds, where the weights come from none."""
    backbone = config.get("backbone")
    if not isinstance(backbone, Mapping):
        return
    init, name = backbone.get("init", "hub"), str(backbone.get("name", ""))
    if init not in {"hub", "none"} or (init == "hub" and name.startswith("local-dir:")):
        return
    for key in ("rename", "head_names"):
        if backbone.get(key):
            yield Problem(
                f"backbone.{key}",
                f"is for a weights file, and backbone.init={init} reads none; leave it out, or "
                "give the file",
            )
    if config.get("init_head") == "keep" and init == "hub":
        yield Problem(
            "init_head",
            "keep takes the head of a file or of a run, and backbone.init=hub reads none; give "
            "the file as backbone.init, or init_head=new",
        )


def _beside(path: Path, *, folders: bool = False) -> str | None:
    """The nearest other name in a path's folder, or the nearest folder above it.

    Args:
        path: what was given, missing or of the wrong kind.
        folders: only they are wanted.
    """
    parent = path.parent
    if not parent.is_dir():
        return _beside(parent, folders=True) if parent != parent.parent else None
    names = [
        p.name for p in parent.iterdir() if p.name != path.name and (p.is_dir() or not folders)
    ]
    near = nearest(path.name, names, cutoff=0.6)
    return str(parent / near) if near else None


def foreign_globals(path: Path) -> list[str]:
    """Names in a pickled file that are not those of plain tensors; nothing is executed.

    A file that is no pickle at all gives the one entry «unreadable».
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [n for n in archive.namelist() if n.endswith(".pkl")]
                found: list[str] = []
                for member in members:
                    with archive.open(member) as stream:
                        found += _globals(stream)
                return _foreign(found) if members else ["unreadable"]
        with path.open("rb") as stream:
            return _foreign(_legacy(stream))
    except (ValueError, OSError, zipfile.BadZipFile, UnicodeDecodeError, EOFError, IndexError):
        return ["unreadable"]


def _legacy(stream: IO[bytes]) -> list[str]:
    """Names in torch's old format: a number of pickles, then raw tensors; or in one bare pickle."""
    found: list[str] = []
    for part in range(5):
        try:
            found += _globals(stream)
        except ValueError:
            if part == 0:
                raise
            break
    return found


def _foreign(names: list[str]) -> list[str]:
    return sorted({name for name in names if not HARMLESS.fullmatch(name)})


def _globals(stream: IO[bytes]) -> list[str]:
    """Names («module name») that a pickle's opcodes refer to."""
    found: list[str] = []
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in {"GLOBAL", "INST"}:
            found.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            # torch writes protocol 2, which has no such opcode; its names could be feigned here
            found.append(f"computed name {'.'.join(texts[-2:])}")
        elif opcode.name in {"EXT1", "EXT2", "EXT4"}:
            found.append(f"extension {argument}")
        elif isinstance(argument, str):
            texts.append(argument)
    return found


def _data(dataset: Any) -> Iterator[Problem]:
    target = dataset.get("_target_") if isinstance(dataset, Mapping) else None
    if not isinstance(target, str):
        return
    source = target.rpartition(".")[2]
    root = dataset.get("root")
    if source == "conll" and root is None:
        yield from _columns(dataset, None)
    if not isinstance(root, str) or root == "???":
        return
    folder = Path(root).expanduser()
    if (
        source in {"image_folder", "image_csv", "text_folder", "text_csv", "conll"}
        or dataset.get("download") is False
    ):
        if not folder.is_dir():
            if folder.exists():
                yield Problem(
                    "dataset.root", f"{root} is a file; give a folder", str(folder.parent)
                )
            else:
                yield Problem("dataset.root", f"{root} is no folder", _beside(folder, folders=True))
        elif source in {"image_folder", "text_folder"}:
            yield from _classes(dataset, folder)
        elif source == "conll":
            yield from _columns(dataset, folder)


def _columns(dataset: Node, folder: Path | None) -> Iterator[Problem]:
    """Files of columns that are named and are not there, or a training file that is not named."""
    base = folder or Path()
    extra = dataset.get("extra")
    named = {
        **{f"dataset.{key}": dataset.get(key) for key in ("train", "val", "test")},
        **{
            f"dataset.extra.{key}": name
            for key, name in (extra.items() if isinstance(extra, Mapping) else ())
        },
    }
    for place, name in named.items():
        path = base / Path(name).expanduser() if isinstance(name, str) else base
        if isinstance(name, str) and name and not path.is_file():
            near = _beside(path)
            yield Problem(place, f"{path} is no file", near and os.path.relpath(near, base))
    if dataset.get("train") is None:
        found = f"{folder} has no file of a usual name" if folder else "no file to train on"
        try:
            train = column_files.find(folder, ["train"]).get("train") if folder else None
        except ValueError as error:
            yield Problem("dataset.train", str(error))
            return
        if train is None:
            there = column_files.candidates(folder) if folder else ""
            yield Problem(
                "dataset.train",
                f"{found}, as train.txt or train.conll; name it here"
                f"{f'; there are {there}' if there else ''}",
            )


def _classes(dataset: Node, folder: Path) -> Iterator[Problem]:
    """Fewer than two class folders, or an evaluation folder that is named and is not there."""
    named = {key: dataset.get(key, key) for key in split_names.SPLITS}
    extra = dataset.get("extra")
    further = dict(extra.items()) if isinstance(extra, Mapping) else {}
    wrong = [
        (key, folder / str(name))
        for key, name in [*named.items(), *((f"extra.{k}", v) for k, v in further.items())]
        if name is not None and name != key and not (folder / str(name)).is_dir()
    ]
    for key, path in wrong:
        yield Problem(f"dataset.{key}", f"{path} is no folder", _name_beside(path))
    if wrong:
        return
    try:
        base = split_folders.find(folder, named, further).folders["train"]
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


def _name_beside(path: Path) -> str | None:
    near = _beside(path, folders=True)
    return Path(near).name if near else None


def _texts(dataset: Any) -> Iterator[Problem]:
    """Files of texts that are named and are not there."""
    target = dataset.get("_target_") if isinstance(dataset, Mapping) else None
    source = str(target).rpartition(".")[2]
    if source == "text_csv":
        yield from _tables(dataset)
    elif source in {"text_lines", "text_file"}:
        for key in ("path", "val", "test", "source_text"):
            yield from _missing(f"dataset.{key}", dataset.get(key), folders=source == "text_lines")


def _tables(dataset: Node) -> Iterator[Problem]:
    path, root = dataset.get("path"), dataset.get("root")
    if path is None and root is None:
        yield Problem(
            "dataset.path",
            "must be given (a table), or dataset.root (a folder with train, val and test)",
        )
    elif path is not None and root is not None:
        yield Problem(
            "dataset.path",
            "both it and dataset.root are given; give one: a table, or a folder with train, val "
            "and test",
        )
    yield from _missing("dataset.path", path)
    if path is None and isinstance(root, str) and Path(root).expanduser().is_dir():
        folder, extra = Path(root).expanduser(), dataset.get("extra")
        named = {key: dataset.get(key, key) for key in split_names.SPLITS}
        for name, file in (extra or {}).items() if isinstance(extra, Mapping) else ():
            named[f"extra.{name}"] = file
        for key, name in named.items():
            found = isinstance(name, str) and list(folder.glob(f"{glob.escape(name)}*"))
            if isinstance(name, str) and not found and (name != key or key == "train"):
                if key == "train" == name and _train_table(folder):
                    continue
                near = _beside(folder / name)
                yield Problem(
                    f"dataset.{key}", f"{folder / name} is no table", near and Path(near).name
                )


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


def _missing(place: str, name: Any, *, folders: bool = False) -> Iterator[Problem]:
    """A file that is not there, or a folder where only a file will do."""
    if not isinstance(name, str) or name == "???":
        return
    path = Path(name).expanduser()
    if not path.exists():
        yield Problem(place, f"{name} is no file{' or folder' * folders}", _beside(path))
    elif path.is_dir() and not folders:
        yield Problem(place, f"{name} is a folder; give a file")
