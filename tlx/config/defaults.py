"""Defaults that are derived: `auto` becomes a value, from the config alone.

A rule may look at the task, the kind of network or the strategy, and never at the machine, so that
a config means the same everywhere. The value is hashed and written out as if a person had given it,
and one that was given keeps its id.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from tlx.base.nodes import Node, node_at
from tlx.config.keys import value_at
from tlx.config.problems import Problem
from tlx.config.signatures import constant

AUTO = "auto"


@final
@dataclass(frozen=True)
class Derived:
    """A value, and where it comes from, in a few words."""

    value: object
    source: str


@final
@dataclass(frozen=True)
class Rule:
    """How the value of one key is derived.

    Attributes:
        place: of the key, `optimizer.lr`.
        derive: from a config whose other defaults are filled in; None where nothing is known.
        before: the default that the key had before it was derived: ids leave it out for ever.
    """

    place: str
    derive: Callable[[Node], Derived | None]
    before: object = AUTO


def _norm_stats(config: Node) -> Derived:
    """What the task's module states as `NORM_STATS`: small batches of large items want `freeze`."""
    module, _, name = str(value_at(config, "task._target_")).rpartition(".")
    stated = constant(module, "NORM_STATS")
    if isinstance(stated, str):
        return Derived(stated, f"NORM_STATS of task {name}")
    return Derived("follow", f"task {name} states no NORM_STATS")


RULES: tuple[Rule, ...] = (Rule("frozen.norm_stats", _norm_stats, before="follow"),)
"""Every key that may be `auto` and is derived here."""


@final
@dataclass(frozen=True)
class Resolved:
    """A config without `auto`, and of each value that was derived where it comes from."""

    config: dict[str, object]
    sources: Mapping[str, str]


def resolved(config: Node, rules: Sequence[Rule] | None = None) -> Resolved:
    """The config with all that can be derived; what cannot stays `auto`, for `check` to find."""
    done, sources = dict(config), {}
    for rule in RULES if rules is None else rules:
        if value_at(config, rule.place) != AUTO:
            continue
        derived = rule.derive(config)
        if derived is not None:
            group, _, key = rule.place.partition(".")
            done[group] = {**node_at(done, group), key: derived.value}
            sources[rule.place] = derived.source
    return Resolved(done, sources)


def check(config: Node) -> Iterator[Problem]:
    """Keys that are `auto`, where nothing is known to derive them from."""
    for rule in RULES:
        if value_at(config, rule.place) == AUTO and rule.derive(config) is None:
            yield Problem(rule.place, "is auto, and nothing here says what that is; give a value")


def first_default(place: str, default: object) -> object:
    """The default that ids leave out of a key, whose default today is given."""
    return next((rule.before for rule in RULES if rule.place == place), default)
