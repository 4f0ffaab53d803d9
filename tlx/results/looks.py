"""Looks at a study: which of them was declared, and what is missing for the next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tlx.results.manifest import Look, Manifest
from tlx.results.record import Record
from tlx.results.table import chosen

ALPHA = 0.05
FIRST_ALPHA, LATER_ALPHA = 0.04, 0.01
"""What the declared looks keep once others were taken, and what all the others share."""


@dataclass(frozen=True, kw_only=True)
class LooksPlan:
    """How claims are judged, which is settled by the first look.

    Attributes:
        declared: the study on the seeds of the declared looks.
        most: seeds of the last declared look, where there is one after every seed; None for one
            look at all declared seeds.
        later: the study on the seeds of each other look, in their order, the present seeds last.
        left_out: seeds that were looked at and that the study has no longer, or not in their order.
        alpha: of the declared looks.
    """

    declared: Manifest
    most: int | None
    later: tuple[Manifest, ...]
    left_out: tuple[int, ...]
    alpha: float


def plan(manifest: Manifest) -> LooksPlan:
    """How the claims of a study are judged; nothing but the manifest decides it."""
    now = Look(seeds=manifest.seeds, sequential=manifest.sequential)
    looks = [*manifest.looks, now]
    first = looks[0]
    most = first.sequential.get("max_seeds")
    seeds = manifest.seeds[:most] if most else first.seeds
    outside = {
        frozenset(look.seeds): look.seeds
        for look in looks
        if (len(look.seeds) > most if most else set(look.seeds) != set(first.seeds))
    }
    return LooksPlan(
        declared=replace(of_seeds(manifest, seeds), sequential=first.sequential),
        most=most,
        later=tuple(of_seeds(manifest, outside[key]) for key in sorted(outside, key=len)),
        left_out=_left_out(manifest, ordered=most is not None),
        alpha=FIRST_ALPHA if outside else ALPHA,
    )


def _left_out(manifest: Manifest, *, ordered: bool) -> tuple[int, ...]:
    """Seeds without which, or in another order than that in which, claims were judged."""
    found: dict[int, None] = {}
    for look in manifest.looks:
        has = manifest.seeds[: len(look.seeds)] if ordered else manifest.seeds
        found |= dict.fromkeys(seed for seed in look.seeds if seed not in has)
    return tuple(found)


def of_seeds(manifest: Manifest, seeds: Sequence[int]) -> Manifest:
    """The study as if these had been all of its seeds."""
    if tuple(seeds) == manifest.seeds:
        return manifest
    runs = tuple(run for run in manifest.runs if run.seed in set(seeds))
    return replace(manifest, seeds=tuple(seeds), runs=runs)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of some arms.

    Attributes:
        seeds: in which all of these arms were planned, in order.
        missing: of these, seed -> statuses of runs that have no result yet, or failed.
    """

    seeds: tuple[int, ...]
    missing: Mapping[int, tuple[str, ...]]

    @property
    def whole(self) -> int:
        """How many seeds from the first on lack nothing."""
        return next((i for i, seed in enumerate(self.seeds) if seed in self.missing), self.n)

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.seeds)


def runs_of(manifest: Manifest, records: Mapping[str, Record], *, arms: Iterable[str]) -> Runs:
    """What arms have planned and what of it is missing.

    A failed run of a candidate that was not chosen is a result: the candidate has lost.

    Args:
        manifest: of the study.
        records: run's id -> record.
        arms: that one claim is about.
    """
    choice = chosen(manifest, records)
    missing: dict[int, tuple[str, ...]] = {}
    planned: dict[str, set[int]] = {arm: set() for arm in arms}
    for run in manifest.runs:
        if run.arm not in planned:
            continue
        planned[run.arm].add(run.seed)
        record = records.get(run.run)
        status = record.status if record is not None else "missing"
        lost = status in {"failed", "pruned"} and run.candidate != choice.get(run.arm)
        if status != "finished" and not lost:
            missing[run.seed] = (*missing.get(run.seed, ()), status)
    seeds = tuple(s for s in manifest.seeds if all(s in found for found in planned.values()))
    return Runs(seeds=seeds, missing={seed: missing[seed] for seed in seeds if seed in missing})
