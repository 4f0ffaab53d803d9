"""Tensors inside tuples, lists and mappings: what networks take and give."""

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor


def tensors(value: Any) -> Iterator[Tensor]:
    """Tensors inside tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same nesting with other tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, MutableMapping):
        new = copy.copy(value)  # of its own class, as transformers' outputs are
        for key, part in value.items():
            new[key] = mapped(function, part)
        return new
    if isinstance(value, list | tuple):
        parts = [mapped(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def count(inputs: Any) -> int:
    """Number of items: the first dimension of the first tensor."""
    return next((len(tensor) for tensor in tensors(inputs) if tensor.ndim), 0)


def items(inputs: Any, part: slice, count: int) -> Any:
    """Some items of a batch; a tensor that is not of `count` items is for all of them."""
    return mapped(lambda t: t[part] if t.ndim and len(t) == count else t, inputs)


def repeated(value: Any, times: int, *, count: int) -> Any:
    """Tensors of `count` items, or of some rows for each, repeated item by item; others as copies.

    >>> repeated(torch.tensor([1, 2]), 2, count=1)
    tensor([1, 2, 1, 2])
    """

    def longer(tensor: Tensor) -> Tensor:
        whole = bool(tensor.ndim) and len(tensor) % count == 0
        return tensor.repeat(times, *[1] * (tensor.ndim - 1)) if whole else tensor.clone()

    return mapped(longer, value)


def differ(inputs: Any, count: int) -> bool:
    """Whether the batch of `count` items holds two that are not equal."""
    each = [tensor for tensor in tensors(inputs) if tensor.ndim and len(tensor) == count]
    return any(not torch.equal(t, t[:1].expand_as(t)) for t in each)


def like(one: Tensor, other: Tensor) -> bool:
    """Whether the tensors have the same shape and type."""
    return one.shape == other.shape and one.dtype == other.dtype
