"""Judging at many looks: bounds for a declared number of seeds, e-values for any number.

Shapes: S studies, N seeds, M nodes of a grid, G nodes of a quadrature.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FIRST = 3
"""Seeds of the first look that may decide."""
FUTILE_FROM = 8
"""Seeds from which on a claim may be given up."""
MIXTURE = 4.0
"""g of the e-value: the variance of its prior on effect / deviation."""
_ERROR = 0.01
"""Relative, of `_crossing`; what `level` and `limit` leave for it."""
_FINE = 1e-8
"""Limits below are bounded by Bonferroni's sum: they are no longer integrated exactly."""


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """Student's test of the first 1, 2, … N values of each row.

    Attributes:
        n: how many, (N,).
        mean: (S, N).
        sd: with n - 1; NaN for one value.
        t: against 0; infinite where all values are equal and not 0.
        p: two-sided; where all values are equal that of the sign test, 2 · 0.5ⁿ.
    """

    n: Array
    mean: Array
    sd: Array
    t: Array
    p: Array


def prefixes(values_SN: Array, *, equal: float = 0.0) -> Prefixes:
    """Student's test at every number of seeds, of many studies at once.

    Args:
        values_SN: differences less what they are tested against.
        equal: values that lie no further apart count as equal.
    """
    from scipy.stats import t as student  # slow to import

    n = np.arange(1, values_SN.shape[-1] + 1, dtype=np.float64)
    mean = np.cumsum(values_SN, axis=-1) / n
    # Welford's update: the sum of squares less n times the mean's would cancel
    steps = np.zeros_like(mean)
    steps[..., 1:] = (values_SN[..., 1:] - mean[..., :-1]) * (values_SN[..., 1:] - mean[..., 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.cumsum(steps, axis=-1) / (n - 1))
        spread = np.maximum.accumulate(values_SN, -1) - np.minimum.accumulate(values_SN, -1)
        same = (spread <= equal) & (n > 1)
        sd = np.where(same, 0.0, sd)
        t = np.where(mean == 0, 0.0, mean / (sd / np.sqrt(n)))
        p = 2 * student.sf(np.abs(t), n - 1)
    p = np.where(same, np.where(mean == 0, 1.0, np.minimum(1.0, 2 * 0.5**n)), p)
    return Prefixes(n=n, mean=mean, sd=sd, t=np.where(n > 1, t, np.nan), p=p)


def futile(t: Array, n: Array, *, most: int) -> npt.NDArray[np.bool_]:
    """Where a claim is given up: |t| below a line from 0.25 at 8 seeds to 0.85 at `most`.

    Bounds hold whether or not one stops there, so that this costs power only, and little of it.

    Args:
        t: Student's, at each look.
        n: seeds at each look.
        most: seeds at the last look.
    """
    if most <= FUTILE_FROM:
        return np.zeros(np.broadcast(t, n).shape, dtype=bool)
    line = 0.25 + 0.6 * (n - FUTILE_FROM) / (most - FUTILE_FROM)
    return (n >= FUTILE_FROM) & (np.abs(t) < line)


def level(limit: float, *, most: int) -> float:
    """The probability, without an effect, that p ≤ limit · n / most at any look n = 3 … most.

    It is that of normal differences of unknown variance, looked at after every seed; fewer looks
    make it smaller.

    Args:
        limit: of p at the last look.
        most: seeds at the last look, at least 3.
    """
    if limit <= _FINE:
        return limit * sum(range(FIRST, most + 1)) / most
    limits, levels = _curve(most)
    if limit >= limits[-1]:
        return 1.0
    return float(np.exp(np.interp(math.log(limit), np.log(limits), np.log(levels))))


def limit(alpha: float, *, most: int) -> float:
    """The inverse of `level`: the limit whose probability of any rejection is `alpha`."""
    limits, levels = _curve(most)
    if alpha <= levels[0]:
        return alpha * most / sum(range(FIRST, most + 1))
    return float(np.exp(np.interp(math.log(alpha), np.log(levels), np.log(limits))))


@lru_cache(maxsize=32)
def _curve(most: int) -> tuple[Array, Array]:
    """Limits and their levels, rising."""
    limits = np.concatenate(
        [np.geomspace(_FINE, 1e-3, 6), np.geomspace(2e-3, 0.128, 7), [0.3, 0.8]]
    )
    levels = np.array([_crossing(float(item), most) * (1 + _ERROR) for item in limits])
    # not below what the last look alone costs, not above the sum over looks
    looks = sum(range(FIRST, most + 1)) / most
    levels = np.minimum(np.clip(levels, limits, limits * looks), 1.0)
    return limits, np.maximum.accumulate(levels)


def _crossing(limit: float, most: int) -> float:
    """P(p_n ≤ limit · n / most for some n in FIRST … most), without an effect.

    Of n normal differences, T = sum / sqrt(sum of squares) is the direction of a vector that is
    uniform on the sphere, independent of its length. So T is a Markov chain: with the next
    difference at the angle ψ, whose density goes as cosⁿ⁻¹ψ, T becomes T cos ψ + sin ψ. The
    probability of staying within the bounds is integrated backwards, look by look.
    """
    from scipy.special import beta as beta_function  # slow to import
    from scipy.stats import t as student

    n = np.arange(FIRST, most + 1)
    shares = limit * n / most
    if shares[-1] >= 1:
        return 1.0
    t = student.isf(shares / 2, n - 1)
    edges = np.sqrt(n * t**2 / (t**2 + n - 1))  # of T, beyond which p is small enough
    nodes = 32 if most > 12 else 96  # errors of many looks cancel, those of a few do not
    z, weights = np.polynomial.legendre.leggauss(nodes)
    chebyshev = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    stay_M = np.ones(nodes)
    for k in range(most - 1, FIRST - 1, -1):
        edge, after = edges[k - FIRST], edges[k + 1 - FIRST]
        here_M = (chebyshev + 1) / 2 * edge
        turn_M, length_M = np.arctan(here_M), np.sqrt(1 + here_M**2)
        inside_M = np.arcsin(np.minimum(1, after / length_M))
        far = min(np.pi / 2, 8.5 / math.sqrt(k - 1))  # beyond lies less than 1e-15
        total_M = np.zeros(nodes)
        # T cos ψ + sin ψ = length · sin(ψ + turn) is within the bounds on two arcs
        for low_M, high_M in (
            (np.maximum(-inside_M - turn_M, -far), np.minimum(inside_M - turn_M, far)),
            (np.maximum(np.pi - inside_M - turn_M, -far), np.full(nodes, far)),
        ):
            half_M = np.maximum(high_M - low_M, 0) / 2
            angle_MG = low_M[:, None] + half_M[:, None] * (1 + z)
            density_MG = np.cos(angle_MG) ** (k - 1) / beta_function(0.5, k / 2)
            next_MG = np.abs(length_M[:, None] * np.sin(angle_MG + turn_M[:, None]))
            values_MG = _between(chebyshev, 2 * np.minimum(next_MG / after, 1) - 1, stay_M)
            total_M += half_M * ((density_MG * values_MG) @ weights)
        stay_M = total_M
    # three differences make T / sqrt(3) uniform on (-1, 1)
    stay = float(_between(chebyshev, z, stay_M) @ weights) * edges[0] / 2 / math.sqrt(FIRST)
    return float(max(0.0, 1.0 - stay))


def _between(nodes_M: Array, x: Array, values_M: Array) -> Array:
    """Barycentric interpolation between Chebyshev's nodes."""
    places = np.arange(len(nodes_M))
    signs = (-1.0) ** places * np.sin(np.pi * (places + 0.5) / len(nodes_M))
    gaps = x[..., None] - nodes_M
    shares = signs / np.where(gaps == 0, 1e-300, gaps)
    between: Array = (shares @ values_M) / shares.sum(-1)
    return between


def e_value(t: Array | float, n: Array | float) -> Array:
    """Evidence against no effect; 1 is none, and 1 / α suffices at any number of looks.

    The right-Haar mixture of t tests over effects whose ratio to the deviation is normal with
    variance 4. Without an effect, the probability that it ever reaches E is at most 1 / E, however
    often one looks and for whatever reason one stops. Values that are all equal (t infinite) count
    as so many equal signs, 2ⁿ⁻¹.

    Args:
        t: Student's, of the first n differences.
        n: how many, at least 2.

    Source: M. Gönen et al., The Bayesian two-sample t test, 2005; M. F. Pérez-Ortiz, T. Lardy,
    R. de Heide and P. Grünwald, E-statistics, group invariance and anytime-valid testing, 2024.
    """
    t, n = np.asarray(t, dtype=np.float64), np.asarray(n, dtype=np.float64)
    freedom, wide = n - 1, 1 + n * MIXTURE
    with np.errstate(over="ignore", invalid="ignore"):
        square = np.where(np.isinf(t), 0.0, t) ** 2 / freedom
        ratio = (1 + square) / (1 + square / wide)
        evidence = wide**-0.5 * ratio ** ((freedom + 1) / 2)
        signs = np.minimum(2.0 ** (n - 1), wide ** ((n - 1) / 2))
    return np.where(np.isinf(t), signs, evidence)


def e_bound(evidence: float, n: int) -> float:
    """|t| of n differences at which `e_value` reaches a value; infinite where it never does."""
    wide, freedom = 1 + n * MIXTURE, n - 1
    ratio = math.exp(math.log(evidence**2 * wide) / (freedom + 1))
    if ratio >= wide:
        return math.inf
    return math.sqrt(max(0.0, freedom * (ratio - 1) / (1 - ratio / wide)))
