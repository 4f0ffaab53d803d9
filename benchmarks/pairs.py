"""Alternating pairs: two ways of doing the same work, timed in turns in one process."""

import statistics
from collections.abc import Callable


def ratios(
    ours: Callable[[], float], theirs: Callable[[], float], *, pairs: int = 9
) -> list[float]:
    """Ratio of our seconds to theirs, one a pair; the order within a pair alternates.

    A first pair warms up and is left out.
    """
    ours(), theirs()
    found = []
    for pair in range(pairs):
        if pair % 2:
            b = theirs()
            a = ours()
        else:
            a = ours()
            b = theirs()
        found.append(a / b)
    return found


def summary(
    name: str, found: list[float], *, limit: float | None = None, least: float | None = None
) -> str:
    """One line: the median, its spread, and whether it is at most `limit`, or at least `least`."""
    middle = statistics.median(found)
    low, high = min(found), max(found)
    if least is None:
        bound, good = f"limit {limit:g}", middle <= (limit or 0.0)
    else:
        bound, good = f"at least {least:g}", middle >= least
    return (
        f"{name}: median ratio {middle:.3f} [{low:.3f}, {high:.3f}] over {len(found)} pairs, "
        f"{bound}: {'ok' if good else 'MISSED'}"
    )
