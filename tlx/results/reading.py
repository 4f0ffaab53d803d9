"""Many records, fast: built without the check of every type that `record.read` makes."""

import contextlib
import dataclasses
import functools
import gc
import json
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tlx.results import record
from tlx.results.record import (
    Parameters,
    Record,
    RecordError,
    Selected,
    SplitRecord,
    StageRecord,
    Value,
)

T = TypeVar("T")
_KEYS: dict[type, frozenset[str]] = {
    kind: frozenset(item.name for item in dataclasses.fields(kind))
    for kind in (Record, SplitRecord, StageRecord, Parameters, Selected, Value)
}
_NEEDED = {
    kind: frozenset(item.name for item in dataclasses.fields(kind) if item.metadata != record.LATER)
    for kind in _KEYS
}
_NUMBERS = (float, int)
_LISTS = ("stages", "lineage", "fused_with")


def _plain(hint: object) -> tuple[type, ...]:
    """The types in JSON of a field that holds one value, or a mapping; empty for any other."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    known = {float: _NUMBERS, int: (int,), str: (str,), bool: (bool,), type(None): (type(None),)}
    if all(part in known for part in parts):
        return tuple(kind for part in parts for kind in known[part])
    return (dict,) if typing.get_origin(hint) is Mapping else ()


_PLAIN: dict[type, dict[str, tuple[type, ...]]] = {
    kind: {
        name: kinds for name, hint in typing.get_type_hints(kind).items() if (kinds := _plain(hint))
    }
    for kind in _KEYS
}


def read_many(folders: Iterable[Path | str]) -> Iterator[tuple[str, Record | RecordError | None]]:
    """Each folder's name with its record, with why it cannot be read, or with None for no record.

    A record that does not look right is read again by `record.from_json`, whose error names the
    place; so nothing that is refused there for its keys, its version, its status or a figure's
    type passes here.

    Args:
        folders: of runs.
    """
    for folder in folders:
        name = os.path.basename(folder)
        try:
            yield name, one(folder)
        except RecordError as error:
            yield name, error


def one(folder: Path | str) -> Record | None:
    """The record of a run, or None where there is none: what every command goes by.

    Raises:
        RecordError: it cannot be read; says what to do.
    """
    path = os.path.join(folder, record.FILE)
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise record.unreadable(path, error) from error


def status_of(folder: Path | str) -> str | None:
    """The status of a run; `unreadable` where its record says nothing, None where there is none.

    A record that has not changed is read once.
    """
    path = os.path.join(folder, record.FILE)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return record.UNREADABLE
    return _status(os.fspath(folder), (found.st_ino, found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=50_000)
def _status(folder: str, version: tuple[int, ...]) -> str | None:
    try:
        found = one(folder)
    except RecordError:
        return record.UNREADABLE
    return None if found is None else found.status


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """Puts off the collection of cycles, which visits all records again as their number grows."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(path: str) -> Record:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        # the hook is called once an object and takes as long as all the rest
        hook = _revive if '"$float"' in text else None
        return _quick(json.loads(text, object_hook=hook))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return record.from_json(text, source=path)


def _revive(item: dict[str, Any]) -> Any:
    return float(item["$float"]) if item.keys() == {"$float"} else item


def _quick(data: dict[str, Any]) -> Record:
    if data.pop("version") != record.VERSION or data["status"] not in record.STATUSES:
        raise ValueError
    names = (*data["lineage"], *data["fused_with"], *(data.get("views") or ()))
    if not all(type(data[key]) is list for key in _LISTS) or not set(map(type, names)) <= {str}:
        raise TypeError
    parameters, selected = data["parameters"], data["selected"]
    data["parameters"] = None if parameters is None else _made(Parameters, parameters)
    data["selected"] = None if selected is None else _made(Selected, selected)
    data["stages"] = tuple(_made(StageRecord, stage) for stage in data["stages"])
    data["splits"] = {name: _split(split) for name, split in data["splits"].items()}
    data["lineage"], data["fused_with"] = tuple(data["lineage"]), tuple(data["fused_with"])
    if data.get("views") is not None:
        data["views"] = tuple(data["views"])
    return _made(Record, data)


def _split(data: dict[str, Any]) -> SplitRecord:
    data["metrics"] = {name: _value(figure) for name, figure in data["metrics"].items()}
    data["per_class"] = tuple(data["per_class"])
    if data["confusion"] is not None:
        data["confusion"] = tuple(map(tuple, data["confusion"]))
    return _made(SplitRecord, data)


def _value(data: Mapping[str, Any]) -> Value:
    value, low, high, n = data["value"], data["low"], data["high"], data["n"]
    numbers = type(value) in _NUMBERS and type(low) in _NUMBERS and type(high) in _NUMBERS
    if len(data) != 4 or not numbers or type(n) is not int:
        raise TypeError
    return Value(value=float(value), low=float(low), high=float(high), n=n)


def _made(kind: type[T], data: dict[str, Any]) -> T:
    keys = data.keys()
    if keys != _KEYS[kind] and not _NEEDED[kind] <= keys <= _KEYS[kind]:
        raise KeyError
    for name, kinds in _PLAIN[kind].items():
        if name in data and type(data[name]) not in kinds:
            raise TypeError
    return kind(**data)
