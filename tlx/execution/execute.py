"""Running: from a config to a Record, here or through torchrun, resumed where it stopped."""

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from tlx.base import cores, disk, durable, interrupts, names
from tlx.base.ends import Divided, Interrupted, Pruned
from tlx.base.secrecy import masked_text
from tlx.config.check import CheckError, check
from tlx.config.identity import normalise
from tlx.config.run import Run, typed
from tlx.execution import launch, lost_ranks, runs
from tlx.execution.lineage import Located, Locator, finished, known
from tlx.execution.preparing import (
    BEFORE,
    changed_inputs,
    init_of,
    prepare,
    provenance_of,
    refuse_changed,
    say,
)
from tlx.results import reading, record
from tlx.results.record import Record

CHECKPOINTS = "checkpoints"


FUSED = "fused.json"
"""In a run's folder: ids of the runs that are trained with it as one, itself included."""


ENDING_S = 60.0
"""So long a process that was killed may hold its run: it has to have its turn to end."""


def run(
    config: Mapping[str, object],
    *,
    force: bool = False,
    overrides: list[str] | None = None,
    config_dir: str | None = None,
) -> Record:
    """Trains the run that a config describes; a finished one is not run again.

    Args:
        config: composed and resolved.
        force: forget what is there and start anew.
        overrides: as given, for the run's folder.
        config_dir: the user's own groups and experiments, for the run that this one starts from.

    Raises:
        CheckError: the config is wrong.
        RunError: somebody else is at work on this run, or a parent cannot be found.
    """
    full = normalise(config)
    if problems := check(full):
        raise CheckError(problems)
    found = Locator(config_dir=config_dir).locate(typed(full))
    done = None if force else finished(found.folder)
    if done is not None:
        say(f"{found.folder.name} is finished already: {found.folder} (--force trains it again)")
        for line in changed_inputs(found.folder, found.run):
            say(line)
        return done
    for parent in found.chain[:-1]:
        if finished(parent.folder) is None:
            say(f"starts from {parent.folder.name}, which is trained first:")
            train(parent)
        else:
            say(f"starts from {parent.folder.name}")
    return train(found, overrides=overrides or [], force=force)


def train(found: Located, *, overrides: Sequence[str] = (), force: bool = False) -> Record:
    """Trains one run whose parents have finished, here or through torchrun."""
    if launch.is_first():
        prepare(found, overrides=overrides, force=force)
    if launch.wants_torchrun(found.run):
        return start_ranks(found.folder, found.run)
    return run_here(found.folder, init=found.init, run=found.run)


def start_ranks(folder: Path, run: Run) -> Record:
    """Trains a frozen run through torchrun; also raises what `after_launch` does."""
    from tlx.training.engine import memory

    def parts() -> int:
        accumulate = run.trainer.accumulate
        return memory.read(folder / CHECKPOINTS, accumulate=accumulate).accumulate

    before, stopped = 0, False
    while before < parts() and not stopped:
        if before:
            say(f"a device's memory was full: again from the last checkpoint, in {parts()} parts")
        before = parts()
        with interrupts.holding():  # one more Ctrl-C may come when the ranks have just ended
            stopped = launch.start(folder, run).stopped
            if stopped:
                cut_off(folder, "its ranks were ended before they could save")
    done = after_launch(folder)
    interrupts.REQUESTS.heed()
    return done


def after_launch(folder: Path) -> Record:
    """The record of a run whose workers have ended.

    Raises:
        Interrupted: they were asked to stop.
        Pruned: the run's search gave it up.
        Lost: they were killed.
        RunError: they failed.
    """
    found = known(folder)
    if found is not None and found.status == "finished":
        return found
    failure = lost_ranks.failure_of(folder)
    if failure is not None and found is not None and found.status in {"running", "interrupted"}:
        fail(folder, failure)  # rank 0 was ended before it could say so
        raise runs.RunError(f"the workers of {folder.name} did not finish: {failure}")
    if found is not None and (found.error or "").startswith(lost_ranks.LOST):
        raise runs.Lost(f"{found.error}; the same command goes on from the last checkpoint")
    if found is not None and found.status == "interrupted":
        raise Interrupted(found.error or "stopped")
    if found is not None and found.status == "pruned":
        raise Pruned(found.error or "pruned")
    reason = found.error if found is not None else None
    kind = runs.Lost if reason is None else runs.RunError
    raise kind(
        f"the workers of {folder.name} did not finish: {reason or 'see above'}; "
        "the same command goes on from the last checkpoint"
    )


def identify(run: Run, *, config_dir: str | None = None) -> str:
    """The id that a run gets; nothing is trained for it.

    Raises:
        RunError: the run that it starts from cannot be found, or waits for itself.
    """
    return Locator(config_dir=config_dir).locate(run).folder.name


def run_folder(folder: Path) -> Record:
    """Trains the run whose config is frozen in a folder, through torchrun where it has to be.

    Where the folder names others to be trained with it, they are all trained.

    Raises:
        RunError: the config means something else since it was frozen (a job that waited in a queue
            while tlx was brought up to date); also what `run_here` and `run_together` raise.
    """
    if (folder / FUSED).exists():
        return run_together([folder.parent / name for name in _fused(folder)])
    run = runs.read_run(folder)
    try:
        refuse_changed(run, folder)
    except runs.RunError as error:
        if launch.is_first():
            fail(folder, str(error))
        raise
    if launch.wants_torchrun(run):
        return start_ranks(folder, run)
    return run_here(folder, run=run)


def _fused(folder: Path) -> list[str]:
    """Ids of the runs that are to be trained with one."""
    path = folder / FUSED
    try:
        together = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        together = error
    if not isinstance(together, list):
        raise runs.RunError(f"{path} is damaged ({together}); delete it, and start the study again")
    if wrong := [n for n in together if not (isinstance(n, str) and names.stays_inside(n))]:
        raise runs.RunError(f"{path}: {wrong[0]!r} is no name of a run; delete it")
    return together


def run_here(folder: Path, *, init: str | None = None, run: Run | None = None) -> Record:
    """Trains (this rank of) a run, unless somebody else has just finished it.

    Args:
        folder: of the run.
        init: `hub`, `none` or a file of weights; None: what was found when the run was prepared.
        run: its config; None: what is frozen in the folder.

    Raises:
        Interrupted: a signal asked to stop; everything is saved.
        Pruned: its search gave it up.
        Busy: another process is at work on it.
        Lost: another rank is gone, or was silent for too long.
    """
    from tlx.train.train import train as train_

    cores.limit_torch()
    run = runs.read_run(folder) if run is None else run
    init = init_of(folder) if init is None else init
    if launch.is_first():
        lost_ranks.forget(folder)  # before the others are let in
    rank, world = launch.join_ranks(run)
    if rank != 0:
        with interrupts.at_work(), lost_ranks.noted(folder, rank):
            return train_(run, folder, init=init, rank=rank, world=world)
    with interrupts.at_work(), runs.at_work(folder):
        done = finished(folder)
        if done is not None and world == 1:
            return done
        return _guarded(folder, run, lambda: train_(run, folder, init=init, rank=rank, world=world))


def run_together(folders: Sequence[Path]) -> Record:
    """Trains frozen runs as one stack.

    Returns:
        The first one's record.

    Raises:
        Interrupted: a signal asked to stop; everything is saved.
        RunError: the first one failed or was pruned; others' records tell how they ended.
        Apart: they do not fit together, or one raised: what has not finished is to train alone.
    """
    from tlx.fused.members import CannotFuse, Entrant
    from tlx.fused.stack import train_together as train_stack

    with interrupts.at_work(), runs.at_work_all(folders) as busy:
        free = [folder for folder in folders if folder not in busy and finished(folder) is None]
        left = _Left({folder: runs.read_run(folder) for folder in free}, led_by=folders[0])
        try:
            left.begin()
            entrants = [Entrant(path, run, init_of(path)) for path, run in left.runs.items()]
            with interrupts.recognised():
                train_stack(entrants, over=left.over)
        except (Interrupted, interrupts.Stopped, KeyboardInterrupt) as stop:
            left.interrupted(str(stop))
            raise
        except CannotFuse as reason:
            left.interrupted(f"not as one: {reason}")
            raise runs.Apart(f"not trained together: {reason}") from reason
        except Exception as error:  # one's fault, maybe: alone, each fails or finishes by itself
            print(masked_text(traceback.format_exc()), file=sys.stderr, end="", flush=True)
            words = f"{type(error).__name__}: {error}"
            left.interrupted(f"not as one: {words}")
            raise runs.Apart(f"not trained together any longer: {words}") from error
    interrupts.REQUESTS.heed()
    return after_launch(entrants[0].folder)


@final
class _Left:
    """What is left of runs that are trained as one, and how each of them ends."""

    def __init__(self, configs: dict[Path, Run], *, led_by: Path) -> None:
        self.runs, self.leader = configs, led_by

    def begin(self) -> None:
        """Records all as running, and says in their logs which one tells of all."""
        from tlx.training.logs.writers import Writers

        with Writers() as writers:
            writers.all(record.write, self.runs, [blank(*each) for each in self.runs.items()])
        for folder in self.runs:
            if folder != self.leader:
                _note(folder, f"trained with others as one, see {self.leader / runs.LOG}")

    def over(self, folder: Path, reason: Exception | None) -> None:
        """Records how one ended that need not be trained any more."""
        run = self.runs.pop(folder)
        if reason is None:
            tidy(folder, keep=run.keep)
            return
        pruned = isinstance(reason, Pruned)
        words = str(reason) if pruned else f"{type(reason).__name__}: {reason}"
        _note(folder, words)
        _end(folder, run, "pruned" if pruned else "failed", words)

    def interrupted(self, reason: str) -> None:
        """Records the others as interrupted."""
        for folder, run in self.runs.items():
            _end(folder, run, "interrupted", reason)


def _note(folder: Path, text: str) -> None:
    with open(folder / runs.LOG, "a", encoding="utf-8") as log:
        log.write(f"{masked_text(text)}\n")


def _guarded(folder: Path, run: Run, work: Callable[[], Record]) -> Record:
    """Records how a run ended that did not finish, then lets the exception go on."""
    try:
        with interrupts.holding():
            record.write(folder, blank(folder, run))
        with interrupts.recognised():
            done = work()
        with interrupts.holding():
            tidy(folder, keep=run.keep)
    except (Interrupted, Divided, interrupts.Stopped, KeyboardInterrupt) as stop:
        if reading.status_of(folder) != "finished":  # it came when all was done but the goodbyes
            _end(folder, run, "interrupted", str(stop))
        raise
    except Pruned as stop:
        _end(folder, run, "pruned", str(stop))
        raise
    except BaseException as error:
        if lost_ranks.is_lost(error):
            status, reason = lost_ranks.verdict(folder, error)
            _end(folder, run, status, reason)
            if status == "interrupted":
                raise runs.Lost(reason) from error
            raise
        _fail(folder, run, error)
        raise
    interrupts.REQUESTS.heed()
    return done


def _fail(folder: Path, run: Run, error: BaseException) -> None:
    """Records an error, in words where it was the disk; raises those."""
    words = disk.explained(error, folder)
    try:
        _end(folder, run, "failed", f"{type(words).__name__}: {words}")
    except disk.DiskError as also:
        if also.errno != getattr(words, "errno", None):
            raise
        say(f"the record stays as it was: {also}")  # for the very reason that ended the run
    if words is not error:
        raise words


def blank(folder: Path, run: Run) -> Record:
    """The record of a run that has just begun."""
    return Record(
        run=folder.name,
        name=run.name or folder.name,
        status="running",
        task=run.task.function,
        seed=run.seed,
        budget_steps=0,
    )


def _end(folder: Path, run: Run, status: str, reason: str) -> None:
    error = masked_text(reason)
    with interrupts.holding():
        record.write(folder, replace(blank(folder, run), status=status, error=error))


def tidy(folder: Path, *, keep: str) -> None:
    """Removes what a finished run no longer needs.

    Args:
        folder: of the run.
        keep: `checkpoints`, `weights` or `record`.
    """
    shutil.rmtree(folder / BEFORE, ignore_errors=True)
    for left in folder.glob(f".*{durable.TEMPORARY}"):  # by processes that were killed
        left.unlink(missing_ok=True)
    if keep != "checkpoints":
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if keep == "record":
        (folder / runs.WEIGHTS).unlink(missing_ok=True)


def fail(folder: Path, reason: str) -> None:
    """Records that a run failed whose process could not say so itself.

    Raises:
        Busy: somebody is at work on it.
    """
    with runs.at_work(folder, patient=False):
        if finished(folder) is None:
            _end(folder, runs.read_run(folder), "failed", reason)


def cut_off(folder: Path, reason: str) -> None:
    """Records as interrupted a run whose processes were ended on request, and could not say so.

    What was killed holds the run until it has had its turn to end, and is waited for. A run that
    somebody goes on working on, or that has ended in another way, is left as it is.
    """
    until = time.monotonic() + ENDING_S
    while reading.status_of(folder) == "running":
        with runs.at_work_all([folder]) as busy:
            if not busy:
                if reading.status_of(folder) == "running":
                    _end(folder, runs.read_run(folder), "interrupted", f"stopped: {reason}")
                return
        if time.monotonic() > until or not runs.held_here(folder):
            return
        time.sleep(0.05)


def rerun(run: Run, *, into: Path, parents: Path, original: Path) -> Record:
    """Trains a frozen config anew in another runs folder.

    Args:
        run: as read from its folder.
        into: runs folder of the copy; what lies there of this run is replaced.
        parents: runs folder where the run that this one starts from is looked for.
        original: the run's folder, whose provenance says what the config meant then.

    Raises:
        RunError: the config means something else since.
    """
    refuse_changed(run, original)
    run = run.changed(logger={})  # the original's W&B run stays as it is
    _take_threads(provenance_of(parents / run.id).get("threads"))
    init, parent = run.backbone.arguments["init"], None
    if init.startswith("run:"):
        before = runs.find(init.removeprefix("run:"), runs_dir=parents)
        parent = Located(before, runs.read_run(before))
    folder = into.expanduser().absolute() / run.id
    return train(Located(folder, run, parent), force=True)


def _take_threads(threads: int | None) -> None:
    """Computes with as many threads as a run did, on which the last digits depend."""
    if threads:
        import torch

        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for ranks that are started
