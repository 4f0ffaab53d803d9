"""Overrides: read by Hydra's grammar, prepared for tlx's groups, and written from values."""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from hydra._internal.grammar.utils import escape_special_characters
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from tlx.config import schema
from tlx.config.places import Library
from tlx.config.problems import Problem
from tlx.config.suggest import listed, nearest

MOST_TEXT, MOST_DEPTH = 200_000, 50
"""Of one override: its grammar is read by a program that calls itself."""

WORDS = {"null", "true", "false", "inf", "nan"}
"""What Hydra's grammar reads as something else than text."""


@lru_cache(maxsize=16384)
def parsed(text: str) -> Override:
    """An override as Hydra's grammar reads it; the result is shared, so it may not be changed.

    Raises:
        HydraException: it cannot be read.
    """
    if len(text) > MOST_TEXT or _depth(text) > MOST_DEPTH:
        raise HydraException(
            f"an override has at most {MOST_TEXT:,} characters, nested at most {MOST_DEPTH} deep"
        )
    return OverridesParser.create().parse_override(text)


def _depth(text: str) -> int:
    """How many brackets are open at once, at most."""
    depth = most = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        most = max(most, depth)
    return most


def key_of(text: str) -> str:
    """An override's key, without `+`, `~` and package; of what cannot be read, what stands there.

    >>> key_of("++optimizer.lr=0.1")
    'optimizer.lr'
    """
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def text_given(overrides: Iterable[str], key: str) -> str | None:
    """The text that the last override of a key gives it; None where none does.

    >>> text_given(["seed=1", "seed=2"], "seed")
    '2'
    """
    values = [text.partition("=")[2] for text in overrides if key_of(text) == key]
    return values[-1] if values else None


def quoted(value: object) -> str:
    """A value as the part after `=` of an override that gives exactly this value.

    >>> [quoted(v) for v in (None, 1e-05, "lp_ft", "a, b", ["x", True], {"p": "1"})]
    ['null', '1e-05', 'lp_ft', "'a, b'", '[x,true]', "{p:'1'}"]

    Raises:
        ValueError: Hydra's grammar has no text for it.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted_text(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_key(k)}:{quoted(v)}' for k, v in value.items())}}}"
    raise ValueError(
        f"{value!r} is a {type(value).__name__}; an override takes null, a bool, a number, "
        "text, a list or a mapping"
    )


def _quoted_text(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w./-]*", text, re.ASCII) and text.lower() not in WORDS:
        return text
    # OmegaConf would read ${…} as the value of another key
    literal = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def _key(key: object) -> str:
    text = escape_special_characters(key) if isinstance(key, str) else quoted(key)
    try:
        value = parsed(f"x={{{text}:1}}").value()
    except HydraException:
        value = None
    if not isinstance(value, dict) or not _same(next(iter(value)), key):
        raise ValueError(f"{key!r} cannot be written as a mapping's key; take letters and digits")
    return text


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def prepared(
    text: str, library: Library, *, sweep: bool = False
) -> tuple[str | None, Problem | None]:
    """An override as Hydra should read it, or what is wrong with it.

    Args:
        text: as given.
        library: the groups and their options.
        sweep: whether several values are welcome, which are left as they are.
    """
    try:
        override = parsed(text)
    except HydraException as error:
        return None, _unreadable(text, error, library)
    key = override.key_or_group
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return None, Problem(key, "Hydra's own settings are not open; use tlx's keys")
    if override.is_sweep_override():
        if sweep:
            return text, None
        return None, Problem(
            key,
            f"{text!r} holds several values; start one run a value with -m, make them the arms "
            f"of a study, or write a list as {key}=[…]",
        )
    if key in library.groups():
        return _choice(override, text, library)
    if override.type is OverrideType.CHANGE and override.package is None:
        return f"++{text}", None
    return text, None


def _unreadable(text: str, error: Exception, library: Library) -> Problem:
    key, equals, value = text.partition("=")
    if not equals:
        near = nearest(key, library.groups() | {*schema.NODES, "seed", "name"})
        return Problem(text, "is no override; give key=value", near and f"{near}=…")
    suggestion = f"'{key}=\"{value}\"'"
    if re.fullmatch(r"\[[^\[\]'\"]*=[^\[\]'\"]*\]", value):
        items = ",".join(f'"{item.strip()}"' for item in value[1:-1].split(","))
        suggestion = f"'{key}=[{items}]'"
    return Problem(key, f"{value!r} cannot be read ({first_line(error)})", suggestion)


def _choice(override: Override, text: str, library: Library) -> tuple[str | None, Problem | None]:
    group, value = override.key_or_group, override.value()
    options = library.options(group)
    if value is None and group in schema.LIST_GROUPS:
        return f"{group}=[]", None
    names = value if isinstance(value, list) else [value]
    if isinstance(value, list) and group not in schema.LIST_GROUPS:
        return None, Problem(group, f"takes one option, not {value}")
    if isinstance(value, dict):
        return None, Problem(group, "takes the name of an option; set keys one by one")
    for name in names:
        if name is None and override.type is OverrideType.DEL:
            continue
        if not (isinstance(name, str) and name.removesuffix(".yaml") in options):
            shown = "null" if name is None else repr(name)
            message = f"{shown} is no option; there are {listed(options, most=40)}"
            return None, Problem(group, message, nearest(str(name), options))
    if (
        group in schema.LIST_GROUPS
        and not isinstance(value, list)
        and override.type is OverrideType.CHANGE
    ):
        return f"{group}=[{value}]", None
    return text, None


def one_budget(overrides: list[str]) -> list[str]:
    """Overrides in which a budget in steps takes the place of one in epochs, or the other way.

    >>> one_budget(["++trainer.steps=60"])
    ['++trainer.steps=60', '++trainer.epochs=null']
    """
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    names = {"trainer.steps", "trainer.epochs"}
    if len(names & given) != 1:
        return overrides
    (other,) = names - given
    return [*overrides, f"++{other}=null"]


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]
