"""Dotted keys: what a composed config has, or could have, under a name."""

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import TypeGuard

from tlx.base.nodes import Node, mapping, target_of
from tlx.config import schema
from tlx.config.signatures import signature
from tlx.config.suggest import nearest

GROUPS = (*schema.TARGET_GROUPS, *schema.LIST_GROUPS, *schema.SCHEMA_GROUPS)
"""Every group whose option an override may choose."""


def value_at(config: Node, key: str) -> object:
    """The value of a dotted key, or None."""
    node: object = config
    for part in key.split("."):
        node = mapping(node).get(part)
    return node


def exists(key: str, config: Node) -> bool:
    """Whether a dotted key is there, is a group, or may be given to the function that is named."""
    if key in GROUPS:
        return True
    *parents, last = key.split(".")
    node = value_at(config, ".".join(parents)) if parents else config
    if not isinstance(node, Mapping):
        return False
    if last in node:
        return True
    if target := target_of(node):
        found = signature(target)
        return found is not None and last in found.parameters
    # a free mapping, such as `backbone.kwargs`
    return len(parents) > 1


def nearest_key(key: str, config: Node) -> str | None:
    """The key of the config that is most like one that it does not have."""
    keys = [*_keys(config), *GROUPS]
    last = key.rpartition(".")[2]
    same_end = (name for name in keys if name.rpartition(".")[2] == last)
    return nearest(key, keys, cutoff=0.6) or next(same_end, None)


def _keys(node: Node, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if key in {"study", "_target_"}:
            continue
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is an int or a float, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)
