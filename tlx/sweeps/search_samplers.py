"""Optuna's samplers, made anew for each trial, so that a search does not depend on restarts."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlx.sweeps.search_entries import Entry, Number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


def make_sampler(
    name: str,
    *,
    space: Mapping[str, Entry],
    seed: int,
    number: int,
    startup_trials: int = 10,
    popsize: int | None = None,
) -> "BaseSampler":
    """The sampler that draws one trial.

    Its random state follows from the search's seed and the trial's number alone. What it learnt
    from earlier trials, it reads from them.

    Args:
        name: tpe, gp, cmaes, qmc, random or grid.
        space: key to what it may be.
        seed: of the search.
        number: of the trial that it is to draw.
        startup_trials: that many trials are drawn at random first (tpe, gp, cmaes).
        popsize: trials of a generation (cmaes); None: 4 + 3 ln(number of keys).

    Source: Bergstra et al. 2011 (TPE); Hansen & Ostermeier 2001 (CMA-ES).
    """
    from optuna import samplers

    own = own_seed(seed, number)
    random = samplers.RandomSampler(seed=own)
    if name == "tpe":
        # the constant liar: running trials count as bad, so that workers spread out
        return samplers.TPESampler(n_startup_trials=startup_trials, seed=own, constant_liar=True)
    if name == "gp":
        return samplers.GPSampler(
            seed=own,
            n_startup_trials=startup_trials,
            independent_sampler=random,
            warn_independent_sampling=False,
        )
    if name == "cmaes":
        return samplers.CmaEsSampler(
            seed=own,
            n_startup_trials=max(1, startup_trials),
            independent_sampler=random,
            warn_independent_sampling=False,
            popsize=popsize,
        )
    if name == "qmc":
        return _sobol(space, seed=own_seed(seed, -1), number=number)
    if name == "random":
        return random
    if name == "grid":
        return samplers.GridSampler(grid(space), seed=own_seed(seed, -1))
    raise ValueError(f"sampler={name!r}; it is tpe, gp, cmaes, qmc, random or grid")


def own_seed(seed: int, number: int) -> int:
    """A seed for one trial: 32 bits of a hash of the search's seed and the trial's number."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def grid(space: Mapping[str, Entry]) -> dict[str, list[Number | str]]:
    """Key to all its values.

    Raises:
        ValueError: a key's values have no end.
    """
    found: dict[str, list[Number | str]] = {}
    for key, entry in space.items():
        values = entry.values()
        if values is None:
            raise ValueError(f"{key} has no end of values; the grid needs range(…) or choices")
        found[key] = list(values)
    return found


def cells(space: Mapping[str, Entry]) -> int:
    """Number of points of the grid."""
    return math.prod(len(values) for values in grid(space).values())


def _sobol(space: Mapping[str, Entry], *, seed: int, number: int) -> "BaseSampler":
    from optuna.samplers import QMCSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from tlx.sweeps import spaces

    class Sobol(QMCSampler):
        """A scrambled Sobol sequence whose n-th point is the n-th trial's.

        Optuna counts points in the study, which skips one where a worker is killed in between.
        """

        def infer_relative_search_space(
            self, study: Study, trial: FrozenTrial
        ) -> "dict[str, BaseDistribution]":
            """The whole space from the first trial on."""
            return spaces.distributions(space)

        def _find_sample_id(self, study: Study, search_space: "dict[str, BaseDistribution]") -> int:
            return number

    with quiet():
        return Sobol(scramble=True, seed=seed, warn_independent_sampling=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings on interfaces that may change: its version is pinned."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Sobol points are balanced in powers of two; a search of another budget is none the worse
        warnings.filterwarnings("ignore", message="The balance properties of Sobol")
        yield
