"""Running: from a config to a Record, here or through torchrun, resumed where it stopped."""

import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tlx.base import cores, disk, durable, interrupts, names, sealed
from tlx.base.ends import Divided, Interrupted, Pruned
from tlx.base.secrecy import masked, masked_line, masked_text
from tlx.config import changes
from tlx.config.check import CheckError, check
from tlx.config.components import components
from tlx.config.identity import normalise
from tlx.config.run import Run, typed
from tlx.execution import launch, lost_ranks, runs
from tlx.execution.lineage import Located, Locator, finished, known
from tlx.results import provenance, reading, record
from tlx.results.record import Record

__all__ = ["Facts", "finished", "identify", "prepare", "rerun", "run", "run_here", "train"]

PROVENANCE = "provenance.json"
CHECKPOINTS = "checkpoints"
FUSED = "fused.json"
"""In a run's folder: ids of the runs that are trained with it as one, itself included."""

ENDING_S = 60.0
"""So long a process that was killed may hold its run: it has to have its turn to end."""

BEFORE = "before"
"""In a run's folder: what `--force` is about to replace."""


def run(
    config: Mapping[str, Any],
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


class Facts:
    """What many runs started by one process have in common; looked up once.

    Fingerprints of inputs are looked up again after a minute.
    """

    fresh_s = 60.0

    def __init__(self) -> None:
        """Looks nothing up yet."""
        self._inputs: dict[str, tuple[float, dict[str, str]]] = {}

    @cached_property
    def versions(self) -> dict[str, str]:
        """Installed versions."""
        return provenance.versions()

    @cached_property
    def code(self) -> dict[str, Any]:
        """Commit and difference of tlx's own checkout."""
        return provenance.git_state(Path(__file__).resolve().parent.parent)

    @cached_property
    def working_folder_code(self) -> dict[str, Any]:
        """Those of the checkout that the person is in."""
        return provenance.git_state(Path.cwd())

    def inputs(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Fingerprints of input files and folders."""
        key = repr(sorted(paths.items()))
        at, found = self._inputs.get(key, (-math.inf, {}))
        if time.monotonic() - at > self.fresh_s:
            found = provenance.stat_fingerprint(paths)
            self._inputs[key] = (time.monotonic(), found)
        return found


def prepare(
    found: Located,
    *,
    overrides: Sequence[str] = (),
    force: bool = False,
    facts: Facts | None = None,
    patient: bool = True,
) -> None:
    """Writes what a worker reads and a reader wants to know.

    Args:
        found: the run.
        overrides: as given.
        force: start anew; what is there is set aside until the run has finished.
        facts: that many runs have in common; None: looked up for this one.
        patient: as in `runs.at_work`.

    Raises:
        Busy: somebody is at work on the run.
        RunError: the parent's weights are gone.
    """
    folder, run, facts = found.folder, found.run, facts or Facts()
    if found.parent is not None and not Path(found.init).is_file():
        raise runs.RunError(
            f"backbone.init: {found.parent.folder.name} has no {runs.WEIGHTS}; "
            "train it again with --force"
        )
    if found.parent is not None:
        sealed.check(Path(found.init))
    with runs.at_work(folder, patient=patient):
        if force:
            _set_aside(folder)
        elif finished(folder) is not None:
            return  # meanwhile, by another process: its record speaks of what lies here
        if reading.status_of(folder) == "failed":  # it is about to be tried again
            (folder / record.FILE).unlink()
        runs.write_config(folder, run.plain, sync=False)
        text = "".join(f"{masked_line(line)}\n" for line in overrides)
        durable.write(folder / "overrides.txt", text, sync=False)
        lineage = []
        if found.parent is not None:
            before = provenance_of(found.parent.folder).get("lineage", [])
            lineage = [*before, found.parent.folder.name]
        try:
            earlier = provenance_of(folder)
        except (runs.RunError, sealed.Damaged) as error:
            say(f"{error}\n  it is written anew; what it said of earlier attempts is lost")
            earlier = {}
        first = {key: value for key, value in earlier.items() if key != "attempts"}
        runs.write_json(
            folder / PROVENANCE,
            masked(
                {
                    "run": folder.name,
                    "attempts": [*earlier.get("attempts", []), first] if first else [],
                    "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "versions": facts.versions,
                    "hardware": provenance.hardware(),
                    "code": facts.code,
                    "working_folder_code": facts.working_folder_code,
                    "seeds": {"seed": run.seed, "order_seed": run.order_seed},
                    "inputs": facts.inputs(input_paths(run)),
                    "init": found.init,
                    "lineage": lineage,
                    "changes": changes.marks(run.plain),
                    "components": components(run.plain),
                }
            ),
            sync=False,
        )
        durable.sync(folder / name for name in (runs.CONFIG, "overrides.txt", PROVENANCE))


def _set_aside(folder: Path) -> None:
    """Moves what a run has left into its folder `before/`, where it stays until it is replaced.

    A finished result that is there already, of an attempt to replace it that did not finish, is
    worth more than what that attempt left.
    """
    aside = folder / BEFORE
    # of a record that cannot be read nobody knows whether the run had finished
    worth = ("finished", record.UNREADABLE)
    if reading.status_of(aside) not in worth or reading.status_of(folder) in worth:
        shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name in {".lock", BEFORE}:
            continue
        if not (aside / path.name).exists():
            path.rename(aside / path.name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def provenance_of(folder: Path) -> dict[str, Any]:
    """What provenance.json of a run says; {} where there is none.

    Raises:
        RunError: it is damaged.
    """
    return runs.read_json(folder / PROVENANCE)


def init_of(folder: Path) -> str:
    """Where a run that was prepared takes its starting weights from.

    Raises:
        RunError: its provenance does not say so.
    """
    found = provenance_of(folder).get("init")
    if not isinstance(found, str):
        raise runs.damaged(folder / PROVENANCE, "it lacks init")
    return found


def input_paths(run: Run) -> dict[str, str]:
    """The files and folders outside the project that a run reads."""
    found = {}
    dataset, init = run.dataset.arguments, run.backbone.arguments["init"]
    for key in ("root", "path", "csv", "source_text"):
        if isinstance(dataset.get(key), str):
            found[f"dataset.{key}"] = dataset[key]
    if init not in {"hub", "none"} and ":" not in init:
        found["backbone.init"] = init
    return found


def changed_inputs(folder: Path, run: Run) -> list[str]:
    """What changed on disk or in the code since a finished run, a line each."""
    try:
        before = provenance_of(folder)
    except (runs.RunError, sealed.Damaged) as error:  # the run is finished all the same
        return [f"  note: whether anything changed since is not known: {error}"]
    lines = []
    now = provenance.stat_fingerprint(input_paths(run))
    for name, value in before.get("inputs", {}).items():
        if now.get(name) != value:
            lines.append(f"  note: {name} changed on disk since; --force trains on what is there")
    sha = provenance.git_state(Path(__file__).resolve().parent.parent).get("sha")
    if before.get("code", {}).get("sha") != sha:
        lines.append("  note: the code has changed since (provenance.json has its commit)")
    return lines


def say(text: str) -> None:
    """A line for the person, on rank 0 only."""
    if launch.is_first():
        print(text, flush=True)


# -- one run, in this process -----------------------------------------------------------------


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
    from tlx.training.logs.writers import Writers

    left: dict[Path, Run] = {}

    def over(folder: Path, reason: Exception | None) -> None:
        run = left.pop(folder)
        if reason is None:
            tidy(folder, keep=run.keep)
        else:
            pruned = isinstance(reason, Pruned)
            said = str(reason) if pruned else f"{type(reason).__name__}: {reason}"
            note(folder, said)
            _end(folder, run, "pruned" if pruned else "failed", said)

    def note(folder: Path, text: str) -> None:
        with open(folder / runs.LOG, "a", encoding="utf-8") as log:
            log.write(f"{masked_text(text)}\n")

    with interrupts.at_work(), runs.at_work_all(folders) as busy:
        for folder in folders:
            if folder not in busy and finished(folder) is None:
                left[folder] = runs.read_run(folder)
        try:
            with Writers() as writers:
                writers.all(record.write, left, [blank(*each) for each in left.items()])
            for folder in left:
                if folder != folders[0]:
                    note(folder, f"trained with others as one, see {folders[0] / runs.LOG}")
            entrants = [Entrant(folder, run, init_of(folder)) for folder, run in left.items()]
            with interrupts.recognised():
                train_stack(entrants, over=over)
        except CannotFuse as reason:
            for folder, run in left.items():
                _end(folder, run, "interrupted", f"not as one: {reason}")
            raise runs.Apart(f"not trained together: {reason}") from reason
        except (Interrupted, interrupts.Stopped, KeyboardInterrupt) as stop:
            for folder, run in left.items():
                _end(folder, run, "interrupted", str(stop))
            raise
        except Exception as error:  # one's fault, maybe: alone, each fails or finishes by itself
            print(masked_text(traceback.format_exc()), file=sys.stderr, end="", flush=True)
            said = f"{type(error).__name__}: {error}"
            for folder, run in left.items():
                _end(folder, run, "interrupted", f"not as one: {said}")
            raise runs.Apart(f"not trained together any longer: {said}") from error
    interrupts.REQUESTS.heed()
    return after_launch(entrants[0].folder)


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


def refuse_changed(run: Run, folder: Path) -> None:
    """Refuses to take up a run whose config means something else since it was frozen.

    Raises:
        RunError: with each change, the commit that trained the run, and the key that still says
            the old meaning, where there is one; or functions of the project that were edited.
    """
    before = provenance_of(folder)
    code = components(run.plain)
    if edited := sorted(n for n, had in before.get("components", {}).items() if code.get(n) != had):
        commit = before.get("working_folder_code", {}).get("sha") or "unknown"
        raise runs.RunError(
            f"{folder.name} was frozen with other code of {', '.join(edited)}; the line that "
            f"started it starts today's, under another id; the project's commit was {commit}"
        )
    lacking = changes.lacking(run.plain, before.get("changes", []))
    if not lacking:
        return
    commit = before.get("code", {}).get("sha")
    lines = [f"{folder.name} was frozen when its config meant something else:"]
    for change in lacking:
        lines.append(f"  {change.mark} (since tlx {change.since}): {change.what}")
        if change.old:
            lines.append(f"    {change.old} in its config asks for the old meaning")
    lines.append(f"  it was frozen at commit {commit or 'unknown'}; run it there")
    raise runs.RunError("\n".join(lines))


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
    _take_threads(provenance_of(parents / run.id))
    init, parent = run.backbone.arguments["init"], None
    if init.startswith("run:"):
        before = runs.find(init.removeprefix("run:"), runs_dir=parents)
        parent = Located(before, runs.read_run(before))
    folder = into.expanduser().absolute() / run.id
    return train(Located(folder, run, parent), force=True)


def _take_threads(said: Mapping[str, Any]) -> None:
    """Computes with as many threads as a run did, on which the last digits depend."""
    threads = said.get("threads")
    if threads:
        import torch

        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for ranks that are started
