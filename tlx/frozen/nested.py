"""Tensors inside tuples, lists and mappings: what networks take and give."""

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping

import torch
from torch import Tensor


def tensors(value: object) -> Iterator[Tensor]:
    """Tensors inside tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def mapped(function: Callable[[Tensor], Tensor], value: object) -> object:
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
        # a NamedTuple's class takes its parts one by one
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
    return value


def count(inputs: object) -> int:
    """Number of items: the first dimension of the first tensor."""
    return next((len(tensor) for tensor in tensors(inputs) if tensor.ndim), 0)


def items(inputs: object, part: slice, count: int) -> object:
    """Some items of a batch; a tensor that is not of `count` items is for all of them."""
    return mapped(lambda t: t[part] if t.ndim and len(t) == count else t, inputs)


def repeated(value: object, times: int, *, count: int) -> object:
    """Tensors of `count` items, or of some rows for each, repeated item by item; others as copies.

    >>> repeated(torch.tensor([1, 2]), 2, count=1)
    tensor([1, 2, 1, 2])
    """

    def longer(tensor: Tensor) -> Tensor:
        whole = bool(tensor.ndim) and len(tensor) % count == 0
        return tensor.repeat(times, *[1] * (tensor.ndim - 1)) if whole else tensor.clone()

    return mapped(longer, value)


def differ(inputs: object, count: int) -> bool:
    """Whether the batch of `count` items holds two that are not equal."""
    each = [tensor for tensor in tensors(inputs) if tensor.ndim and len(tensor) == count]
    return any(not torch.equal(t, t[:1].expand_as(t)) for t in each)


def like(one: Tensor, other: Tensor) -> bool:
    """Whether the tensors have the same shape and type."""
    return one.shape == other.shape and one.dtype == other.dtype
