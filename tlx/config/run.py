"""The typed form of one run's config: what everything that works on a run takes.

Mappings stay where configs are composed and checked, and on disk; beyond, attributes have types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, final

from tlx.base.nodes import Node
from tlx.config import schema
from tlx.config.identity import normalise, normalised_id


@final
@dataclass(frozen=True)
class Option:
    """A call that a config asks for.

    Attributes:
        target: the function's dotted name.
        arguments: its keyword arguments, of whatever types it wants them.
    """

    target: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, node: Node) -> Self:
        """The option that a node of a config describes."""
        return cls(str(node["_target_"]), {k: v for k, v in node.items() if k != "_target_"})

    @property
    def function(self) -> str:
        """The function's name, without its module's."""
        return self.target.rpartition(".")[2]

    @property
    def module(self) -> str:
        """The module that the function is defined in."""
        return self.target.rpartition(".")[0]

    def get(self, name: str, default: object = None) -> Any:
        """An argument, or the default where the function has none of this name."""
        return self.arguments.get(name, default)


@final
@dataclass(frozen=True, kw_only=True)
class Run(schema.Config):
    """The config of one run, normalised; fields of the schema, and one for each group.

    Attributes:
        plain: the config as it was written, for what freezes, hashes or shows it.
    """

    task: Option
    backbone: Option
    dataset: Option
    freeze_strategy: Option
    optimizer: Option
    schedule: Option
    augmentation: Mapping[str, Option]
    regularization: Mapping[str, Option]
    logger: Mapping[str, Option]
    frozen: schema.Frozen
    trainer: schema.Trainer
    executor: schema.ExecutorConfig
    plain: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's name: see `identity.run_id`."""
        return normalised_id(self.plain)

    def changed(self, **nodes: object) -> "Run":
        """The run with other values of top-level keys."""
        return typed({**self.plain, **nodes})


def typed(config: Node) -> Run:
    """A config that was checked, or frozen in a run's folder, as a typed run.

    Raises:
        KeyError: a group is missing.
        TypeError: a node is no mapping.
    """
    plain: Mapping[str, Any] = normalise(config)
    values = {field.name: plain[field.name] for field in fields(schema.Config)}
    for group in schema.TARGET_GROUPS:
        values[group] = Option.of(plain[group])
    for group in schema.LIST_GROUPS:
        values[group] = {name: Option.of(node) for name, node in plain[group].items()}
    for key in ("frozen", "trainer", "executor"):
        node = getattr(schema, schema.NODES[key])
        # a frozen config may hold keys of other versions of tlx
        values[key] = node(**{f.name: plain[key][f.name] for f in fields(node)})
    return Run(**values, plain=plain)
