"""The runs of a stack and their data, and whether they fit together.

Shapes: N items, D features.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from tlx.base import bounds
from tlx.building.calls import ready, regularization, splits
from tlx.building.networks import keep_kept_head, new_head
from tlx.building.plans import sibling
from tlx.config.run import Run
from tlx.config.solving import stacks_as
from tlx.data.splits import Split
from tlx.execution import runs
from tlx.frozen.cut import NoCut
from tlx.frozen.store import StoreError
from tlx.methods.order import Order
from tlx.tasks.head_losses import HeadLoss
from tlx.tasks.heads import LinearHead
from tlx.training.effects import Regularization
from tlx.training.engine import pruning
from tlx.training.engine.course import Course
from tlx.training.engine.referee import Referee
from tlx.training.logs.progress import Display
from tlx.training.logs.run_logger import RunLogger
from tlx.training.reuse.source import Reuse
from tlx.training.session import Plan, Session

BYTES_OF_A_NUMBER = 24
"""Of a head's parameter in a stack: value, two moments, gradient, best, a copy, in float32."""

MOST_MEMORY = 0.25
"""Share of the machine's memory that a stack may take."""


class CannotFuse(Exception):
    """The runs cannot be trained as one stack, and why."""


@dataclass(frozen=True)
class Entrant:
    """One run as it comes: folder, frozen config, where its starting weights are."""

    folder: Path
    run: Run
    init: str


@dataclass(eq=False)
class Member:
    """One run of the stack.

    Attributes:
        entrant: folder, config, starting weights.
        plan: its own data, selection and recipe; the network is the first run's.
        data: activations of its data.
        course: where it stands.
        referee: judges its validations.
        head: its head as it starts.
        order: of its samples.
        rows: of the log, which its loggers have not been given yet.
        loggers: of the run.
        best: parameters of the best validation.
        carried: optimizer state by parameter that it goes on from.
        logged: step of the last row of the training log.
        wall_s: its share of the time.
    """

    entrant: Entrant
    plan: Plan
    data: "Data"
    course: Course
    referee: Referee
    head: nn.Module
    order: Order
    rows: list[tuple[int, Mapping[str, float]]]
    loggers: tuple[RunLogger, ...] = ()
    best: tuple[Tensor, ...] | None = None
    carried: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    logged: int = 0
    wall_s: float = 0.0

    @property
    def run(self) -> str:
        """Its id."""
        return self.entrant.folder.name

    def tell(self) -> None:
        """Gives its loggers what they have not been given yet."""
        for logger in self.loggers:
            logger.log_rows(self.rows)
        self.rows.clear()


@dataclass
class Data:
    """Activations and targets of one set of splits, which several runs may share."""

    reuse: Reuse
    plan: Plan
    features: dict[str, Tensor] = field(default_factory=dict)
    counts: tuple[int, int] = (0, 0)
    moved: dict[int, Tensor] = field(default_factory=dict)

    def load(self) -> None:
        """Takes training and validation activations from the store, computing what is missing."""
        splits = self.plan.splits
        train_ = self.reuse.rows(splits.train, self.reuse.training)
        val = self.reuse.rows(splits.val, self.reuse.evaluation)
        if not (train_.resident and val.resident):
            raise CannotFuse("the activations do not fit into memory")
        self.features = {"train": self._here(train_.tensor()), "val": self._here(val.tensor())}
        self.counts = (train_.computed + val.computed, train_.reused + val.reused)

    def take_counts(self) -> tuple[int, int]:
        """How many activations were computed, and reused; who asks again reuses them all."""
        computed, reused = self.counts
        self.counts = 0, computed + reused
        return computed, reused

    def of(self, name: str, split: Split) -> tuple[Tensor, Tensor]:
        """Features [N, D] and targets of a split."""
        if name not in self.features:
            try:
                rows = self.reuse.rows(split, self.reuse.evaluation)
                features = rows.gather(range(len(rows)))
            except StoreError as reason:
                self.reuse.say(str(reason))
                features = self.reuse.activations(split, self.reuse.evaluation)
            self.features[name] = self._here(features)
        return self.features[name], self.targets(split)

    def targets(self, split: Split) -> Tensor:
        """Targets of a split, where the network is."""
        key = id(split)
        if key not in self.moved:
            device = self.reuse.trainer.strategy.root_device
            self.moved[key] = self.reuse.targets(split).to(device)
        return self.moved[key]

    def _here(self, rows: Tensor) -> Tensor:
        return rows.float().to(self.reuse.trainer.strategy.root_device)


def gather(entrants: Sequence[Entrant], session: Session) -> list[Member]:
    """The runs, with their activations; those of the same data share them.

    Args:
        entrants: the runs.
        session: of the first, whose module is in its stage.

    Raises:
        CannotFuse: the runs' data does not fit together, or a head is not linear.
    """
    data = _data(entrants, session)
    return [_member(each, data[_data_key(each.run)]) for each in entrants]


def check_alike(members: Sequence[Member]) -> None:
    """Whether one stack can hold the runs.

    Raises:
        CannotFuse: it cannot.
    """
    kinds = {member.entrant.run.optimizer.target for member in members}
    if len(kinds) > 1 or not all(map(stacks_as, kinds)):
        raise CannotFuse(f"no stack for {', '.join(sorted(kinds))}")
    numbers = sum(p.numel() for p in members[0].head.parameters())
    needed = len(members) * numbers * BYTES_OF_A_NUMBER
    if needed > MOST_MEMORY * bounds.memory():
        raise CannotFuse(f"the stack would take {needed / 1e9:.1f} GB")


def check_recipe(plan: Plan) -> HeadLoss:
    """The loss of what trains, where that is a linear head alone.

    Raises:
        CannotFuse: more trains, or the task has no loss for stacks of heads.
    """
    if len(plan.spans) != 1:
        raise CannotFuse("there are several stages")
    stage = plan.spans[0].stage
    scales = set(stage.trains.values())
    if any(not name.startswith("head.") for name in stage.trains) or scales != {1.0}:
        raise CannotFuse("more than the head trains")
    _check_effects(plan.effects)
    if plan.recipe.feature_mixing:
        raise CannotFuse(f"{plan.recipe.feature_mixing[0].name} mixes features anew in each step")
    loss = plan.model.task.solver()
    if loss is None:
        raise CannotFuse("the task has no loss for stacks of heads")
    return loss


def _check_effects(effects: Regularization) -> None:
    others = [name for name, part in effects if not part.stacks]
    if others:
        raise CannotFuse(f"regularization.{others[0]} is not for stacks of heads")


def _data(entrants: Sequence[Entrant], session: Session) -> dict[str, Data]:
    """The activations of each set of splits."""
    plan = session.plan
    data_of: dict[str, Data] = {}
    for each in entrants:
        key = _data_key(each.run)
        if key in data_of:
            continue
        its_plan = plan
        if data_of:
            # the network is the first run's; what differs is which items it is shown
            data = ready(splits(each.run.dataset), plan.model.backbone.reads)
            its_plan = replace(plan, run=each.run, splits=data)
        if its_plan.splits.labels != plan.splits.labels:
            raise CannotFuse("the runs have other labels")
        if len(its_plan.splits.train) != len(plan.splits.train):
            raise CannotFuse("the runs have training sets of other sizes")
        reuse = its_plan.reuse(session.trainer, session.module)
        why = "cache=off" if reuse is None else reuse.why_not()
        if reuse is None or why is not None:
            raise CannotFuse(str(why))
        reuse.say = print
        try:
            if data_of:  # the proof is of the network, and holds for all
                reuse.adopt(next(iter(data_of.values())).reuse)
            elif not (cut := reuse.find()).is_features:
                raise CannotFuse(f"the boundary is {cut.boundary}, below the head")
            data_of[key] = Data(reuse, its_plan)
            data_of[key].load()
        except (NoCut, StoreError) as reason:
            raise CannotFuse(str(reason)) from reason
    return data_of


def _member(entrant: Entrant, data: Data) -> Member:
    run, model = entrant.run, data.plan.model
    effects = regularization(run)
    _check_effects(effects)
    try:
        plan = sibling(data.plan, run, effects=effects)
    except ValueError as error:  # alone, it is refused
        raise CannotFuse(str(error)) from error
    head = new_head(run, model.task, model.backbone, effects=effects)
    keep_kept_head(run, head, model.backbone, init=entrant.init)
    if not isinstance(head, LinearHead):
        raise CannotFuse("the head is not linear")
    display = Display(
        total_steps=plan.pace.total_steps,
        stages=[span.stage.name for span in plan.spans],
        metric=plan.selection.metric,
        silent=True,
        file=entrant.folder / runs.PROGRESS,
        every_s=1.0,
    )
    rows: list[tuple[int, Mapping[str, float]]] = []
    course = plan.course
    referee = Referee(
        course,
        display=display,
        log=lambda row: rows.append((course.progress.step, row)),
        pruner=pruning.hook(entrant.folder, every=plan.pace.eval_every),
    )
    return Member(
        entrant=entrant,
        plan=plan,
        data=data,
        course=course,
        referee=referee,
        head=head,
        order=plan.order,
        rows=rows,
    )


def _data_key(run: Run) -> str:
    return json.dumps(run.plain["dataset"], sort_keys=True, default=str)
