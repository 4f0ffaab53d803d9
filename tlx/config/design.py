"""A study's plan: every run that belongs to it, composed and checked before any of them starts."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from tlx.base.nodes import Node
from tlx.config import schema
from tlx.config.arms import Arm, design_of, expand
from tlx.config.check import check
from tlx.config.identity import essence
from tlx.config.keys import exists
from tlx.config.limits import metrics_of
from tlx.config.overrides import key_of, quoted, text_given
from tlx.config.places import EXPERIMENT
from tlx.config.problems import CheckError, Problem
from tlx.config.suggest import listed

if TYPE_CHECKING:
    from tlx.config.compose import Composer

__all__ = ["Arm", "Cell", "StudyPlan", "candidates", "cells", "default_metric", "expand", "plan"]

SEARCH = "search"
"""The only arm of a search."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study.

    Attributes:
        arm: what it is compared as.
        candidate: tuned values as overrides joined by a space; empty where nothing is tuned.
        seed: the run's seed.
        overrides: the whole line: `tlx train *overrides` trains this run alone.
        factors: factor's key to level; empty for explicit arms.
        fold: which part of the data is its test, of a study with folds.
        config: composed and checked, without the study; grouped by the experiment's name.
    """

    arm: str
    candidate: str
    seed: int
    overrides: tuple[str, ...]
    factors: Node
    config: Mapping[str, Any]
    fold: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A study, expanded.

    Attributes:
        design: how its arms came about.
        arms: in order.
        baseline: the arm that the others are compared with; None for a search.
        metric: the primary figure, `test/accuracy`.
        seeds: of every arm.
        factors: factor's key to its levels in order.
        tuned: key to the values that each arm chooses from.
        claims: what is expected to hold.
        question: what it answers.
        folds: parts of the data, each of which is the test once; none where all runs share theirs.
        max_seeds: how many seeds it may have in all where it adds some itself; else None.
        cells: all runs, seed by seed, so that a study cut short still compares its arms; within
            a seed arm by arm, within an arm candidate by candidate. Of a search: what all of its
            trials share, a run a seed.
    """

    design: str
    arms: tuple[Arm, ...]
    baseline: str | None
    metric: str
    seeds: tuple[int, ...]
    factors: Mapping[str, tuple[object, ...]]
    tuned: Mapping[str, tuple[object, ...]]
    claims: tuple[str, ...]
    question: str | None
    cells: tuple[Cell, ...]
    folds: tuple[int | str, ...] = ()
    max_seeds: int | None = None


def cells(overrides: Sequence[str], composer: "Composer") -> list[Cell]:
    """The runs of the study that the overrides name, in the order of `StudyPlan.cells`.

    Raises:
        CheckError: as `plan`.
    """
    return list(plan(overrides, composer).cells)


def plan(overrides: Sequence[str], composer: "Composer") -> StudyPlan:
    """The study that the overrides name, expanded, each arm composed and checked.

    Raises:
        CheckError: the study's node, or an arm with one of its candidates, is wrong; all that can
            be told is told at once, and problems of single arms name the arm.
    """
    config = composer.compose(overrides, check=False)
    study = config.get("study")
    if not isinstance(study, Mapping):
        raise CheckError([Problem("study", "is missing: these overrides describe one run")])
    found = check(config)
    if wrong := [p for p in found if p.place.partition(".")[0] == "study"]:
        raise CheckError(wrong)
    design = design_of(study)
    arms = expand(study, config, overrides, choices=composer.choices(overrides))
    stated = _stated(study)
    line = _line(overrides, composer)
    made = _cells(line, arms or [Arm(SEARCH, ())], stated, composer, known=found)
    if design == "one_at_a_time":
        arms = _less_base(arms, made)
    factors = {arm.name: arm.factors for arm in arms} or {SEARCH: {}}
    group = config["group"] or text_given(overrides, EXPERIMENT)
    return StudyPlan(
        design=design,
        arms=tuple(arms),
        baseline=_baseline(stated.baseline, [arm.name for arm in arms]),
        metric=stated.metric or default_metric(config),
        seeds=tuple(stated.seeds),
        factors=levels_of(arms),
        tuned={key: tuple(values) for key, values in (stated.tune or {}).items()},
        claims=tuple(stated.claims or ()),
        question=stated.question,
        folds=folds_of(stated.folds),
        max_seeds=(stated.sequential or {}).get("max_seeds"),
        cells=tuple(
            replace(cell, factors=factors[cell.arm], config={**cell.config, "group": group})
            for cell in made
            if cell.arm in factors
        ),
    )


def at_seed(cell: Cell, seed: int, composer: "Composer") -> Cell:
    """The same run of another seed; what it differs in needs no check."""
    line = (*cell.overrides[:-1], f"seed={seed}")
    group = cell.config["group"]
    config = {**composer.compose(line, check=False), "group": group}
    return replace(cell, seed=seed, overrides=line, config=config)


def _stated(study: Node) -> schema.StudyConfig:
    """A study's node that has been checked."""
    values: dict[str, Any] = {field.name: study[field.name] for field in fields(schema.StudyConfig)}
    return schema.StudyConfig(**values)


def folds_of(stated: int | Sequence[str] | None) -> tuple[int | str, ...]:
    """The parts of the data, each of which is the test once: numbers from 0, or names of groups.

    >>> folds_of(3), folds_of(["ann", "bob"]), folds_of(None)
    ((0, 1, 2), ('ann', 'bob'), ())
    """
    return tuple(range(stated)) if isinstance(stated, int) else tuple(stated or ())


def _fold_lines(fold: int | str | None, folds: Sequence[int | str]) -> tuple[str, ...]:
    """The overrides by which a run's test is this fold."""
    if fold is None:
        return ()
    count = len(folds) if isinstance(fold, int) else "groups"
    return (f"dataset.folds={count}", f"dataset.fold={quoted(fold)}")


def _baseline(stated: str | None, arms: Sequence[str]) -> str | None:
    baseline = stated or next(iter(arms), None)
    if arms and baseline not in arms:
        message = f"{baseline!r} is the same as {arms[0]!r}; there are {listed(arms)}"
        raise CheckError([Problem("study.baseline", message, arms[0])])
    return baseline


def candidates(tune: Mapping[str, Sequence[object]]) -> list[tuple[str, ...]]:
    """The combinations of tuned values, each as overrides; one empty one where nothing is tuned.

    >>> candidates({"optimizer.lr": [0.1, 0.2]})
    [('optimizer.lr=0.1',), ('optimizer.lr=0.2',)]
    """
    choices = [[f"{key}={quoted(value)}" for value in values] for key, values in tune.items()]
    return list(itertools.product(*choices))


def default_metric(config: Node) -> str:
    """The monitored metric on `test`: the config's, else the task's own."""
    monitor = config.get("monitor")
    name = str(monitor).rpartition("/")[2] if monitor else next(iter(metrics_of(config)), "loss")
    return f"test/{name}"


def levels_of(arms: Sequence[Arm]) -> dict[str, tuple[object, ...]]:
    """Factor's key to the levels that the arms have, in the order in which they come up."""
    found: dict[str, list[object]] = {}
    for arm in arms:
        for key, value in arm.factors.items():
            levels = found.setdefault(key, [])
            if not any(value == other and type(value) is type(other) for other in levels):
                levels.append(value)
    return {key: tuple(levels) for key, levels in found.items()}


def told(
    by_arm: Mapping[str, Sequence[Problem]], *, known: Sequence[Problem] = ()
) -> list[Problem]:
    """Problems that name their arm, but for those of all arms or of the base, which are bare."""
    every = [set(problems) for problems in by_arm.values()]
    common = {*known, *(set.intersection(*every) if len(every) > 1 else ())}
    return [
        problem if problem in common else replace(problem, place=f"arm {name!r}, {problem.place}")
        for name, problems in by_arm.items()
        for problem in problems
    ]


def _line(overrides: Sequence[str], composer: "Composer") -> list[str]:
    """The overrides of one run: without the study, whoever states it."""
    kept = [text for text in overrides if key_of(text).partition(".")[0] != "study"]
    if composer.compose(kept, check=False).get("study") is not None:
        kept.append("~study")
    return kept


def _cells(
    line: Sequence[str],
    arms: Sequence[Arm],
    study: schema.StudyConfig,
    composer: "Composer",
    *,
    known: Sequence[Problem],
) -> list[Cell]:
    """Seed by seed; those of the first seed are checked, the others differ in nothing else."""
    made: list[Cell] = []
    problems: dict[str, list[Problem]] = {arm.name: [] for arm in arms}
    first, tuned = study.seeds[0], _tuned(line, arms, study.tune or {}, composer)
    tries = [(arm, candidate) for arm in arms for candidate in tuned[arm.name]]
    folds = folds_of(study.folds)
    rounds = itertools.product(study.seeds, folds or (None,))
    for (seed, fold), (arm, candidate) in itertools.product(rounds, tries):
        given = (*line, *arm.overrides, *candidate, *_fold_lines(fold, folds), f"seed={seed}")
        try:
            config = composer.compose(given, check=seed == first and fold in (None, *folds[:1]))
        except CheckError as error:
            problems[arm.name] += [p for p in error.problems if p not in problems[arm.name]]
            continue
        if any(problems.values()):
            continue
        made.append(
            Cell(
                arm=arm.name,
                candidate=" ".join(candidate),
                seed=seed,
                overrides=given,
                factors=arm.factors,
                config=config,
                fold=fold,
            )
        )
    if found := told(problems, known=known):
        raise CheckError(found)
    return made


def _tuned(
    line: Sequence[str],
    arms: Sequence[Arm],
    tune: Mapping[str, Sequence[object]],
    composer: "Composer",
) -> dict[str, list[tuple[str, ...]]]:
    """Each arm's candidates, of the keys that it has: an exact probe has no learning rate.

    Raises:
        CheckError: no arm has a key.
    """
    if not tune:
        return {arm.name: candidates({}) for arm in arms}
    found: dict[str, Mapping[str, Sequence[object]]] = {}
    for arm in arms:
        try:
            config = composer.compose((*line, *arm.overrides), check=False)
        except CheckError:  # told with the arm's other problems
            found[arm.name] = tune
            continue
        found[arm.name] = {key: values for key, values in tune.items() if exists(key, config)}
    if nowhere := [key for key in tune if not any(key in keys for keys in found.values())]:
        raise CheckError([Problem(f"study.tune.{key}", "no arm has this key") for key in nowhere])
    return {name: candidates(keys) for name, keys in found.items()}


def _less_base(arms: list[Arm], made: Sequence[Cell]) -> list[Arm]:
    """Arms without those that train the base itself, whose levels are the base's own then."""
    first: dict[str, Node] = {}
    for cell in made:
        first.setdefault(cell.arm, cell.config)
    base = essence(first[arms[0].name])
    same = [arm for arm in arms[1:] if essence(first[arm.name]) == base]
    own = dict(arms[0].factors)
    for arm in same:
        own |= {key: value for key, value in arm.factors.items() if value != arms[0].factors[key]}
    return [
        replace(
            arm,
            factors={
                key: own[key] if value == arms[0].factors[key] else value
                for key, value in arm.factors.items()
            },
        )
        for arm in arms
        if arm not in same
    ]
