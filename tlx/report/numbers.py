"""Numbers as people read them: as many digits as their spread allows, never without need."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

MINUS = "−"
NONE = "–"


def finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that is neither NaN nor infinite."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def decimals(spreads: Iterable[float], values: Iterable[float] = ()) -> int:
    """Digits after the point that give the typical spread two significant digits.

    Args:
        spreads: half widths of intervals, or deviations; what is not finite or zero is left out.
        values: used where no spread is known.

    >>> decimals([0.012, 0.014]), decimals([], [0.5, 0.75]), decimals([120.0])
    (3, 3, 0)
    """
    known = sorted(spread for spread in spreads if finite(spread) and spread > 0)
    if known:
        return min(6, max(0, 1 - math.floor(math.log10(known[len(known) // 2]))))
    sizes = [abs(value) for value in values if finite(value) and value]
    return min(6, max(0, 2 - math.floor(math.log10(max(sizes))))) if sizes else 3


def plain(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with so many decimals and a true minus sign; `NaN` and `–` (none) in words.

    >>> plain(-0.0123), plain(0.5, 2, signed=True), plain(None), plain(float("nan"))
    ('−0.012', '+0.50', '–', 'NaN')
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{MINUS if value < 0 else ''}∞"
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    if not any(character in "123456789" for character in text):
        text = text.lstrip("+-")  # no "-0.000"
    return text.replace("-", MINUS)


def known(value: float) -> float | None:
    """The number; None where it is NaN, as a deviation or a p-value of one seed is."""
    return None if math.isnan(value) else value


def counted(n: int, noun: str) -> str:
    """How many of what.

    >>> counted(1, "seed"), counted(1200, "run")
    ('1 seed', '1,200 runs')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def span(counts: Iterable[int], noun: str) -> str:
    """What n is, over several; those that have none are left out.

    >>> span([5, 3, 0], "seed"), span([1, 1], "seed"), span([0], "seed")
    ('n = 3 to 5 seeds', 'n = 1 seed', 'n = 0 seeds')
    """
    there = sorted(count for count in counts if count) or [0]
    first = f"{there[0]:,} to " if there[0] != there[-1] else ""
    return f"n = {first}{counted(there[-1], noun)}"


def bracket(low: float, high: float, digits: int = 3, *, signed: bool = False) -> str:
    """An interval, `[0.90, 0.92]`; empty where there is none."""
    if not (finite(low) and finite(high)):
        return ""
    return f"[{plain(low, digits, signed=signed)}, {plain(high, digits, signed=signed)}]"


def p_value(p: object) -> str:
    """A p-value, `<0.001` at the least.

    >>> p_value(0.00012), p_value(0.0312), p_value(0.4567)
    ('<0.001', '0.031', '0.46')
    """
    if not finite(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def seconds(value: object) -> str:
    """A duration.

    >>> seconds(4.26), seconds(75), seconds(7260), seconds(-0.4)
    ('4.3 s', '1 min 15 s', '2 h 01 min', '−0.4 s')
    """
    if not finite(value):
        return NONE
    if value < 0:
        return f"{MINUS}{seconds(-value)}" if value <= -0.05 else seconds(0)
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60} min {int(value) % 60:02d} s"
    return f"{int(value) // 3600:,} h {int(value) % 3600 // 60:02d} min"


def size(value: object) -> str:
    """Bytes in the unit that suits them.

    >>> size(1_413_439_488)
    '1.41 GB'
    """
    if not finite(value):
        return NONE
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def count(value: object) -> str:
    """A whole number with thousands apart; means of them rounded."""
    return f"{value:,.0f}" if finite(value) else NONE


def compact(value: float, digits: int = 3) -> str:
    """A number for a tick: significant digits, thousands and millions by letter.

    >>> compact(5130), compact(0.00012), compact(20.0)
    ('5.13k', '0.00012', '20')
    """
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks 1, 2, 5 of each decade between two positive numbers, or decades only where many.

    >>> log_ticks(15, 600)
    [20.0, 50.0, 100.0, 200.0, 500.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    return fine if len(fine) <= 7 else [10.0**d for d in decades if low <= 10.0**d <= high]


def shorten(text: str, length: int) -> str:
    """The text, its middle left out where it is longer.

    >>> shorten("a_rather_long_name", 9)
    'a_ra…name'
    """
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def distinct(texts: Sequence[str], length: int) -> list[str]:
    """The texts shortened so that they still differ: where they do, not in the middle, if need be.

    >>> distinct(["shift, part=first, all of it", "shift, part=last, all of it"], 14)
    ['shif…t=first, ', 'shif…t=last, a']
    """
    found = [shorten(text, length) for text in texts]
    different = len(set(texts))
    if len(set(found)) == different:
        return found
    alike = [text for text, short in zip(texts, found, strict=True) if found.count(short) > 1]
    head = length // 3
    letters = enumerate(zip(*alike, strict=False))
    first = next((i for i, there in letters if len(set(there)) > 1), 0)
    start = max(head, first - 2)
    around = [
        f"{text[:head]}…{text[start:][: length - head - 1]}" if text in alike else short
        for text, short in zip(texts, found, strict=True)
    ]
    return around if len(set(around)) == different else list(texts)
