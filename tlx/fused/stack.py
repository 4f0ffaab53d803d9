"""The vectorised training of several runs, from their first step to the last one's end.

Shapes: G runs of the stack, B items of a batch, D features, C outputs.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from tlx.base.ends import Interrupted, Pruned
from tlx.base.interrupts import REQUESTS, given_up_on_request
from tlx.building import plans
from tlx.frozen.heads import Heads
from tlx.fused import saved
from tlx.fused.ends import Ends
from tlx.fused.judging import at_once, outputs_of
from tlx.fused.members import CannotFuse, Entrant, Member, check_alike, check_recipe, gather
from tlx.fused.starts import factors_of, start_of
from tlx.tasks import together
from tlx.train import finish
from tlx.training.engine import checkpoints
from tlx.training.engine.divergence import REMEDY, Diverged, unusual
from tlx.training.engine.fit import training_row
from tlx.training.engine.signals import StopFlag
from tlx.training.loaders import RankShare
from tlx.training.logs.writers import Writers
from tlx.training.session import Session

SAVE_EVERY_S = 30.0
"""At most so much work is lost to a kill."""

TELL_EVERY_S = 1.0
"""How old what the logs show may be; they are also written with each checkpoint."""


def train_together(
    entrants: Sequence[Entrant], *, over: Callable[[Path, Exception | None], object]
) -> None:
    """Trains and evaluates runs as one stack.

    Every run's record, weights, predictions and logs are those that it would have alone, up to
    rounding.

    Args:
        entrants: the runs, whose folders the caller holds.
        over: told of each run when it is over and recorded, from any thread, with the reason where
            it did not finish (which it has to record).

    Raises:
        CannotFuse: they do not fit together; nothing has begun.
        Interrupted: a signal asked to stop; everything is saved.
    """
    if len(entrants) < 2:
        raise CannotFuse("there is one run")
    stack = StackedRuns(entrants, over=over)
    try:
        stack.run()
    finally:
        stack.close()


@final
class StackedRuns:
    """The vectorised training of several runs."""

    def __init__(
        self, entrants: Sequence[Entrant], *, over: Callable[[Path, Exception | None], object]
    ) -> None:
        """Loads data, network and activations.

        Raises:
            CannotFuse: the runs do not fit together.
        """
        started = time.monotonic()
        self.over = over
        self.failed: dict[str, Exception] = {}
        first = entrants[0]
        torch.use_deterministic_algorithms(first.run.trainer.deterministic, warn_only=True)
        plan = plans.plan(first.run, init=first.init)
        loss = check_recipe(plan)
        session = Session(first.folder, plan, RankShare())
        session.module.enter(plan.spans[0], start=0, states={})
        self.network = plan.model.network
        self.members = gather(entrants, session)
        self.ends = Ends(self.network, [member.run for member in self.members], over)
        with Writers() as writers:
            writers.all(
                finish.note_inputs,
                [each.folder for each in entrants],
                [m.plan for m in self.members],
            )
        check_alike(self.members)
        self.unusual = unusual(self.network)
        steps = [saved.resume(member, unusual=self.unusual) for member in self.members]
        if len(set(steps)) > 1:
            raise CannotFuse("the runs stopped at different steps")
        self.pace = plan.pace
        self.loss = loss
        self.stop = StopFlag()
        self.saved = time.monotonic()
        self.step = steps[0]
        for member in self.members:
            member.wall_s += (time.monotonic() - started) / len(self.members)

    def _save(self) -> None:
        """A checkpoint of each run, such as a run alone would go on from."""
        for member, run in zip(self.active, self.heads.runs, strict=True):
            member.tell()
            if member.run not in self.failed:
                self._save_one(member, run)
        self.saved = time.monotonic()

    def _save_one(self, member: Member, run: int) -> None:
        try:
            saved.save(
                member,
                self.heads.head(run),
                self.heads.state(run),
                network=self.network,
                unusual=self.unusual,
            )
        except checkpoints.NotFinite as place:
            self.failed[member.run] = Diverged(
                f"at step {self.step} {place} is not finite, and was not saved; {REMEDY}"
            )

    # -- training -----------------------------------------------------------------------------

    def run(self) -> None:
        """Trains every run to its end, and records it."""
        self.active = list(self.members)
        for member in self.members:
            member.loggers = finish.loggers_of(member.entrant.run, member.entrant.folder)
            for logger in member.loggers:
                logger.resume(self.step or None)
        starts = [start_of(member) for member in self.members]
        self.heads = Heads(starts, loss=self.loss)
        for run, member in enumerate(self.members):
            names, carried = starts[run].parameters, member.carried
            self.heads.load_state(run, {n: carried.get(f"head.{n}", {}) for n in names})
            member.course.enter_stage()
        print(
            f"{len(self.members)} runs that differ in their heads only are trained as one: "
            f"{', '.join(member.run for member in self.members)}",
            flush=True,
        )
        self.factors_GS = factors_of(self.members, self.pace.total_steps)
        self.sums_G = torch.zeros(len(self.members), dtype=torch.float64)
        self.logged = time.monotonic()
        self.stop.install()
        try:
            # those that had ended, and were stopped before that was recorded
            self._take_out([m for m in self.active if m.course.progress.stage_over])
            while self.active:
                self._segment()
        finally:
            self.stop.restore()
        REQUESTS.heed()

    def _segment(self) -> None:
        """Trains up to the next validation, validates, and takes out what is over."""
        started, count = time.monotonic(), len(self.active)
        end = self.active[0].course.segment_end()
        # runs that were taken out leave gaps: factors and sums keep the places of the start
        which_G = torch.tensor(self.heads.runs)
        factors = self.factors_GS[which_G]
        self.sources = {(id(m.data), m.order.seed): m for m in self.active}
        self.order = [(id(member.data), member.order.seed) for member in self.active]
        while self.step < end:
            features, targets = self._batch()
            # summed in double precision on the CPU, as a run alone logs its mean
            self.sums_G[which_G] += (
                self.heads.step(features, targets, factors=factors[:, self.step]).double().cpu()
            )
            self.step += 1
            if self.step % self.pace.log_every == 0 or self.step == end:
                self._log(started)
            if self.stop.received is not None and self.step < end:
                self._interrupt()
        for member in self.active:
            member.course.progress.step = self.step
        # judged before it is saved: a checkpoint then knows the best weights up to its step
        over = self._validate()
        if time.monotonic() - self.logged > TELL_EVERY_S:
            self.logged = time.monotonic()
            for member in self.active:
                member.tell()
        # as many as began, or the last ones would be charged for those that ended
        share = (time.monotonic() - started) / count
        for member in self.active:
            member.wall_s += share
            member.course.progress.stage_wall_s += share
            member.course.progress.wall_s += share
        stops = self.stop.received is not None
        if stops or time.monotonic() - self.saved > SAVE_EVERY_S:
            self._save()
        self._take_out(over)
        if stops and self.active:
            raise Interrupted(f"stopped by a signal at step {self.step}; saved")

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Features and targets of the step: one batch for all, or one a run."""
        batches: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for key, member in self.sources.items():
            features = member.data.features["train"]
            _, items = member.order.batch_at(self.step)
            index = torch.tensor(items, device=features.device)
            targets = member.data.targets(member.plan.splits.train)
            batches[key] = features.index_select(0, index), targets.index_select(0, index)
        if len(batches) == 1:  # the heads share one product
            return batches[self.order[0]]
        each = [batches[key] for key in self.order]
        return torch.stack([x for x, _ in each]), torch.stack([y for _, y in each])

    def _log(self, started: float) -> None:
        sums = self.sums_G.tolist()
        factors = self.factors_GS[:, self.step - 1].tolist()
        seconds = max(time.monotonic() - started, 1e-9) / len(self.active)
        for member, run in zip(self.active, self.heads.runs, strict=True):
            steps = self.step - member.logged
            if steps == 0:
                continue
            row = training_row(
                {"loss": sums[run] / steps},
                pace=self.pace,
                step=self.step,
                stage=member.course.progress.stage,
                lr=member.plan.recipe.lr * factors[run],
                samples_per_s=steps * self.pace.batch_size / seconds,
            )
            member.rows.append((self.step, row))
            member.referee.display.trained(self.step, 0, row)
            member.logged = self.step
            if not math.isfinite(row["train/loss"]):
                self.failed[member.run] = Diverged(
                    f"the training loss is not finite before step {self.step} "
                    f"({row['train/loss']}); {REMEDY}"
                )
            self.sums_G[run] = 0

    def _validate(self) -> list[Member]:
        """Judges every run; those that are over."""
        groups: dict[int, list[tuple[Member, int]]] = {}
        for member, run in zip(self.active, self.heads.runs, strict=True):
            groups.setdefault(id(member.data), []).append((member, run))
        for group in groups.values():
            self._validate_on(group)
        return [m for m in self.active if m.run in self.failed or m.course.progress.stage_over]

    def _validate_on(self, group: Sequence[tuple[Member, int]]) -> None:
        """Judges runs that have the same data."""
        first = group[0][0]
        features, targets = first.data.of("val", first.plan.splits.val)
        heads = [self.heads.head(run) for _, run in group]
        count = at_once(first, len(features))
        for start in range(0, len(group), count):
            some = heads[start : start + count]
            outputs_GNC = outputs_of(features, some)
            figures = together.metrics_each(first.plan.model.task, outputs_GNC, targets)
            for (member, _), head, metrics in zip(group[start:], some, figures, strict=False):
                try:
                    self._judge(member, head, metrics)
                except (Diverged, Pruned) as reason:
                    self.failed[member.run] = reason

    def _judge(
        self, member: Member, head: tuple[Tensor, ...], metrics: Mapping[str, float]
    ) -> None:
        if member.run in self.failed:
            return
        prune = member.referee.wants_end(metrics)
        if member.referee.judge(metrics):
            member.best = head
        if prune:
            member.referee.end_early(metrics)

    def _interrupt(self) -> None:
        for member in self.active:
            member.course.progress.step = self.step
        self._save()
        raise Interrupted(f"stopped by a signal at step {self.step}; saved")

    def _take_out(self, over: Sequence[Member]) -> None:
        """Records what is over, and goes on with the others."""
        if not over:
            return
        gone = [run for m, run in zip(self.active, self.heads.runs, strict=True) if m in over]
        begun: list[tuple[Member, Future[object]]] = []
        groups: dict[int, list[tuple[Member, tuple[Tensor, ...]]]] = {}
        for member, run in zip(over, gone, strict=True):
            if member.run not in self.failed and member.entrant.run.keep == "checkpoints":
                self._save_one(member, run)
            if member.run not in self.failed:
                best = member.plan.selection.final == "best" and member.best is not None
                head = member.best if best and member.best else self.heads.head(run)
                groups.setdefault(id(member.data), []).append((member, head))
        with Writers() as writers:
            for group in groups.values():
                for report in self.ends.reports(group):
                    member, outcome = report[0], self.ends.finish(*report)
                    begun.append((member, writers.begin(self.ends.record, member, outcome)))
        # a record that could not be written is that run's failure alone
        for member, future in begun:
            error = future.exception()
            if isinstance(error, Exception):
                self.failed[member.run] = error
            elif error is not None:
                raise error
        for member, run in zip(over, gone, strict=True):
            reason = self.failed.get(member.run)
            if reason is not None:
                if isinstance(reason, Pruned):  # a search may take it up again
                    self._save_one(member, run)
                self._close(member)
                self.over(member.entrant.folder, reason)
        self.heads.drop(gone)
        self.active = [each for each in self.active if each not in over]

    def close(self) -> None:
        """Ends the loggers of what did not finish."""
        for member in self.members:
            self._close(member)

    def _close(self, member: Member) -> None:
        member.tell()
        for logger in member.loggers:
            with given_up_on_request():
                logger.finish("failed" if member.run in self.failed else "interrupted")
        member.loggers = ()
