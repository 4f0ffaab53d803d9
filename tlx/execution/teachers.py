"""The frozen networks that a run's penalties compare with: its own start, finished runs, inits."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tlx.building.networks import model
from tlx.config.run import Run
from tlx.execution import finished, runs
from tlx.tasks.model import Model
from tlx.training.effects import Reference, Regularization
from tlx.training.reuse.references import OUTPUTS, FrozenNetwork, References

if TYPE_CHECKING:  # a check looks at teachers too, and needs no trainer, which is slow to import
    from tlx.training.session import Plan

START = "start"


def references_of(plan: "Plan") -> References | None:
    """The frozen networks that a run's options read; None where none reads any.

    Args:
        plan: of a run, whose network has its starting weights.

    Raises:
        RunError: a finished run cannot be found, or has no weights.
        ValueError: a network does not fit the run.
    """
    run, parts = plan.run, plan.effects.of(Reference)
    models: dict[str, Model] = {}
    reads: dict[str, set[str]] = {}
    for option, part in parts.items():
        if part.of not in models:
            models[part.of] = _model(run, plan, part.of)
        why = _why_not(part, models[part.of], plan)
        if why is not None:
            raise ValueError(f"regularization.{option} compares with {part.of}, {why}")
        reads.setdefault(part.of, set()).update(part.reads)
    if not parts:
        return None
    frozen = {of: FrozenNetwork(made.network, reads=[*reads[of]]) for of, made in models.items()}
    return References(frozen, {option: part.of for option, part in parts.items()})


def check_runs(run: Run, effects: Regularization) -> None:
    """Looks whether the finished runs that options compare with are there.

    Raises:
        ValueError: one cannot be found, or has no weights.
    """
    for option, part in effects.of(Reference).items():
        if _is_run(part.of):
            try:
                finished.facts(_folder(run, part.of))
            except runs.RunError as error:
                raise ValueError(f"regularization.{option} compares with a run: {error}") from error


def _model(run: Run, plan: "Plan", of: str) -> Model:
    """A network of its own, which nothing trains."""
    if of == START:
        return replace(plan.model, network=copy.deepcopy(plan.model.network))
    if _is_run(of):
        return finished.load(_folder(run, of))[1]
    # the run's own adapters are no part of other weights
    full = {"_target_": "tlx.methods.strategies.full"}
    plain = run.changed(freeze_strategy=full, init_head="new")
    corpus = partial(plan.splits.inputs.corpus, plan.splits.train)
    return model(plain, plan.splits.labels, effects=Regularization(), corpus=corpus, init=of)


def _folder(run: Run, of: str) -> Path:
    return runs.find(of.removeprefix("run:"), runs_dir=run.runs_dir)


def _is_run(of: str) -> bool:
    return of.startswith("run:") or (Path(of) / runs.CONFIG).is_file()


def _why_not(part: Reference, made: Model, plan: "Plan") -> str | None:
    """Why what a network gives for this run's inputs means nothing."""
    own, theirs = plan.model.backbone.reads.plain(), made.backbone.reads.plain()
    keys = sorted(own.keys() | theirs.keys())
    differ = [key for key in keys if own.get(key) != theirs.get(key)]
    if differ:
        return f"which reads other inputs: {differ[0]} differs; choose one that reads the same"
    if OUTPUTS not in part.reads or part.of == START:
        return None
    if not _is_run(part.of):
        return "which has no head and so no outputs; read its features, or choose a run"
    if part.same_labels and made.task.labels != plan.splits.labels:
        return "which was trained for other labels; choose another run"
    return None
