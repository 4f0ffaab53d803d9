"""Search spaces: from Hydra's sweep syntax or typed YAML to Optuna's distributions.

A key's entry is one of

- text in Hydra's syntax: `tag(log, interval(1e-5, 1e-1))`, `int(interval(1, 8))`,
  `range(1, 10)` (without its end, as in Hydra), `choice(a,b,c)`, `a,b,c`;
- `{type: float, low: 1e-5, high: 1e-1, log: true}`, `{type: int, low: 1, high: 8, step: 1}`,
  ends included, or `{type: categorical, choices: [...]}`;
- a list of choices.

A choice may be any value of an override (a list, an option of a group); it is kept as its text.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tlx.base.nodes import Node
from tlx.config.problems import CheckError, Problem
from tlx.sweeps.search_entries import Choices, Entry, read

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def parse(space: Node) -> "dict[str, BaseDistribution]":
    """Key to Optuna's distribution.

    Args:
        space: key to entry, see the module.

    Raises:
        CheckError: entries are wrong; it lists them all.
    """
    return distributions(entries(space))


def distributions(found: "Mapping[str, Entry]") -> "dict[str, BaseDistribution]":
    """Optuna's distributions of entries that are read already."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    made: dict[str, BaseDistribution] = {}
    for key, entry in found.items():
        if isinstance(entry, Choices):
            made[key] = CategoricalDistribution(entry.texts)
        elif entry.whole:
            low, high, step = int(entry.low), int(entry.high), int(entry.step or 1)
            made[key] = IntDistribution(low, high, log=entry.log, step=step)
        else:
            made[key] = FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
    return made


def entries(space: Node) -> dict[str, Entry]:
    """Key to what it may be.

    Raises:
        CheckError: entries are wrong; it lists them all.
    """
    found, wrong = read(space)
    if wrong:
        raise CheckError(wrong)
    return found


def problems(space: Node, *, place: str = "search.space") -> list[Problem]:
    """What is wrong with a space; nothing heavy is imported."""
    return [Problem(f"{place}.{p.place}", p.message, p.suggestion) for p in read(space)[1]]


def examples(space: Node) -> list[list[str]]:
    """Lines of overrides that hold every choice and both ends of every range at least once.

    A study checks them before it starts, so that a wrong end is told at once.

    >>> examples({"optimizer.lr": "interval(0.1, 0.2)", "schedule": "constant,cosine"})
    [['optimizer.lr=0.1', 'schedule=constant'], ['optimizer.lr=0.2', 'schedule=cosine']]
    """
    columns = {
        key: entry.values() if isinstance(entry, Choices) else [entry.low, entry.high]
        for key, entry in entries(space).items()
    }
    rows = max((len(values) for values in columns.values()), default=0)
    return [
        [override(key, values[i % len(values)]) for key, values in columns.items()]
        for i in range(rows)
    ]


def override(key: str, value: object) -> str:
    """A drawn value as an override: numbers as Python writes them, choices as they were given."""
    return f"{key}={value}" if isinstance(value, str) else f"{key}={value!r}"
