"""The nearest right name for a wrong one."""

import difflib
from collections.abc import Iterable


def nearest(name: str, options: Iterable[str], *, cutoff: float = 0.55) -> str | None:
    """The option most like `name`, or None where none is alike.

    >>> nearest("regularisation", ["regularization", "optimizer"])
    'regularization'
    """
    known = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=cutoff)
    if close:
        return known[close[0]]
    starts = [option for low, option in known.items() if low.startswith(name.casefold()[:3])]
    if len(starts) == 1:
        return starts[0]
    return next(iter(known.values())) if len(known) == 1 else None


def listed(options: Iterable[str], *, most: int = 12) -> str:
    """Options as a sentence's tail: sorted, cut off after `most`."""
    names = sorted(options)
    tail = f", … ({len(names)} in all)" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + tail
