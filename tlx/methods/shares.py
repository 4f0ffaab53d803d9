"""Exact ends of intervals where few or no items disagree, and resampling them says nothing.

Shapes: G runs judged on the same items, C groups of items.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

FEW = 20
"""Right or wrong items below which a share takes exact ends: with 1 wrong of 500 the percentile
bootstrap covers 85% where it says 95%; from 20 on, never below 93%."""


@dataclass(frozen=True)
class Share:
    """A figure that is the mean over groups of something between 0 and `most`.

    Attributes:
        of: the figure in each group [G, C]; None: all items are one group.
        items: how many speak for each group, [C] or [G, C]; a group of none is left out. None:
            all of them.
        counted: whether every item is plainly right or wrong, so that the figure is binomial.
        most: highest value that the figure can have; 0 is its lowest.
    """

    of: Tensor | None = None
    items: Tensor | None = None
    counted: bool = False
    most: float = 1.0


def exact_ends(
    share: Share | None, value_G: Tensor, *, run: int, n: int, agreed: bool, level: float
) -> tuple[float, float] | None:
    """Ends of a figure that resampling cannot give, NaN where nothing can; None where it can.

    Args:
        share: what the figure is; None: it has no lowest or no highest value.
        value_G: of each run.
        run: which of them.
        n: items.
        agreed: whether all resamples gave that value.
        level: coverage, in (0, 1).
    """
    if share is None:
        return (math.nan, math.nan) if agreed else None
    if share.counted:
        right = round(float(value_G[run]) * n)
        return binomial_ends(right, n, level=level) if min(right, n - right) < FEW else None
    if not agreed:
        return None
    of_C = value_G[run][None] if share.of is None else share.of[run]
    items_C = of_C.new_tensor([n]) if share.items is None else share.items
    items_C = items_C[run] if items_C.ndim == 2 else items_C
    there_C = items_C > 0
    if not bool(there_C.any()):
        return math.nan, math.nan
    low, high = unanimous_ends(of_C[there_C] / share.most, items_C[there_C], level=level)
    return share.most * low, share.most * high


@lru_cache(maxsize=4096)
def binomial_ends(right: int, n: int, *, level: float) -> tuple[float, float]:
    """Exact interval of a share of which `right` of n items were seen.

    Source: Clopper and Pearson 1934; it covers at least as often as it says.

    >>> [round(end, 4) for end in binomial_ends(60, 60, level=0.95)]
    [0.9404, 1.0]
    """
    few, tail = min(right, n - right), (1 - level) / 2
    low = 0.0 if few == 0 else _where(few - 1, n, 1 - tail)
    high = 1.0 if few == n else _where(few, n, tail)
    return (low, high) if few == right else (1 - high, 1 - low)


def _where(most: int, n: int, chance: float) -> float:
    """The share of which at most `most` of n items are seen with that chance, below n."""
    ways = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(most + 1)
    ]
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        yes, no = math.log(share), math.log1p(-share)
        seen = sum(math.exp(way + k * yes + (n - k) * no) for k, way in enumerate(ways))
        low, high = (share, high) if seen > chance else (low, share)
    return (low + high) / 2


def unanimous_ends(of_C: Tensor, items_C: Tensor, *, level: float) -> tuple[float, float]:
    """Interval of a mean over groups, within each of which all items gave the same.

    The ends are the lowest and the highest mean among all truths under which so much agreement
    has a probability of at least (1 - level) / 2. Of one group that is the exact binomial
    interval; of several, what the smallest leave open counts most.

    Args:
        of_C: what all items of each group gave, in [0, 1].
        items_C: how many they were, at least 1.
        level: coverage, in (0, 1).

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> [round(end, 4) for end in unanimous_ends(one, 60 * one, level=0.95)]
    [0.9404, 1.0]
    """
    of_C, items_C = of_C.double(), items_C.double()
    lost = _most_lost(of_C, items_C, level)
    won = _most_lost(1 - of_C, items_C, level)
    mean = float(of_C.mean())
    return mean - lost, mean + won


def _most_lost(height_C: Tensor, items_C: Tensor, level: float) -> float:
    """The most that the mean falls if a share q of each group had 0 instead of its height.

    Maximises the mean of height * q under Σ items * log(1 - q) >= log((1 - level) / 2): by
    Lagrange 1 - q = min(1, scale * items / height), with one scale, which is searched.
    """
    can = height_C > 0
    if not bool(can.any()):
        return 0.0
    height, items = height_C[can], items_C[can]
    least = math.log((1 - level) / 2)
    low, high = -800.0, float((height / items).log().max())  # logarithms of the scale
    for _ in range(80):
        middle = (low + high) / 2
        stay = (middle + (items / height).log()).clamp(max=0)
        low, high = (middle, high) if float(items @ stay) < least else (low, middle)
    stay = (high + (items / height).log()).clamp(max=0)
    return float(height @ -torch.expm1(stay)) / len(height_C)
