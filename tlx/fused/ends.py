"""How the runs of a stack end: their figures, records, weights, predictions and logs.

Shapes: N items, C outputs.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tlx.fused.judging import at_once, outputs_of
from tlx.fused.members import Member
from tlx.methods.bootstrap import RESAMPLES
from tlx.results import record as record_
from tlx.results.record import Record
from tlx.tasks import together
from tlx.tasks.task import Report
from tlx.train import finish
from tlx.train.records import record_of

REPORTS_AT_ONCE = 8
"""Runs whose final figures are computed together, at most."""


@dataclass(frozen=True)
class Outcome:
    """What one run found out, before it is written.

    Attributes:
        record: of the run.
        outputs: by split, what its predictions are written from.
        head: its parameters, by their names in the network.
        example: folder of another of the runs, whose weights are on disk; None: its own are.
    """

    record: Record
    outputs: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    example: Path | None


@dataclass(eq=False)
class Ends:
    """Evaluates runs that are over, some at once, and writes each as if it had been alone.

    Attributes:
        network: of all, with some head.
        names: of the runs.
        over: told of each run that is recorded.
        example: folder of the first that was written, whose weights file others copy.
    """

    network: nn.Module
    names: Sequence[str]
    over: Callable[[Path, Exception | None], object]
    example: Path | None = None

    def reports(
        self, group: Sequence[tuple[Member, tuple[Tensor, ...]]]
    ) -> Iterator[tuple[Member, tuple[Tensor, ...], dict[str, Report], dict[str, Tensor]]]:
        """Of runs with the same data: figures of every split, outputs where they are written."""
        first = group[0][0]
        plan, data = first.plan, first.data
        named = plan.evaluated
        most = max(RESAMPLES, *(len(split) for split in named.values()))
        count = min(at_once(first, most), REPORTS_AT_ONCE)
        for start in range(0, len(group), count):
            begun, some = time.monotonic(), group[start : start + count]
            reports, outputs = {}, {}
            for name, split in named.items():
                features, targets = data.of(name, split)
                outputs[name] = outputs_of(features, [head for _, head in some])
                reports[name] = together.report_each(plan.model.task, outputs[name], targets)
            del outputs["val"]  # no predictions are written of it
            share = (time.monotonic() - begun) / len(some)
            for place, (member, head) in enumerate(some):
                member.wall_s += share
                its_reports = {name: each[place] for name, each in reports.items()}
                yield member, head, its_reports, {name: o[place] for name, o in outputs.items()}

    def finish(
        self,
        member: Member,
        head: Sequence[Tensor],
        reports: Mapping[str, Report],
        outputs: Mapping[str, Tensor],
    ) -> Outcome:
        """Closes the accounts of one run that has been evaluated."""
        begun = time.monotonic()
        plan, folder, course = member.plan, member.entrant.folder, member.course
        # whoever is the first to end has computed for all that share the data
        computed, reused = member.data.take_counts()
        validated = math.ceil(course.progress.step / plan.pace.eval_every) * len(plan.splits.val)
        served = course.progress.step * plan.pace.batch_size + validated
        course.progress.reuse = {
            "boundary": "backbone",
            "computed": computed,
            "reused": reused,
            "saved_s": (served - computed) * member.data.reuse.prefix_s,
        }
        sizes = {name: p.numel() for name, p in self.network.named_parameters()}
        course.leave_stage(sizes)
        others = tuple(name for name in self.names if name != folder.name)
        member.wall_s += time.monotonic() - begun
        record = record_of(plan, folder, course.progress, reports, member.wall_s, fused_with=others)
        names = [name for name in self.network.state_dict() if name.startswith("head.")]
        outcome = Outcome(record, outputs, dict(zip(names, head, strict=True)), self.example)
        # the trunk is the same in all: others copy this file, with their own heads in it
        if self.example is None:
            finish.save_weights(folder, plan, {**self.network.state_dict(), **outcome.head})
            self.example = folder
        member.tell()
        finish.show(member.loggers, plan, reports)
        for logger in member.loggers:
            logger.finish("finished")
        member.loggers = ()
        return outcome

    def record(self, member: Member, outcome: Outcome) -> None:
        """Writes what one run found out; beside other work."""
        plan, folder = member.plan, member.entrant.folder
        for name, outputs_NC in outcome.outputs.items():
            split = plan.splits.test if name == "test" else plan.splits.extra[name]
            collected = together.collected(plan.model.task, outputs_NC, member.data.targets(split))
            finish.write_predictions(folder, name, split, plan, collected)
        if outcome.example is not None:
            finish.save_weights_like(folder, outcome.example, outcome.head)
        stays = member.entrant.run.keep != "record"
        record_.write_finished(folder, outcome.record, weights=stays)
        self.over(folder, None)
