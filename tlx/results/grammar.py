"""How a claim is written. Standard library only, so that a config can be checked with it."""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

GRAMMAR = "A > B [by MARGIN] [on SPLIT/METRIC], or A < B …; A and B are arms, B may be a number"

_TAIL = re.compile(r"(?:\s+by\s+(?P<margin>\S+))?(?:\s+on\s+(?P<metric>\S+))?")
_RIGHT = re.compile(r"(?P<second>.*?)" + _TAIL.pattern)


class ClaimError(ValueError):
    """A claim that cannot be understood, or names an arm that the study lacks."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`first` lies above (`>`) or below (`<`) `second` by more than `margin`.

    Attributes:
        text: as it was written.
        first: an arm.
        sign: `>` is numerically greater, whatever is better in the metric; `<` less.
        second: an arm, or a number.
        margin: by how much more; negative claims that it is at most that much behind.
        metric: split and metric, `test/accuracy`.
    """

    text: str
    first: str
    sign: str
    second: str | float
    margin: float
    metric: str


def parse(text: str, *, arms: Sequence[str], metric: str) -> Claim:
    """The claim that a text makes.

    Where it can be read in two ways, the first sign counts, and then the longest arm after it.

    Args:
        text: `A > B [by MARGIN] [on SPLIT/METRIC]`, or `<`; B may be a number. Names of arms may
            hold anything, spaces, commas, `=`, `<` and the words `by` and `on` too.
        arms: names of the study's arms.
        metric: the study's, for a claim that names none.

    Raises:
        ClaimError: no sign, an unknown arm, a margin that is no number, a metric without split.
    """
    clean = text.strip()
    for place, sign in _signs(clean):
        first, right = clean[:place].rstrip(), clean[place + 1 :].strip()
        if first not in arms:
            continue
        for second in sorted(arms, key=len, reverse=True):
            tail = right.startswith(second) and _TAIL.fullmatch(right[len(second) :])
            if tail:
                return _claim(text, first, sign, second, tail, metric)
        number = _RIGHT.fullmatch(right)
        if number and _number(number["second"]) is not None:
            return _claim(text, first, sign, float(number["second"]), number, metric)
    raise ClaimError(_why_not(text, clean, arms))


def _signs(text: str) -> list[tuple[int, str]]:
    return [(place, sign) for place, sign in enumerate(text) if sign in "<>"]


def _claim(
    text: str,
    first: str,
    sign: str,
    second: str | float,
    tail: re.Match[str],
    metric: str,
) -> Claim:
    if first == second:
        raise ClaimError(f"claim {text!r} compares {first!r} with itself; name two arms")
    margin = _number(tail["margin"] or "0")
    if margin is None:
        raise ClaimError(
            f"claim {text!r}: margin {tail['margin']!r} is no number; write 'by 0.02', "
            "in the metric's own unit"
        )
    named = tail["metric"] or metric
    if not all(named.partition("/")):
        raise ClaimError(
            f"claim {text!r}: metric {named!r} lacks its split; write 'on test/accuracy'"
        )
    return Claim(text=text, first=first, sign=sign, second=second, margin=margin, metric=named)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _why_not(text: str, clean: str, arms: Sequence[str]) -> str:
    signs = _signs(clean)
    if not signs:
        return f"claim {text!r} has neither '>' nor '<'; write {GRAMMAR}"
    place, _ = signs[0]
    first, right = clean[:place].rstrip(), clean[place + 1 :].strip()
    for at, _ in signs:
        if clean[:at].rstrip() in arms:
            first, right = clean[:at].rstrip(), clean[at + 1 :].strip()
    if right.startswith("="):
        return f"claim {text!r}: the sign is '>' or '<', without '='; write {GRAMMAR}"
    if first not in arms:
        return f"claim {text!r}: no arm {first!r}{_nearest(first, arms)}"
    match = _RIGHT.fullmatch(right)
    second = match["second"] if match else right
    return f"claim {text!r}: {second!r} is neither an arm nor a number{_nearest(second, arms)}"


def _nearest(name: str, arms: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, arms, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} the arms are {', '.join(map(repr, arms[:12]))}" + (
        f", … ({len(arms)} in all)" if len(arms) > 12 else ""
    )
