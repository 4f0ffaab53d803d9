"""A verdict in plain English."""

import math
from collections.abc import Sequence

from tlx.results import looks as rules
from tlx.results.manifest import Manifest
from tlx.results.verdict import Verdict


def sentence(verdict: Verdict, *, known: Sequence[str]) -> str:
    """What the runs say of a claim, in one sentence.

    Args:
        verdict: its own sentence is not looked at.
        known: figures that finished runs have, `split/metric`; looked at where n is 0.
    """
    seeds = f"n = {verdict.n} seed{'' if verdict.n == 1 else 's'}"
    if verdict.missing:
        seeds += f" ({verdict.missing} of {verdict.n + verdict.missing} without a figure)"
    waits = f"{waiting(verdict)}; " if verdict.waiting else ""
    if verdict.n == 0:
        return f"{verdict.status}: {waits}{verdict.claim}: {_nothing(verdict, known)}, {seeds}"
    what = f"{verdict.status}: {waits}{_difference(verdict)}, {seeds}"
    if verdict.n == 1:
        return f"{what}; one seed has no interval, at least 2 are needed"
    if not math.isnan(verdict.p):
        of = "" if verdict.alpha == rules.ALPHA else f", of {verdict.alpha:g}"
        what += f", {_p('p', verdict.p)} (Holm {_p('', verdict.p_holm)}{of})"
    if verdict.margin:
        what += f" against the claimed margin of {verdict.margin:g}"
    return "; ".join([what, *(text for text in (verdict.note, needed(verdict)) if text)])


def waiting(verdict: Verdict) -> str:
    """What a verdict waits for."""
    runs = f"waiting for {verdict.waiting} run{'' if verdict.waiting == 1 else 's'}"
    if not verdict.failed:
        return runs
    return f"{runs}, {verdict.failed} of which failed: --retry-failed starts those again"


def needed(verdict: Verdict) -> str:
    """How many seeds would settle an undecided claim, and at what they are judged.

    Seeds that were not declared before the first look are judged at what it leaves them.
    """
    if verdict.more_seeds is None:
        return ""
    number = f"about {verdict.more_seeds} seeds in all"
    if math.isinf(verdict.more_seeds):
        number = f"more than {verdict.most_seeds} seeds"
    text = f"{number} would settle it at this mean and spread"
    return text if verdict.open else f"{text}, for seeds added now are judged at 0.01"


def looks(manifest: Manifest) -> str:
    """How often claims were looked at, and what that makes of seeds that are added now."""
    plan = rules.plan(manifest)
    if plan.later:
        return (
            f"Seeds were added that had not been declared before the first look. So what was "
            f"declared keeps {rules.FIRST_ALPHA} of the 0.05, and all other looks share "
            f"{rules.LATER_ALPHA}, by e-values."
        )
    if plan.most is not None:
        return (
            f"At most {plan.most} seeds were declared, with a look after each; the bounds leave "
            "0.05 for all of these looks together."
        )
    return (
        "This is one look at the seeds declared. Seeds added after it count as undeclared: the "
        f"first look then keeps {rules.FIRST_ALPHA} of the 0.05. Where it is not known beforehand "
        "how many seeds are needed, declare study.sequential before the first look."
    )


def _nothing(verdict: Verdict, known: Sequence[str]) -> str:
    if known and verdict.metric not in known:
        return f"no finished run has {verdict.metric!r} (they have {', '.join(known)})"
    return f"no seed has the figures on {verdict.metric} yet"


def _difference(verdict: Verdict) -> str:
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


def _short(number: float) -> str:
    small = number != 0 and abs(number) < 0.01
    return f"{number:.2g}" if small or abs(number) >= 1000 else f"{number:.3f}"


def _p(name: str, p: float) -> str:
    if p < 0.001:
        return f"{name} < 0.001".strip()
    return f"{name} = {p:.2g}" if name else f"{p:.2g}"
