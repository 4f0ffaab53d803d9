"""Nodes of a config as YAML gives them: mappings whose values may be anything, narrowed here.

What is of another type than it should be reads as empty: `check` says so, in its own place.
"""

from collections.abc import Mapping, Sequence

Node = Mapping[str, object]


def mapping(value: object) -> Node:
    """A value that is a mapping, with its keys as text; of any other an empty one."""
    if not isinstance(value, Mapping):
        return {}
    return (
        value
        if all(isinstance(key, str) for key in value)
        else {str(k): v for k, v in value.items()}
    )


def node_at(config: Node, key: str) -> Node:
    """The mapping under a key; an empty one where there is none."""
    return mapping(config.get(key))


def sequence(value: object) -> Sequence[object]:
    """A value that is a list or a tuple; of any other an empty one."""
    return value if isinstance(value, list | tuple) else ()


def texts(value: object) -> tuple[str, ...]:
    """The items of a list as text."""
    return tuple(map(str, sequence(value)))


def target_of(node: object) -> str:
    """Dotted name of the call that a node is; empty where it is none."""
    target = mapping(node).get("_target_")
    return target if isinstance(target, str) else ""


def leaf(node: object) -> str:
    """Name of the function of that call, without its module's."""
    return target_of(node).rpartition(".")[2]
