"""Percentile bootstrap over items, for any metric that is a function of item weights.

Where no resample tells anything, because all items agree, the ends are exact ones or none at all.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypedDict

import torch
from torch import Tensor

from tlx.methods.metrics import ones
from tlx.methods.shares import Share, exact_ends

RESAMPLES = 1000
LEVEL = 0.95
MOST_KEPT = 2_000_000  # weights, 16 MB


class FigureEnds(TypedDict):
    """A figure, the ends of its interval, and how many items it rests on."""

    value: float
    low: float
    high: float
    n: int


Intervals = dict[str, FigureEnds]
"""Name -> figure."""

Metric = Callable[[Tensor], Mapping[str, Tensor]]
"""Weights [B, N] -> name -> values [B]."""


def resampled_weights(n: int, *, resamples: int, seed: int) -> Iterator[Tensor]:
    """Blocks [B, n] of how often each item was drawn, `resamples` rows in all.

    The same n and seed give the same draws: two runs on one test set see the same resamples.

    >>> [block.sum(1).tolist() for block in resampled_weights(4, resamples=2, seed=0)]
    [[4.0, 4.0]]
    """
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, 4_000_000 // n)  # 32 MB a block
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = torch.randint(n, (count, n), generator=generator)
        weights = torch.zeros(count, n, dtype=torch.float64)
        yield weights.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(count, n))


def intervals(
    metric: Metric,
    n: int,
    *,
    shares: Mapping[str, Share] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Each figure that `metric` gives: its name -> `value`, `low`, `high`, `n`.

    A figure that is NaN in a resample has no interval (NaN ends), nor has one of no items. Nor
    has one on which all items agree (an accuracy of 1), unless it is named in `shares`: then its
    ends are exact ones, which tell how much so many items can have missed.

    Args:
        metric: from weights [B, N] to values [B] by name.
        n: items.
        shares: by name, of figures that have a lowest and a highest value; of one run.
        resamples: how many.
        level: coverage, in (0, 1).
        seed: of the resampling.

    Source: Efron 1979; the percentile interval.

    >>> right = torch.tensor([1.0, 1.0, 0.0, 1.0])
    >>> intervals(lambda w: {"accuracy": w @ right.double() / w.sum(1)}, 4)["accuracy"]
    {'value': 0.75, 'low': 0.25, 'high': 1.0, 'n': 4}
    """

    def alone(weights_BN: Tensor) -> dict[str, Tensor]:
        return {name: values_B[None] for name, values_B in metric(weights_BN).items()}

    return intervals_each(alone, n, shares=shares, resamples=resamples, level=level, seed=seed)[0]


def intervals_each(
    metric: Metric,
    n: int,
    *,
    shares: Mapping[str, Share] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Intervals]:
    """What `intervals` gives for each of G runs that were judged on the same items.

    Args:
        metric: from weights [B, N] to values [G, B] by name.
        n: items.
        shares: by name, of figures that have a lowest and a highest value.
        resamples: how many.
        level: coverage, in (0, 1).
        seed: of the resampling.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples={resamples}, level={level}; at least 1, and between 0 and 1")
    plain = metric(ones(n))
    values_KG = torch.stack([values_GB[:, 0].double() for values_GB in plain.values()])
    ends_2KG = torch.full((2, *values_KG.shape), math.nan, dtype=torch.float64)
    if n:
        blocks = [metric(weights) for weights in _weights(n, resamples, seed)]
        drawn = [torch.cat([block[name] for block in blocks], dim=1).double() for name in plain]
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        ends_2KG = torch.stack(drawn).quantile(ends, dim=2)
        named = [(shares or {}).get(name) for name in plain]
        _mend(ends_2KG, values_KG, named, n=n, level=level)
    columns = [tensor.T.tolist() for tensor in (values_KG, *ends_2KG)]
    return [
        {
            name: {"value": value, "low": low, "high": high, "n": n}
            for name, value, low, high in zip(plain, *row, strict=True)
        }
        for row in zip(*columns, strict=True)
    ]


def _mend(
    ends_2KG: Tensor, values_KG: Tensor, shares: Sequence[Share | None], *, n: int, level: float
) -> None:
    """Writes exact ends, or NaN, over those that resampling cannot give (a mutator)."""
    # a mean of equal values varies in its last bits
    agreed_KG = ends_2KG[1] - ends_2KG[0] <= 1e-12 * values_KG.abs().clamp(min=1)
    for k, share in enumerate(shares):
        for run, agreed in enumerate(agreed_KG[k].tolist()):
            ends = exact_ends(share, values_KG[k], run=run, n=n, agreed=agreed, level=level)
            if ends is not None:
                ends_2KG[:, k, run] = torch.tensor(ends, dtype=torch.float64)


def _weights(n: int, resamples: int, seed: int) -> Iterable[Tensor]:
    """The blocks; the last small one is kept, since a study's runs have the same test set."""
    if n * resamples <= MOST_KEPT:
        return (_whole(n, resamples, seed),)
    return resampled_weights(n, resamples=resamples, seed=seed)


@lru_cache(maxsize=2)
def _whole(n: int, resamples: int, seed: int) -> Tensor:
    return torch.cat(list(resampled_weights(n, resamples=resamples, seed=seed)))
