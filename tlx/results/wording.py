"""A verdict in plain English."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlx.results.claims import Verdict


def sentence(verdict: "Verdict", *, known: Sequence[str], most: int) -> str:
    """What the runs say of a claim, in one sentence.

    Args:
        verdict: its own sentence is not looked at.
        known: figures that finished runs have, `split/metric`; looked at where n is 0.
        most: seeds; where more are needed it says "more than".
    """
    seeds = f"n = {verdict.n} seed{'' if verdict.n == 1 else 's'}"
    if verdict.missing:
        seeds += f" ({verdict.missing} of {verdict.n + verdict.missing} without a figure)"
    if verdict.n == 0:
        return f"{verdict.status}: {verdict.claim}: {_nothing(verdict, known)}, {seeds}"
    what = f"{verdict.status}: {_difference(verdict)}, {seeds}"
    if verdict.n == 1:
        return f"{what}; one seed has no interval, at least 2 are needed"
    what += f", {_p('p', verdict.p)} (Holm {_p('', verdict.p_holm)})"
    if verdict.margin:
        what += f" against the claimed margin of {verdict.margin:g}"
    if verdict.more_seeds is not None:
        what += f"; {_needed(verdict.more_seeds, most)} would settle it at this mean and spread"
    return what


def _nothing(verdict: "Verdict", known: Sequence[str]) -> str:
    if known and verdict.metric not in known:
        return f"no finished run has {verdict.metric!r} (they have {', '.join(known)})"
    return f"no seed has the figures on {verdict.metric} yet"


def _difference(verdict: "Verdict") -> str:
    """Of a decided claim which lies above which, of an undecided one the signed difference."""
    second = verdict.second
    other = second if isinstance(second, str) else f"{second:g}"
    value, low, high = verdict.difference, verdict.low, verdict.high
    if verdict.status == "undecided":
        text = f"{verdict.first} minus {other} on {verdict.metric} is {_short(value)}"
    else:
        side = "below" if value < 0 else "above"
        if value < 0:
            value, low, high = -value, -high, -low
        text = f"{verdict.first} is {side} {other} on {verdict.metric} by {_short(value)}"
    return text if math.isnan(low) else f"{text} [{_short(low)}, {_short(high)}]"


def _needed(seeds: int | float, most: int) -> str:
    return f"more than {most} seeds" if math.isinf(seeds) else f"about {seeds} seeds in all"


def _short(number: float) -> str:
    small = number != 0 and abs(number) < 0.01
    return f"{number:.2g}" if small or abs(number) >= 1000 else f"{number:.3f}"


def _p(name: str, p: float) -> str:
    if p < 0.001:
        return f"{name} < 0.001".strip()
    return f"{name} = {p:.2g}" if name else f"{p:.2g}"
