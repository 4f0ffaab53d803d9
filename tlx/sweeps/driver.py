"""The driver: starts what is missing of a study, once each, and tells how each run ended."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, final

from tlx.base import sealed
from tlx.base.interrupts import Asked
from tlx.base.secrecy import masked
from tlx.execution import execute, preparing, runs
from tlx.execution.lease_places import leases
from tlx.execution.lineage import Located
from tlx.results import reading, record
from tlx.sweeps import fuse
from tlx.sweeps.executor import Ended, Executor, Job
from tlx.training.engine.pruning import FILE as SEARCH

State = Literal[
    "waiting", "running", "elsewhere", "finished", "failed", "pruned", "stopped", "blocked"
]
OVER = frozenset(("finished", "failed", "pruned", "blocked"))

LOOK_EVERY_S = 1.0
"""How often it is looked at what other drivers do."""


@dataclass
class Pending:
    """One run, as this launch of the study sees it.

    Attributes:
        found: its place, its config, and the run that it starts from.
        title: for lines of text, `lp_ft seed 3`.
        overrides: of the whole line.
        metric: the figure shown when it has finished, `test/accuracy`.
        state: `elsewhere` is at work in another process, `blocked` starts from a run that failed,
            or whose weights are damaged or gone.
        reason: why it failed.
        fresh: forget what is there when it starts.
        search: what the run is told of the search that it is a trial of.
        alone: whether it is not to be trained with others as one.
        restarts: times it was lost without getting further.
        reached: the step that it had reached when it was lost.
    """

    found: Located
    title: str
    overrides: tuple[str, ...] = ()
    metric: str | None = None
    state: State = "waiting"
    reason: str | None = None
    fresh: bool = False
    search: Mapping[str, object] | None = None
    alone: bool = False
    restarts: int = 0
    reached: int = -1

    @cached_property
    def stack(self) -> str | None:
        """Equal for tasks that may be trained as one; None for one that is trained alone."""
        return fuse.key(self.found)

    @property
    def begun(self) -> int:
        """The step that it will go on from."""
        return 0 if self.fresh else fuse.begun(self.found.folder)

    @property
    def run(self) -> str:
        """The run's id."""
        return self.found.folder.name

    @property
    def job(self) -> Job:
        """What an executor is handed."""
        trainer = self.found.run.trainer
        return Job(self.found.folder, trainer.devices, trainer.nodes)


@final
@dataclass
class Driver:
    """Drives the tasks of a study to their ends.

    Attributes:
        executor: what they are handed to.
        runs_dir: where runs live; all tasks' runs do.
        max_restarts: of a run that was killed from outside and got no further.
        retry_failed: whether runs that failed in an earlier launch are started again.
        cancelled: whether somebody has asked for an end.
        more: new tasks, where a search has any; called while there is room.
        done: whether no more tasks will come.
        over: told of every task that is at its end, again if it is added again.
        say: prints a line.
    """

    executor: Executor
    runs_dir: Path
    max_restarts: int = 2
    retry_failed: bool = False
    cancelled: Callable[[], bool] = lambda: False
    more: Callable[[], Sequence[Pending]] = tuple
    done: Callable[[], bool] = lambda: True
    over: Callable[[Pending], None] = lambda task: None
    say: Callable[[str], None] = preparing.say
    tasks: dict[str, Pending] = field(default_factory=dict)
    total: int | None = None
    stopping: bool = False

    def __post_init__(self) -> None:
        """Opens the leases of the folder of runs."""
        self.leases = leases(self.runs_dir)
        self.facts = preparing.Facts()
        self.looked = -LOOK_EVERY_S
        self.together: dict[str, list[Pending]] = {}
        self.asked = Asked()

    def add(self, tasks: Sequence[Pending]) -> None:
        """Takes tasks; one whose run is known already is the same task."""
        for task in tasks:
            known = self.tasks.setdefault(task.run, task)
            if known is task:
                self._look(task, first=True)
            elif known.state in OVER:
                self.over(known)

    def drive(self) -> None:
        """Works until every task is over, or until it is asked to stop."""
        with self.asked.heard_by(self._ask):
            try:
                self._drive()
            except Exception:
                self._stop()  # what runs is saved, whatever is wrong with what does not
                raise
            if self.stopping:
                self._stop()

    def _drive(self) -> None:
        while not self.stopping:
            self._others()
            self._dispatch()
            active = [t for t in self.tasks.values() if t.state not in OVER]
            # a stack's process tidies up after its last run is recorded
            if not active and not self.together and self.done():
                break
            for end in self.executor.ended(LOOK_EVERY_S):
                self._take(end)
            if active and not any(t.state in {"running", "waiting"} for t in active):
                time.sleep(LOOK_EVERY_S / 2)  # all that is left is at work elsewhere
            self.stopping = self.stopping or self.cancelled()

    # -- what there is to do ------------------------------------------------------------------

    def _look(self, task: Pending, *, first: bool = False) -> None:
        """Reads from its folder how far a task is (a mutator of the task)."""
        status = reading.status_of(task.found.folder)
        if status == "finished" and not (first and task.fresh):
            self._end(task, "finished", quiet=first)
        elif status == "failed" and not (first and (self.retry_failed or task.fresh)):
            self._end(task, "failed", record.error_of(task.found.folder), quiet=first)
        elif status == "pruned" and not first:
            self._end(task, "pruned")
        elif status == record.UNREADABLE and not task.fresh:
            self._unreadable(task, again=first and self.retry_failed)

    def _unreadable(self, task: Pending, *, again: bool) -> None:
        """Ends a task whose record cannot be read, or has it go on from what else there is.

        What looks like a finished run, whose checkpoints are gone, is not trained again unasked.
        """
        folder = task.found.folder
        results = (folder / name for name in (runs.WEIGHTS, sealed.PREDICTIONS))
        over = not (folder / "checkpoints").exists() and any(path.exists() for path in results)
        reason = record.error_of(folder)
        if again or not over:
            aside = record.set_aside(folder)
            self.say(f"  {task.title}: {first_line(reason)}\n    moved to {aside.name}")
        else:
            self._end(task, "failed", reason)

    def _others(self) -> None:
        """Looks again at what other processes are at work on."""
        if time.monotonic() - self.looked < LOOK_EVERY_S:
            return
        self.looked = time.monotonic()
        for group in self.together.values():
            for task in group:
                if task.state == "running":
                    self._look(task)
        away = [task for task in self.tasks.values() if task.state == "elsewhere"]
        held = self.leases.held() if away else {}
        for task in away:
            self._look(task)
            if task.state == "elsewhere" and task.run not in held:
                task.state = "waiting"

    def _dispatch(self) -> None:
        for task in [task for task in self.tasks.values() if task.state == "waiting"]:
            if task.state != "waiting" or not self._startable(task):
                continue
            if not self.executor.room(task.job):
                return
            self._start(*self._stack(task))
        while self.executor.room(Job(self.runs_dir)) and (new := self.more()):
            self.add(new)
            for task in new:
                task = self.tasks[task.run]
                if task.state == "waiting" and self._startable(task):
                    if not self.executor.room(task.job):
                        return
                    self._start(*self._stack(task))

    def _startable(self, task: Pending) -> bool:
        """Whether what a task starts from is there; where it never will be, the task is over."""
        if task.found.parent is None:
            return True
        parent = self.tasks.get(task.found.parent.folder.name)
        if parent is None or parent.state == "finished":
            return True
        if parent.state in {"failed", "blocked", "pruned"}:
            self._block(task, f"starts from {parent.run}, which failed: {parent.reason}")
        return False

    def _block(self, task: Pending, reason: str) -> None:
        """Ends a task that cannot be started.

        Raises:
            RunError: it is a trial; all of a search start alike, and are not to be spent on that.
        """
        if task.search is not None:
            raise runs.RunError(f"{task.title} cannot be started: {reason}")
        self._end(task, "blocked", reason)

    def _stack(self, first: Pending) -> list[Pending]:
        """The task, and what waits and may be trained with it as one."""
        if first.alone or first.stack is None:
            return [first]
        alike = [
            task
            for task in self.tasks.values()
            if task.state == "waiting" and not task.alone and task.stack == first.stack
        ]
        step = first.begun
        together = [task for task in alike if task.begun == step and self._startable(task)]
        return together[: fuse.MOST]

    def _start(self, *tasks: Pending) -> None:
        """Starts tasks as one job; those that turn out to be done, or at work, are left out."""
        ready = [task for task in tasks if self._prepare(task)]
        if not ready:
            return
        leader = ready[0]
        if len(ready) > 1:
            self.together[leader.run] = ready
            names = [task.run for task in ready]
            runs.write_json(leader.found.folder / execute.FUSED, names)
            titles = [task.title for task in ready[:8]] + ["…"] * (len(ready) > 8)
            self.say(f"  {len(ready)} runs are trained as one: {', '.join(titles)}")
        else:
            (leader.found.folder / execute.FUSED).unlink(missing_ok=True)
        self.executor.start(leader.job)

    def _prepare(self, task: Pending) -> bool:
        """Whether a task can be started now; its folder then holds what a worker reads."""
        if not task.fresh:
            self._look(task, first=self.retry_failed)
        if task.state != "waiting":
            return False
        try:
            preparing.prepare(
                task.found,
                overrides=task.overrides,
                force=task.fresh,
                facts=self.facts,
                patient=False,  # it looks again each second anyway
            )
        except runs.Busy:
            task.state = "elsewhere"
            return False
        except (runs.RunError, sealed.Damaged) as error:  # of what it starts from: others need not
            self._block(task, str(error))
            return False
        if task.search is not None:
            runs.write_json(task.found.folder / SEARCH, masked(task.search))
        else:
            (task.found.folder / SEARCH).unlink(missing_ok=True)
        task.fresh = False
        task.state = "running"
        return True

    # -- how it ended -------------------------------------------------------------------------

    def _take(self, end: Ended) -> None:
        group = self.together.pop(end.folder.name, None)
        apart = []
        for task in group or [self.tasks[end.folder.name]]:
            if group is not None and task.state == "running":
                self._look(task)  # each has a record of its own
            if task.state in OVER:
                continue
            if group is None or end.outcome in {"lost", "interrupted"}:
                self._take_one(task, end)
            elif end.outcome in {"finished", "pruned"}:
                task.state = "elsewhere"  # somebody else had it when the stack began
            else:
                apart.append(task)
        if apart:
            self._apart(apart, end.reason)

    def _apart(self, tasks: Sequence[Pending], reason: str | None) -> None:
        """Has tasks trained alone that did not end with those they were trained with."""
        said = reason or record.error_of(tasks[0].found.folder) or "the others have ended"
        self.say(f"  {len(tasks)} of them to be trained alone: {first_line(said)}")
        for task in tasks:
            task.alone, task.state = True, "waiting"

    def _take_one(self, task: Pending, end: Ended) -> None:
        if end.outcome == "busy":
            task.state = "elsewhere"
        elif end.outcome in {"lost", "interrupted"}:
            said = end.reason or record.error_of(task.found.folder) or "stopped from outside"
            self._again(task, first_line(said))
        elif end.outcome == "failed":
            self._failed(task, end.reason)
        else:
            self._end(task, "pruned" if end.outcome == "pruned" else "finished")

    def _again(self, task: Pending, reason: str) -> None:
        """Starts a run again that was killed from outside, unless it gets no further."""
        step = reached(task.found.folder)
        task.restarts = 0 if step > task.reached else task.restarts + 1
        task.reached = max(step, task.reached)
        if task.restarts > self.max_restarts:
            times = f"{task.restarts} times without getting further than step {task.reached}"
            self._failed(task, f"{reason}; {times}")
        else:
            self.say(f"  {task.title}: {reason}; it goes on from step {max(step, 0)}")
            task.state = "waiting"

    def _failed(self, task: Pending, reason: str | None) -> None:
        said = record.error_of(task.found.folder)
        if said is None or reason is not None:
            try:
                execute.fail(task.found.folder, reason or "ended without a word")
            except runs.Busy:
                task.state = "elsewhere"
                return
            except (runs.RunError, record.RecordError) as error:  # a file of it is damaged
                reason = str(error)
        self._end(task, "failed", reason or said)

    def _end(
        self, task: Pending, state: State, reason: str | None = None, *, quiet: bool = False
    ) -> None:
        task.state, task.reason = state, reason
        self.over(task)
        if not quiet:
            self.say(f"[{self._count()}] {self._line(task)}")

    def _count(self) -> str:
        over = sum(task.state in OVER for task in self.tasks.values())
        total = max(self.total or 0, len(self.tasks))
        return f"{over:>{len(str(total))}}/{total}"

    def _line(self, task: Pending) -> str:
        folder = task.found.folder
        if task.state == "finished":
            done = record.read(folder)
            split, _, name = (task.metric or "").rpartition("/")
            metrics = done.splits[split].metrics if split in done.splits else {}
            figure = f"  {task.metric} {metrics[name].value:.4f}" if name in metrics else ""
            return f"{task.title}{figure}  {done.wall_s:.1f} s"
        if task.state == "pruned":
            return f"{task.title}  given up after step {reached(folder)}"
        if task.state == "blocked":
            return f"{task.title}  not started: {first_line(task.reason)}"
        return f"{task.title}  FAILED: {first_line(task.reason)}\n    log: {folder / runs.LOG}"

    # -- stopping -----------------------------------------------------------------------------

    def _stop(self) -> None:
        self.say("stopping")
        self.executor.stop(hurry=lambda: self.asked.at_once)
        for task in self.tasks.values():
            if task.state in {"running", "waiting", "elsewhere"}:
                self._look(task)
                if task.state not in OVER:
                    if task.state == "running":
                        execute.cut_off(task.found.folder, "it was ended before it could save")
                    task.state = "stopped"

    def _ask(self) -> None:
        self.stopping = True


def reached(folder: Path) -> int:
    """The step that a run last told of; -1 where it told of none."""
    try:
        return int(json.loads((folder / runs.PROGRESS).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return -1


def first_line(text: str | None) -> str:
    """The first line of a reason."""
    return (text or "no reason is known").strip().partition("\n")[0]
