"""Studies: expanded to runs, written down, driven to their ends, and read back."""

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tlx.base import names
from tlx.config import sweep
from tlx.config.check import CheckError, Problem
from tlx.config.compose import Composer
from tlx.config.design import SEARCH, Cell, StudyPlan, at_seed
from tlx.config.design import plan as planned
from tlx.config.limits import metrics_of
from tlx.config.overrides import key_of, text_given
from tlx.config.run import Run, typed
from tlx.config.schema import ExecutorConfig
from tlx.execution import launch, preparing, runs
from tlx.execution.lineage import Located, Locator
from tlx.results import manifest as manifests
from tlx.results.manifest import Manifest, PlannedRun
from tlx.sweeps import searching
from tlx.sweeps.driven import driving
from tlx.sweeps.driver import Driver, Pending
from tlx.sweeps.executors import make
from tlx.sweeps.growing import Growing, Seeded
from tlx.sweeps.searching import Space, Trials

CANCEL = "cancel"
"""File in a study's folder that asks its drivers to stop."""

NOT_NAMING = ("runs_dir", "executor", "logger", "keep", "name", "study", "search.trials")
"""Keys that make no other study of an experiment, though they may make it larger or smaller."""


@dataclass(frozen=True)
class PlannedStudy:
    """A study, ready to be driven.

    Attributes:
        name: of the study and of its folder.
        folder: where manifest and report lie.
        plan: its design, expanded.
        ids: of the plan's runs, in its order.
        tasks: one a run, parents first.
        parents: ids of the runs that others start from.
        executor: options of the config's node.
        space: what a search looks through.
        at_seed: gives a run another seed; of a study that may add some.
    """

    name: str
    folder: Path
    plan: StudyPlan
    ids: tuple[str, ...]
    tasks: tuple[Pending, ...]
    parents: tuple[str, ...]
    executor: ExecutorConfig
    space: Space | None = None
    at_seed: Callable[[Cell, int], Seeded] | None = None

    @property
    def runs_dir(self) -> Path:
        """Where its runs live."""
        return self.folder.parent.parent


def study(
    overrides: Sequence[str],
    *,
    config_dir: str | None = None,
    multirun: bool = False,
    force: bool = False,
) -> PlannedStudy:
    """The study that the overrides name, expanded; nothing is started or written.

    Args:
        overrides: `experiment=NAME` and what the person changed; with `multirun`, values to sweep.
        config_dir: the user's own groups and experiments.
        multirun: `tlx train -m`.
        force: forget finished runs and train them again.

    Raises:
        CheckError: the study, or an arm of it, is wrong.
        RunError: a run that others start from cannot be found.
    """
    if launch.inside_launcher():
        raise runs.RunError(
            "a study starts its runs itself, each with its own devices: start it without torchrun "
            "or srun"
        )
    composer = Composer(config_dir)
    made = (sweep.plan if multirun else planned)(list(overrides), composer)
    first = typed(made.cells[0].config)
    name = name_of(overrides, multirun)
    runs_dir = Path(first.runs_dir).expanduser().absolute()
    folder = runs_dir / manifests.STUDIES / name
    locator = Locator(config_dir=config_dir)
    if made.design == "search":
        what = searching.space(
            made.cells[0].config,
            line=made.cells[0].overrides[:-1],
            study=name,
            seeds=made.seeds,
            metric=made.metric,
            composer=composer,
            locator=locator,
        )
        parents, starts = _starts([locator.locate(first)], metric=made.metric)
        return PlannedStudy(name, folder, made, (), starts, parents, first.executor, what)

    def pending(cell: Cell) -> Pending:
        place = locator.locate(labelled(cell, study=name))
        return Pending(place, title(cell), cell.overrides, metric=made.metric, fresh=force)

    def seeded(cell: Cell, seed: int) -> Seeded:
        other = at_seed(cell, seed, composer)
        task = pending(other)
        before = _starts([task.found], metric=made.metric)[1]
        return _planned(task.run, other), [*before, task]

    wanted = [pending(cell) for cell in made.cells]
    parents, starts = _starts([task.found for task in wanted], metric=made.metric)
    tasks: dict[str, Pending] = {}
    for task in (*starts, *wanted):
        tasks.setdefault(task.run, task)
    ids, every = tuple(task.run for task in wanted), tuple(tasks.values())
    add = seeded if made.max_seeds else None
    return PlannedStudy(name, folder, made, ids, every, parents, first.executor, at_seed=add)


def _starts(
    places: Sequence[Located], *, metric: str
) -> tuple[tuple[str, ...], tuple[Pending, ...]]:
    """Ids and tasks of the runs that these start from, each once, the oldest first."""
    found: dict[str, Pending] = {}
    for place in places:
        for parent in place.chain[:-1]:
            if parent.folder.parent == place.folder.parent:
                task = Pending(parent, f"start {parent.folder.name}", metric=metric)
                found.setdefault(task.run, task)
    return tuple(found), tuple(found.values())


def labelled(cell: Cell, *, study: str) -> Run:
    """A cell's run with what loggers show of it: study, arm, factors."""
    factors = cell.factors or {"arm": cell.arm}
    tags = [f"{key.rpartition('.')[2]}={value}"[:64] for key, value in factors.items()]
    return typed({**cell.config, "group": study, "arm": cell.arm, "tags": tags})


def title(cell: Cell) -> str:
    """A run's name in lines of text."""
    fold = [] if cell.fold is None else [f"fold {cell.fold}"]
    tuned = [cell.candidate] if cell.candidate else []
    return " ".join([cell.arm, *tuned, f"seed {cell.seed}", *fold])


def name_of(overrides: Sequence[str], multirun: bool = False) -> str:
    """`group=NAME`, or the experiment's name with a hash of what else the line changes.

    Raises:
        CheckError: the group is no name of a folder.

    >>> name_of(["experiment=labels_curve", "executor.workers=4"])
    'labels_curve'
    """
    group, experiment = (text_given(overrides, key) for key in ("group", "experiment"))
    if group not in {None, "", "null"}:
        return _folder_name(str(group))
    base = "sweep" if experiment is None else experiment.replace("/", "_").lstrip(".-")
    others = sorted(
        text
        for text in overrides
        if key_of(text) != "experiment"
        and not {key_of(text), key_of(text).partition(".")[0]} & set(NOT_NAMING)
    )
    if not others and not multirun:
        return base
    return f"{base}-{hashlib.sha256(json.dumps(others).encode()).hexdigest()[:8]}"


def _folder_name(group: str) -> str:
    """A group as the name of its study's folder."""
    name = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", group))
    if wrong := names.fault(name):
        reason = f"{group!r} is to name the study's folder, and {wrong}"
        raise CheckError([Problem("group", reason, None)])
    return name


def manifest(made: PlannedStudy, *, command: Sequence[str]) -> Manifest:
    """What is written down of a study."""
    plan, first = made.plan, made.plan.cells[0].config
    directions = metrics_of(first)
    mode = directions.get(plan.metric.rpartition("/")[2], "max")
    return Manifest(
        study=made.name,
        question=plan.question,
        design=plan.design,
        baseline=plan.baseline,
        metric=plan.metric,
        mode=mode,
        directions=directions,
        claims=tuple(plan.claims),
        seeds=tuple(plan.seeds),
        arms=tuple(arm.name for arm in plan.arms) or (SEARCH,),
        factors=plan.factors,
        tuned=plan.tuned,
        runs=tuple(
            _planned(run, cell)
            for run, cell in zip(made.ids, plan.cells, strict=made.space is None)
        ),
        parents=made.parents,
        command=tuple(command),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        folds=plan.folds,
        sequential={"max_seeds": plan.max_seeds, "first": len(plan.seeds)}
        if plan.max_seeds
        else {},
    )


def _planned(run: str, cell: Cell) -> PlannedRun:
    return PlannedRun(
        run=run,
        arm=cell.arm,
        seed=cell.seed,
        candidate=cell.candidate,
        overrides=tuple(cell.overrides),
        factors=cell.factors,
        fold=cell.fold,
    )


def drive(made: PlannedStudy, *, command: Sequence[str], retry_failed: bool = False) -> Driver:
    """Writes the manifest, and trains what is missing; the driver tells how it went.

    Raises:
        Busy: somebody cleans the study.
    """
    with driving(made.runs_dir, made.name):
        return _drive(made, command=command, retry_failed=retry_failed)


def _drive(made: PlannedStudy, *, command: Sequence[str], retry_failed: bool) -> Driver:
    (made.folder / CANCEL).unlink(missing_ok=True)
    driver = Driver(
        make(made.executor, runs_dir=made.runs_dir, name=made.name),
        made.runs_dir,
        max_restarts=made.executor.max_restarts,
        retry_failed=retry_failed,
        cancelled=(made.folder / CANCEL).exists,
    )
    try:
        if made.space is not None:
            _search(made, made.space, driver, command=command)
        else:
            planned = manifest(made, command=command)
            if made.at_seed is not None:
                planned = _grow(made, planned, made.at_seed, driver)
            _write(made, planned)
            driver.add(made.tasks)
            driver.drive()
    finally:
        driver.executor.close()
    return driver


def _grow(
    made: PlannedStudy, planned: Manifest, seeded: Callable[[Cell, int], Seeded], driver: Driver
) -> Manifest:
    """Has a driver add seeds (a mutator of it); returns the manifest to begin with."""
    growing = Growing(planned, made.plan.cells, folder=made.folder, at_seed=seeded, say=driver.say)
    growing.hand(made.tasks)
    driver.more, driver.done = growing.more, growing.done
    return growing.manifest()


def _write(made: PlannedStudy, planned: Manifest) -> None:
    """Writes the manifest; tells of runs that the study had and has no longer."""
    try:
        before = {run.run for run in manifests.read(made.folder).runs}
    except manifests.ManifestError:
        before = set()
    if made.at_seed is None and (gone := before - set(made.ids)):
        preparing.say(
            f"note: {made.name} has changed: {len(gone)} of the {len(before)} runs that it had are "
            "no longer among its own (they stay on disk)"
        )
    manifests.write(made.folder, planned)


def _search(made: PlannedStudy, what: Space, driver: Driver, *, command: Sequence[str]) -> None:
    """Drives trials until the budget is reached; the manifest lists those there are."""
    found = what.open(made.folder)
    try:
        trials = Trials(what, found)

        def write() -> None:
            planned = manifest(made, command=command)
            said = {
                "sampler": found.sampler,
                "objectives": dict(found.objectives),
                "storage": found.storage,
                "name": found.name,
                "budget": found.budget,
            }
            written = replace(planned, runs=tuple(trials.planned()), search=said)
            manifests.write(made.folder, written)

        def over(task: Pending) -> None:
            trials.over(task)
            write()

        driver.more, driver.done, driver.over = trials.more, found.done, over
        driver.total = found.budget * len(what.seeds) + len(made.tasks)
        driver.add(made.tasks)
        driver.drive()
        write()
    finally:
        found.close()
