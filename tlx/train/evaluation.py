"""Figures of a run on its splits, and what is written of them."""

from collections.abc import Mapping
from pathlib import Path

from tlx.data.splits import Split
from tlx.execution import runs
from tlx.results import predictions
from tlx.tasks.task import Collected, Report
from tlx.train.finish import write_predictions
from tlx.training.collect import broadcast
from tlx.training.session import Session

Reports = dict[str, Report]
"""Of each split, what its task reports."""

START = "start.json"
"""Beside a run's checkpoints: what its starting weights were found to be."""


def evaluate_start(session: Session) -> Reports:
    """Figures of the starting weights on the data that they come from, by `NAME_before`.

    They are kept beside the checkpoints: a run that goes on has those that it began with.
    """
    name = session.plan.splits.source
    if name is None:
        return {}
    path, identity = session.checkpoints / START, session.identity
    known = broadcast(_known_start(path, identity))
    if known is not None:
        return known
    split, before = session.plan.splits.extra[name], f"{name}_before"
    collected = session.plan.procedure.collect(session, split)
    if collected is None:
        return {}
    reports = {before: _reported(session, before, split, collected)}
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(path, {"identity": identity, "reports": reports})
    return reports


def _known_start(path: Path, identity: Mapping[str, str]) -> Reports | None:
    """What an earlier launch found of the starting weights; None: they are to be evaluated."""
    try:
        known = runs.read_json(path)
    except runs.RunError:  # damaged; what is found anew is the same
        return None
    reports: Reports | None = known.get("reports")
    return reports if known.get("identity") == identity else None


def evaluate(session: Session) -> Reports:
    """Final figures of every evaluation split; predictions are written beside (rank 0)."""
    reports = {}
    for name, split in session.plan.evaluated.items():
        collected = session.plan.procedure.collect(session, split)
        if collected is not None:
            reports[name] = _reported(session, name, split, collected)
    return reports


def _reported(session: Session, name: str, split: Split, collected: Collected) -> Report:
    """Figures of a split, whose predictions are written unless it is `val`."""
    if name != "val":
        write_predictions(session.folder, name, split, session.plan, collected)
    return session.plan.model.task.report(collected)


def write_generated(session: Session) -> None:
    """What the network makes of the test split; all ranks compute, rank 0 writes."""
    plan = session.plan
    files = plan.model.task.generated(
        plan.model.network.to(session.device),
        plan.splits.test,
        plan.model.backbone.reads,
        seed=plan.run.seed,
    )
    for name, text in files.items() if session.share.rank == 0 else ():
        predictions.write_text(session.folder / "predictions" / name, text)
