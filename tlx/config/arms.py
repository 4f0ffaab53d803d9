"""From a study's design to its arms: which overrides each one adds, and what it is called."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tlx.base.nodes import Node, mapping, node_at, sequence, texts
from tlx.config import schema
from tlx.config.keys import GROUPS, value_at
from tlx.config.overrides import parsed, quoted

BASES = {"one_at_a_time": "base", "leave_one_out": "all", "add_one_in": "none"}
"""Design to the name of the arm that its others differ from."""


@dataclass(frozen=True)
class Arm:
    """What is compared: overrides upon the study's own config.

    Attributes:
        name: short, unique in its study.
        overrides: what it adds to the study's line.
        factors: factor's key to this arm's level; empty for explicit arms.
    """

    name: str
    overrides: tuple[str, ...]
    factors: Node = field(default_factory=dict)


@dataclass(frozen=True)
class Level:
    """One value of a factor, or the label of several overrides."""

    value: object
    overrides: tuple[str, ...]


def design_of(study: Node) -> str:
    """The study's design: as stated, else `grid` where only factors are given, else `arms`."""
    stated = study.get("design")
    return str(stated) if stated else "grid" if study.get("factors") else "arms"


def levels(key: str, spec: object) -> list[Level]:
    """The levels of a factor, whose spec is a list of values or a mapping of labels to overrides.

    Raises:
        TypeError: it is neither.
        ValueError: a value cannot be written as an override.
    """
    if isinstance(spec, Mapping):
        return [Level(label, texts(lines)) for label, lines in spec.items()]
    if not isinstance(spec, list | tuple):
        raise TypeError(f"{key}: {spec!r} is no list and no mapping")
    return [Level(value, (f"{key}={quoted(value)}",)) for value in spec]


def expand(
    study: Node,
    config: Node,
    given: Sequence[str] = (),
    *,
    choices: Node | None = None,
) -> list[Arm]:
    """The arms of a study whose node has been checked; none for a search.

    Args:
        study: the config's node.
        config: the composed config without any arm's overrides.
        given: the overrides that it was composed of, which tell the options of its groups.
        choices: group to option, where that is known better than from `given`.

    Raises:
        TypeError: a factor has neither a list nor a mapping.
        ValueError: a factor's value cannot be written as an override.
    """
    design, factors = design_of(study), node_at(study, "factors")
    if design == "arms":
        return [Arm(name, texts(lines)) for name, lines in node_at(study, "arms").items()]
    if design == "search":
        return []
    if design in {"leave_one_out", "add_one_in"}:
        return _by_element(design, factors, config)
    found = {key: levels(key, spec) for key, spec in factors.items()}
    if design == "one_at_a_time":
        known = choices if choices is not None else _chosen(given)
        return _one_at_a_time(found, config, known)
    rows = zip(*found.values(), strict=True) if design == "paired" else None
    return named(list(rows or itertools.product(*found.values())), list(found))


def named(rows: Sequence[Sequence[Level]], keys: Sequence[str]) -> list[Arm]:
    """An arm for each row of levels, one of each factor; names show a group's value alone."""
    style = NameStyle([dict(zip(keys, (lv.value for lv in row), strict=True)) for row in rows])
    return [
        Arm(style.name(levels_of), tuple(line for lv in row for line in lv.overrides), levels_of)
        for row, levels_of in zip(rows, style.rows, strict=True)
    ]


class NameStyle:
    """How levels are shown in names: as short as they stay clear within one study.

    Args:
        rows: of every arm, factor's key to level.
        reserved: names that no level may have.
    """

    def __init__(self, rows: Sequence[Node], reserved: Iterable[str] = ()) -> None:
        self.rows = rows
        keys = list(dict.fromkeys(key for row in rows for key in row))
        last = [key.rpartition(".")[2] for key in keys]
        self._short = {
            key: name if last.count(name) == 1 else key
            for key, name in zip(keys, last, strict=True)
        }
        words: dict[str, set[str]] = {}
        for key in keys:
            if key in GROUPS:
                for row in rows:
                    words.setdefault(shown(row.get(key)), set()).add(key)
        clash = set().union(*(k for w, k in words.items() if len(k) > 1 or w in set(reserved)))
        self._alone = {key for key in keys if key in GROUPS} - clash

    def level(self, key: str, value: object) -> str:
        """One level: `lp_ft`, `labels_per_class=10`."""
        return shown(value) if key in self._alone else f"{self._short[key]}={shown(value)}"

    def name(self, levels_of: Node) -> str:
        """An arm's name: its levels in a row."""
        return ", ".join(self.level(key, value) for key, value in levels_of.items()) or "base"


def shown(value: object) -> str:
    """A level in a reader's words.

    >>> [shown(v) for v in (None, True, 0.002, ["ema", "l2_sp"], [])]
    ['null', 'true', '0.002', 'ema+l2_sp', 'none']
    """
    if isinstance(value, list | tuple):
        return "+".join(map(shown, value)) or "none"
    return value if isinstance(value, str) else quoted(value)


def _one_at_a_time(found: Mapping[str, list[Level]], config: Node, choices: Node) -> list[Arm]:
    """Arm `base`, then an arm for each level that the base does not have."""
    base = {key: _base_level(key, of, config, choices) for key, of in found.items()}
    others = [(key, level) for key, of in found.items() for level in of if level.value != base[key]]
    rows = [base, *({**base, key: level.value} for key, level in others)]
    style = NameStyle(rows, reserved=["base"])
    made = [Arm("base", (), base)]
    for (key, level), row in zip(others, rows[1:], strict=True):
        made.append(Arm(style.level(key, level.value), level.overrides, row))
    return made


def _base_level(key: str, of: list[Level], config: Node, choices: Node) -> object:
    """What the base has of a factor; `base` where its levels are labels that no value can tell."""
    if key in schema.LIST_GROUPS:
        now = list(node_at(config, key))
        for level in of:
            value = level.value
            items = [] if value in (None, "none") else value if isinstance(value, list) else [value]
            if items == now:
                return value
        return now
    if key in GROUPS:
        return choices.get(key, "base")
    empty = [level.value for level in of if not level.overrides]
    if empty:
        return empty[0]
    if any(level.overrides != (f"{key}={quoted(level.value)}",) for level in of):
        return "base"
    return value_at(config, key)


def _by_element(design: str, factors: Node, config: Node) -> list[Arm]:
    """The base with one element of its lists taken away, or with none of them but one."""
    lists = {key: sequence(spec) or mapping(spec) for key, spec in factors.items()}
    names = [(key, str(name)) for key, elements in lists.items() for name in elements]
    leaving = design == "leave_one_out"
    every = [name for _, name in names]
    made = []
    for one in (None, *names):
        here = {name for name in names if (name != one if leaving else name == one)}
        word = BASES[design]
        if one is not None:
            label = one[1] if every.count(one[1]) == 1 else ".".join(one)
            word = f"{'without' if leaving else 'with'} {label}"
        gone = [name for name in names if name not in here]
        lines = [*_taken_away(gone, factors, config), *_labelled(one, factors)]
        made.append(Arm(word, tuple(lines), {".".join(n): n in here for n in names}))
    return made


def _taken_away(gone: list[tuple[str, str]], factors: Node, config: Node) -> Iterator[str]:
    """Overrides without which the named elements of the base's lists are gone."""
    for key, spec in factors.items():
        names = [name for of, name in gone if of == key]
        if isinstance(spec, Mapping) or not names:
            continue
        value = value_at(config, key)
        if isinstance(value, Mapping):
            yield from (f"~{key}.{name}" for name in names)
        else:
            yield f"{key}={quoted([item for item in sequence(value) if str(item) not in names])}"


def _labelled(one: tuple[str, str] | None, factors: Node) -> tuple[str, ...]:
    return texts(mapping(factors[one[0]]).get(one[1])) if one else ()


def _chosen(given: Sequence[str]) -> dict[str, object]:
    read = [parsed(text) for text in given]
    return {one.key_or_group: one.value() for one in read if one.key_or_group in GROUPS}
