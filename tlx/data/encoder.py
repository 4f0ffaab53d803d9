"""What makes inputs of items, and all that its outputs depend on, as plain data."""

import enum
import functools
import hashlib
import inspect
import json
import marshal
import struct
import sys
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

LONGEST = 200
"""Longer texts are known by their hash."""
KNOWN_BY_VERSION = frozenset(
    {"torch", "torchvision", "timm", "transformers", "tokenizers", "PIL", "numpy"}
)
"""Packages whose sources need no look: keys of the store hold their versions."""
HEAP_TYPE = 1 << 9
"""CPython's flag of classes that are not built in."""
POINTER = struct.calcsize("P")


class Undescribed(ValueError):
    """A value that may hold more than can be seen, and why: a sentence for the log."""


def described(value: object) -> object:
    """A value as plain JSON data that differs wherever values may act differently.

    Classes and functions are known by their names and the file that they are in, objects by their
    attributes. The same in every process.

    >>> described({"size": (8, 8), "rest": None})
    {'size': [8, 8], 'rest': None}

    Raises:
        Undescribed: something in it hides what it holds, such as a generator of random numbers.
    """
    return _described(value, ())


def _described(value: object, around: tuple[int, ...]) -> object:
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) is str:
        return value if len(value) <= LONGEST else f"sha256:{_sha(_bytes(value))}"
    if isinstance(value, bytes):
        return ["bytes", _sha(value)]
    if isinstance(value, enum.Enum):
        return [_name(type(value)), value.name]
    if isinstance(value, torch.dtype | torch.device | PurePath | complex):
        return [type(value).__name__, str(value)]
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return ["tensor", str(value.dtype), list(value.shape), _sha(flat.numpy().data)]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return ["array", str(value.dtype), list(value.shape), _sha(value.tobytes())]
    if id(value) in around:
        raise Undescribed(f"{_name(type(value))} holds itself")
    return _compound(value, (*around, id(value)))


def _compound(value: Any, around: tuple[int, ...]) -> object:
    """Of what holds other values."""
    if type(value) in (list, tuple):
        return [_described(part, around) for part in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _described(part, around) for key, part in value.items()}
    if isinstance(value, list | tuple | Mapping | set | frozenset):
        return _collection(value, around)
    if isinstance(value, functools.partial):
        parts = [value.func, list(value.args), dict(value.keywords)]
        return ["partial", *(_described(part, around) for part in parts)]
    if isinstance(value, types.MethodType):
        return [_described(value.__self__, around), value.__name__]
    if isinstance(value, types.FunctionType):
        return _function(value, around)
    if isinstance(value, types.BuiltinFunctionType):  # a function of a module, or a bound method
        owner = value.__self__
        bound = None if isinstance(owner, types.ModuleType) else _described(owner, around)
        return [value.__qualname__, str(value.__module__), bound]
    if isinstance(value, type):
        return [_name(value), source_of(value)]
    return [_name(type(value)), source_of(type(value)), _described(_state(value), around)]


def _collection(value: Any, around: tuple[int, ...]) -> object:
    """Of sets, mappings of other keys than names, and subclasses of all of them."""
    pairs = isinstance(value, Mapping)
    parts = [_described(part, around) for part in (value.items() if pairs else value)]
    if isinstance(value, set | frozenset):  # in no order that holds in another process
        parts.sort(key=lambda part: json.dumps(part, sort_keys=True))
    return [_name(type(value)), parts, _described(getattr(value, "__dict__", {}), around)]


def _function(function: types.FunctionType, around: tuple[int, ...]) -> object:
    """Name, source, code, defaults, and what it closes over: lambdas share all but their code."""
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    given = [function.__defaults__, function.__kwdefaults__, function.__dict__, held]
    # version 2 has no references, which would depend on who else holds the constants
    code = _sha(marshal.dumps(function.__code__, 2))
    return [_name(function), source_of(function), code, _described(given, around)]


def _state(value: object) -> dict[str, object]:
    """An object's attributes.

    Raises:
        Undescribed: a part of it is not Python's to see.
    """
    state = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__[:-1]:
        slots = vars(kind).get("__slots__", ())
        names = [slots] if isinstance(slots, str) else list(slots)
        known = [n for n in ("__dict__", "__weakref__") if n in vars(kind)]
        own = [name for name in names if name not in ("__dict__", "__weakref__")]
        most = kind.__base__.__basicsize__ + POINTER * (len(own) + len(known))  # type: ignore[union-attr]
        if not kind.__flags__ & HEAP_TYPE or kind.__basicsize__ > most:
            raise Undescribed(f"{_name(type(value))} may hold more than its attributes")
        state |= {name: getattr(value, name) for name in own if hasattr(value, name)}
    return state


def _name(value: type | types.FunctionType) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def source_of(value: type | types.FunctionType) -> str:
    """The hash of the file that a class or function is in; empty where versions tell enough."""
    top = str(value.__module__).partition(".")[0]
    if top in KNOWN_BY_VERSION or top in sys.stdlib_module_names - {"__main__"}:
        return ""
    try:
        path = inspect.getsourcefile(value)
    except TypeError:  # of a module without a file
        path = None
    version = getattr(sys.modules.get(top), "__version__", "")
    return f"{version} {hash_of(path) if path else ''}"


@functools.cache
def hash_of(path: str) -> str:
    """A hash of a source file; empty where it is not there."""
    try:
        with open(path, "rb") as file:
            return _sha(file.read())[:16]
    except OSError:
        return ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sha(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
