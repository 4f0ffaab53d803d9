"""Entries of a search space, read from Hydra's syntax or typed YAML; see `spaces`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from tlx.base.nodes import Node
from tlx.config.identity import EXCLUDED
from tlx.config.problems import Problem
from tlx.config.suggest import nearest

Number = int | float
TYPES: dict[str, tuple[str, ...]] = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
}
EXAMPLE = "tag(log, interval(1e-5, 1e-1)), range(1, 10), choice(a,b), or {type: float, low, high}"


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: least.
        high: greatest.
        whole: whether they are whole.
        log: whether they are drawn evenly on a log scale.
        step: between neighbours; None: none (of whole numbers, 1).
    """

    low: Number
    high: Number
    whole: bool
    log: bool = False
    step: Number | None = None

    def values(self) -> list[Number] | None:
        """All of them; None where there is no end of them."""
        if self.step is None and not self.whole:
            return None
        low, high, step = (Decimal(str(x)) for x in (self.low, self.high, self.step or 1))
        found = [low + step * i for i in range(int((high - low) / step) + 1)]
        return [int(x) if self.whole else float(x) for x in found]


@dataclass(frozen=True)
class Choices:
    """One of several values, each as the text of an override."""

    texts: tuple[str, ...]

    def values(self) -> list[str]:
        """All of them."""
        return list(self.texts)


Entry = Numbers | Choices


class _Wrong(ValueError):
    """What is wrong with an entry, and the nearest right one."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


def text_of(value: Any, *, exact: bool = False) -> str:
    """A plain value as the text of an override; text that Hydra can read is left as it is.

    Args:
        value: to be written.
        exact: whether text means itself only: it is left where Hydra reads that very text.

    >>> text_of(["lp_ft", None, 0.5]), text_of("[mixup,cutmix]"), text_of("a=b")
    ('[lp_ft,null,0.5]', '[mixup,cutmix]', "'a=b'")
    """
    if not isinstance(value, str):
        return Override._get_value_element_as_str(value)
    quoted = QuotedString(value, Quote.single).with_quotes()
    try:
        read = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return quoted
    return value if (read.value() == value if exact else not read.is_sweep_override()) else quoted


def read(space: Node) -> tuple[dict[str, Entry], list[Problem]]:
    """Key to what it may be, and what is wrong with the others."""
    found: dict[str, Entry] = {}
    wrong: list[Problem] = []
    for given, value in space.items():
        key = str(given).lstrip("+")
        try:
            _check_key(key, found)
            found[key] = _entry(key, value)
        except _Wrong as error:
            wrong.append(Problem(str(given), str(error), error.suggestion))
    return found, wrong


def _check_key(key: str, found: Mapping[str, Entry]) -> None:
    if key in found:
        raise _Wrong("is given twice; leave one")
    if key == "seed":
        raise _Wrong("is not searched over; give search.seeds_per_trial, whose mean is judged")
    if key == "select_from":
        raise _Wrong("says which weights a trial's figures are of: set it for all trials alike")
    if any(key == place or key.startswith(f"{place}.") for place in EXCLUDED):
        raise _Wrong("cannot change what a run finds out, and is no part of its id; leave it out")


def _entry(key: str, value: object) -> Entry:
    if isinstance(value, str):
        return _from_text(key, value)
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, Sequence):
        return _choices([text_of(item) for item in value])
    raise _Wrong(f"is {value!r}; give {EXAMPLE}, or set it with the overrides, without a space")


def _from_text(key: str, text: str) -> Entry:
    try:
        sweep: object = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException as error:
        reason = str(error).strip().partition("\n")[0]
        raise _Wrong(f"{text!r} cannot be read ({reason}); give {EXAMPLE}") from None
    if isinstance(sweep, Glob):
        raise _Wrong(f"{text!r} is a glob; name the options: choice(a,b)")
    if not isinstance(sweep, ChoiceSweep | RangeSweep | IntervalSweep):
        raise _Wrong(f"{text!r} is one value; give {EXAMPLE}, or set it with the overrides")
    if unknown := sweep.tags - {"log"}:
        raise _Wrong(f"{text!r} has the tag {min(unknown)!r}; the only tag is log")
    log = "log" in sweep.tags
    if isinstance(sweep, ChoiceSweep):
        if log:
            raise _Wrong(f"{text!r}: choices have no scale; leave the tag out, or give interval(…)")
        return _choices([text_of(item, exact=True) for item in sweep.list])
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        return _numbers(sweep.start, sweep.end, whole=whole, log=log)
    return _from_range(sweep, text, log=log)


def _from_range(sweep: RangeSweep, text: str, *, log: bool) -> Entry:
    assert sweep.start is not None
    assert sweep.stop is not None
    start, stop, step = (Decimal(str(x)) for x in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step) if step else 0
    if count < 2:
        raise _Wrong(
            f"{text!r} holds fewer than two values; range(start, stop, step) leaves stop out"
        )
    last = start + step * (count - 1)
    low, high = min(start, last), max(start, last)
    if all(isinstance(x, int) for x in (sweep.start, sweep.stop, sweep.step)):
        return _numbers(int(low), int(high), whole=True, log=log, step=int(abs(step)))
    return _numbers(float(low), float(high), whole=False, log=log, step=float(abs(step)))


def _from_mapping(value: Node) -> Entry:
    kind = value.get("type")
    if kind not in TYPES:
        near = nearest(str(kind), TYPES) if kind else None
        raise _Wrong(f"has type {kind!r}; give one of {', '.join(TYPES)}", near)
    allowed = TYPES[str(kind)]
    for name in value:
        if name != "type" and name not in allowed:
            keys = ", ".join(allowed)
            raise _Wrong(f"{name!r} is no key of {kind}; keys are {keys}", nearest(name, allowed))
    if kind == "categorical":
        choices = value.get("choices")
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise _Wrong(f"has choices {choices!r}; give a list: choices: [a, b]")
        return _choices([text_of(item) for item in choices])
    whole, log = kind == "int", value.get("log", False)
    if not isinstance(log, bool):
        raise _Wrong(f"has log {log!r}; give true or false")
    low, high = (_number(value, name, whole=whole) for name in ("low", "high"))
    step = None if value.get("step") is None else _number(value, "step", whole=whole)
    return _numbers(low, high, whole=whole, log=log, step=step)


def _number(value: Node, name: str, *, whole: bool) -> Number:
    given = value.get(name)
    kind = "int" if whole else "float"
    try:  # YAML reads 1e-5 as text
        number = float(given) if not isinstance(given, bool) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise _Wrong(
            f"has {name} {given!r}; give {'a whole number' if whole else 'a number'}", None
        )
    return int(number) if kind == "int" else number


def _numbers(
    low: Number, high: Number, *, whole: bool, log: bool, step: Number | None = None
) -> Numbers:
    if not low < high:
        raise _Wrong(f"goes from {low} to {high}; give a lower end below the upper one")
    if step is not None and not 0 < step <= high - low:
        raise _Wrong(f"has step {step}; give one above 0 and at most {high - low}")
    if log and low <= 0:
        raise _Wrong(f"starts at {low} on a log scale; start above 0, or leave log out")
    if log and step not in (None, 1 if whole else None):
        raise _Wrong(f"has step {step} on a log scale; leave the step or log out")
    return Numbers(low, high, whole, log, None if log and whole else step)


def _choices(texts: list[str]) -> Choices:
    twice = {text for text in texts if texts.count(text) > 1}
    if twice:
        raise _Wrong(f"names {min(twice)} twice; leave one")
    if len(texts) < 2:
        raise _Wrong(f"has {len(texts)} choices; give two or more, or set it with the overrides")
    return Choices(tuple(texts))
