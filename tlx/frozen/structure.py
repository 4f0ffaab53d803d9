"""A module's structure as a text that is the same in every process, for keys of the store."""

import enum
import functools
import hashlib
import inspect
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tlx.data.encoder import source_of

OF_ANY_MODULE = frozenset(nn.Module().__dict__)


def structure(module: nn.Module) -> str:
    """Class and hyper-parameters of a module without its children."""
    kind = type(module)
    attributes = {k: _plain(v) for k, v in vars(module).items() if k not in OF_ANY_MODULE}
    pairs = sorted((key, text) for key, text in attributes.items() if text is not None)
    listed = ", ".join(f"{key}={text}" for key, text in pairs)
    # the code of a class that is in no known library may be edited, and compute something else
    return f"{kind.__module__}.{kind.__qualname__}({module.extra_repr()}) {listed}{source_of(kind)}"


def computed_with(
    network: nn.Module, *, at: str, modules: Iterable[str], tensors: Iterable[str]
) -> str:
    """SHA-256 of all that a part of a network computes with: where it ends, structure, tensors.

    Args:
        network: the whole of it.
        at: names the end of the part.
        modules: names of those that the part runs, or runs inside of.
        tensors: names of its parameters and buffers.
    """
    digest = hashlib.sha256(at.encode())
    for name in modules:
        text = structure(network.get_submodule(name))
        digest.update(f"\n{name}|{text}".encode())
    for name in tensors:
        owner, _, own = name.rpartition(".")
        tensor = getattr(network.get_submodule(owner), own).detach().cpu().contiguous()
        digest.update(f"\n{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: object) -> str | None:
    """A text for what can be a hyper-parameter, the same in every process; None for the rest."""
    if value is None or isinstance(value, str | int | float | complex | enum.Enum | torch.dtype):
        return repr(value)
    if isinstance(value, Tensor):  # that is no buffer
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, functools.partial):
        return f"partial({_plain([value.func, list(value.args), value.keywords])})"
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Mapping):
        return str({str(k): _plain(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return str([_plain(part) for part in value])
    as_plain = getattr(value, "to_dict", None)  # a config of transformers
    if not callable(as_plain):
        return None
    return _plain({k: v for k, v in as_plain().items() if not k.startswith("_")})  # no local paths
