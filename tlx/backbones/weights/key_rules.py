"""What a person says of a weights file's names: which are called otherwise, left out, or heads."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

State = dict[str, Tensor]
RENAME, HEAD_NAMES = "backbone.rename", "backbone.head_names"


@dataclass(frozen=True)
class KeyRules:
    """Rules for the names in a weights file.

    Attributes:
        rename: regular expressions, in this order, each with what takes the place of every part of
            a name that it matches; None: names that it matches anywhere are left out.
        heads: names of the file's modules that are heads, with what lies below them.
        width: of the network's features, by which heads are known; None: it is not known.
    """

    rename: Mapping[str, str | None] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    width: int | None = None

    def head_of(self, name: str) -> str | None:
        """The head, of those that are named, that a module or parameter is or belongs to."""
        return next((head for head in self.heads if f".{head}." in f".{name}."), None)


NO_RULES = KeyRules()


@dataclass(frozen=True)
class Renamed:
    """A file's weights under other names.

    Attributes:
        state: under the new names.
        pairs: old name -> new name, of those that changed.
        dropped: old name -> the rule that left it out.
    """

    state: State
    pairs: Mapping[str, str]
    dropped: Mapping[str, str]


def rules_of(
    rename: Mapping[str, str | None] | None, head_names: Iterable[str] | None, *, width: int | None
) -> KeyRules:
    """The rules as a config states them.

    Raises:
        ValueError: what should be a regular expression, or its replacement, is none.
    """
    for pattern, text in (rename or {}).items():
        try:
            re.compile(pattern).sub(text or "", "")
        except (re.error, IndexError) as error:
            raise ValueError(
                f"{RENAME}: {pattern!r} with {text!r} is no regular expression with what takes the "
                f"place of its matches ({error})"
            ) from None
    return KeyRules(dict(rename or {}), tuple(head_names or ()), width)


def renamed(state: State, rename: Mapping[str, str | None]) -> Renamed:
    r"""The weights under the names that some rules give them, one rule after the other.

    >>> import torch
    >>> state = {"module.fc.weight": torch.ones(1), "queue": torch.ones(1)}
    >>> done = renamed(state, {r"^module\.": "", "queue": None})
    >>> list(done.state), dict(done.pairs), dict(done.dropped)
    (['fc.weight'], {'module.fc.weight': 'fc.weight'}, {'queue': "backbone.rename 'queue'"})

    Raises:
        ValueError: a rule matches no name, or two names become one.
    """
    names = {name: name for name in state}  # as in the file -> as of now
    dropped: dict[str, str] = {}
    for pattern, text in rename.items():
        rule = re.compile(pattern)
        matched = [old for old, name in names.items() if rule.search(name)]
        if not matched:
            raise ValueError(f"{RENAME}: {pattern!r} matches no name{_like(pattern, names)}")
        for old in matched:
            if text is None:
                del names[old]
                dropped[old] = f"{RENAME} {pattern!r}"
            else:
                names[old] = rule.sub(text, names[old])
    origin: dict[str, str] = {}
    for old, name in names.items():
        if not name:
            raise ValueError(f"{RENAME}: nothing is left of the name {old!r}; null drops it")
        if name in origin:
            raise ValueError(
                f"{RENAME}: {origin[name]!r} and {old!r} both become {name!r}; drop one of them "
                "(null for the text)"
            )
        origin[name] = old
    return Renamed(
        {name: state[old] for old, name in names.items()},
        {old: name for old, name in names.items() if name != old},
        dropped,
    )


def check_heads(rules: KeyRules, dropped: Iterable[str], names: Iterable[str]) -> None:
    """Raises ValueError where what is said to be a head is none of the file's.

    Args:
        rules: of the person.
        dropped: names that were left out.
        names: all names of the file.
    """
    left = {rules.head_of(name) for name in dropped}
    known = sorted(names)
    for head in rules.heads:
        if head in left:
            continue
        inside = [name for name in known if f".{head}." in f".{name}."]
        if inside:
            raise ValueError(f"{HEAD_NAMES}: {head!r} is no head, the network needs {inside[0]!r}")
        modules = sorted({name.rpartition(".")[0] for name in known})
        near = difflib.get_close_matches(head, modules, n=1)
        raise ValueError(
            f"{HEAD_NAMES}: the file has no {head!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; names look like {known[0]!r}")
        )


def _like(pattern: str, names: Mapping[str, str]) -> str:
    shown = list(names.values())
    near = difflib.get_close_matches(re.sub(r"[\\^$]", "", pattern), shown, n=2, cutoff=0.3)
    return f"; names look like {', '.join(map(repr, near or shown[:2]))}" if shown else ""
