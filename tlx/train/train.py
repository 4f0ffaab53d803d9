"""One run on one rank: from its plan through training and evaluation to its Record."""

import time
from dataclasses import replace
from pathlib import Path

import torch

from tlx.base import interrupts
from tlx.base.ends import Interrupted
from tlx.building import plans
from tlx.config.run import Run
from tlx.execution import launch, runs
from tlx.execution.teachers import references_of
from tlx.results import kept_weights, record
from tlx.results.record import Record
from tlx.train import evaluation, finish
from tlx.train.records import record_of
from tlx.training.engine import sharding
from tlx.training.loaders import RankShare
from tlx.training.logs import tables
from tlx.training.session import Plan, Session


def train(run: Run, folder: Path, *, init: str, rank: int, world: int) -> Record:
    """Trains and evaluates; rank 0 writes everything.

    Args:
        run: its config.
        folder: of the run.
        init: `hub`, `none` or a file of weights.
        rank: of this process.
        world: number of processes.
    """
    started = time.monotonic()
    torch.use_deterministic_algorithms(run.trainer.deterministic, warn_only=True)
    plan = plans.plan(run, init=init)
    plan = replace(plan, references=references_of(plan))
    launch.same_everywhere("data", plan.splits.fingerprint)
    launch.same_everywhere("starting weights", plan.model.backbone.weights_id)
    return carry_out(plan, folder, share=RankShare(rank, world), started=started)


def carry_out(plan: Plan, folder: Path, *, share: RankShare, started: float) -> Record:
    """Does what is planned, whatever its procedure is, and evaluates what comes of it.

    Args:
        plan: of the run.
        folder: of the run, with its provenance.
        share: of this process.
        started: when work on the run began, by the monotonic clock.
    """
    first = share.rank == 0
    session = Session(
        folder,
        plan,
        share,
        loggers=finish.loggers_of(plan.run, folder) if first else (),
        progress=folder / runs.PROGRESS if first else None,
    )
    if first:
        finish.note_inputs(folder, plan)
        for line in plan.model.backbone.notes:
            print(line)
        noun = plan.model.task.targets.noun
        overview = tables.overview(folder.name, plan.splits, plan.pace, plan.spans, noun=noun)
        print(overview, flush=True)
        print(plan.procedure.describe(session), flush=True)
    status = "failed"
    try:
        finished = _worked(session, started=started)
        launch.wait_for_all()
        status = "finished"
    except BaseException as error:
        if isinstance(error, (Interrupted, interrupts.Stopped, KeyboardInterrupt)):
            status = "interrupted"
        raise
    finally:
        for logger in session.loggers:
            with interrupts.given_up_on_request():  # W&B may wait for its server
                logger.finish(status)
    return finished


def _worked(session: Session, *, started: float) -> Record:
    """Everything between a run's loggers' beginning and their end."""
    plan, folder = session.plan, session.folder
    before = evaluation.evaluate_start(session)
    with session.display:
        progress = plan.procedure.run(session)
    reports = {**evaluation.evaluate(session), **before}
    evaluation.write_generated(session)
    progress.notes |= session.at_once.notes()
    made = record_of(plan, folder, progress, reports, time.monotonic() - started)
    state = sharding.on_cpu(plan.model.network.state_dict())
    if session.share.rank == 0:
        finish.save_weights(folder, plan, state)
        finish.show(session.loggers, plan, reports)
        made = record.write_finished(folder, made, weights=plan.run.keep != "record")
        kept = kept_weights.sentence(made)
        print(tables.result(made, folder, kept=kept), flush=True)
    return made
