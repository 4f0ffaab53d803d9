"""A small cover of a large product of cases; TLX_ALL_CASES=1 tests all of them."""

import itertools
import os
from collections.abc import Sequence
from typing import Any


def cover(*axes: Sequence[Any], every: int) -> list[tuple[Any, ...]]:
    """Cases of a product of axes, of which each value is in some: those on every nth diagonal.

    >>> cover("ab", "xyz", every=3)
    [('a', 'x'), ('b', 'z')]
    """
    places = itertools.product(*(range(len(axis)) for axis in axes))
    return [
        tuple(axis[at] for axis, at in zip(axes, place, strict=True))
        for place in places
        if os.environ.get("TLX_ALL_CASES") or sum(place) % every == 0
    ]
