"""Runs that differ in their heads only, trained as one stack; each stays a run of its own.

Shapes: G runs of the stack, N items, B items of a batch, D features, C outputs.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from tlx import build, runs, train
from tlx.build import Plan
from tlx.frozen.heads import Heads, Start
from tlx.frozen.losses import loss_of
from tlx.frozen.rules import AdamW, Sgd
from tlx.frozen.split import NoSplit
from tlx.frozen.store import StoreError
from tlx.methods.bootstrap import RESAMPLES
from tlx.methods.order import Order
from tlx.results import record
from tlx.results.record import Record
from tlx.tasks import together
from tlx.tasks.heads import LinearHead
from tlx.training import checkpoints, pruning
from tlx.training.course import Course, Progress
from tlx.training.fit import REMEDY, Diverged, check_validation, saved_state, training_row
from tlx.training.module import TransferModule
from tlx.training.progress import Display
from tlx.training.reuse import Reuse
from tlx.training.signals import Interrupted, Pruned, StopFlag
from tlx.training.writers import Writers

Config = Mapping[str, Any]

SAVE_EVERY_S = 30.0
"""At most so much work is lost to a kill."""

TELL_EVERY_S = 1.0
"""How old what the logs show may be; they are also written with each checkpoint."""

OUTPUTS_AT_ONCE = 2**18
"""Outputs that are judged together: with all that is computed of them, still in a CPU's cache."""

REPORTS_AT_ONCE = 8
"""Runs whose final figures are computed together, at most."""

BYTES_OF_A_NUMBER = 24
"""Of a head's parameter in a stack: value, two moments, gradient, best, a copy, in float32."""

MOST_MEMORY = 0.25
"""Share of the machine's memory that a stack may take."""

OPTIMIZERS = {"tlx.training.optimizers.adamw": AdamW, "tlx.training.optimizers.sgd": Sgd}


class CannotFuse(Exception):
    """The runs cannot be trained as one stack, and why."""


@dataclass(frozen=True)
class Given:
    """One run as it comes: folder, frozen config, where its starting weights are."""

    folder: Path
    config: Config
    init: str


@dataclass(eq=False)
class Member:
    """One run of the stack.

    Attributes:
        given: folder, config, starting weights.
        plan: its own data, selection and recipe; the network is the first run's.
        data: activations of its data.
        course: where it stands.
        head: its head as it starts.
        order: of its samples.
        loggers: of the run.
        display: writes how far it is.
        pruner: of a search's trial.
        best: parameters of the best validation.
        carried: optimizer state by parameter that it goes on from.
        logged: step of the last row of the training log.
        rows: of the log, which its loggers have not been given yet.
        wall_s: its share of the time.
    """

    given: Given
    plan: Plan
    data: "Data"
    course: Course
    head: nn.Module
    order: Order
    loggers: list[Any]
    display: Display
    pruner: Callable[[int, Mapping[str, float]], bool] | None
    best: tuple[Tensor, ...] | None = None
    carried: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    logged: int = 0
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def run(self) -> str:
        """Its id."""
        return self.given.folder.name

    def tell(self) -> None:
        """Gives its loggers what they have not been given yet."""
        for logger in self.loggers:
            logger.log_rows(self.rows)
        self.rows = []


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

    def of(self, name: str, split: Any) -> tuple[Tensor, Tensor]:
        """Features [N, D] and targets of a split."""
        if name not in self.features:
            try:
                rows = self.reuse.rows(split, self.reuse.evaluation)
                found = rows.gather(range(len(rows)))
            except StoreError as reason:
                self.reuse.say(str(reason))
                found = self.reuse.activations(split, self.reuse.evaluation)
            self.features[name] = self._here(found)
        return self.features[name], self.targets(split)

    def targets(self, split: Any) -> Tensor:
        """Targets of a split, where the network is."""
        key = id(split)
        if key not in self.moved:
            device = self.reuse.trainer.strategy.root_device
            self.moved[key] = self.reuse.targets(split).to(device)
        return self.moved[key]

    def _here(self, rows: Tensor) -> Tensor:
        return rows.float().to(self.reuse.trainer.strategy.root_device)


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


def train_together(
    given: Sequence[Given], *, over: Callable[[Path, Exception | None], object]
) -> None:
    """Trains and evaluates runs as one stack.

    Every run's record, weights, predictions and logs are those that it would have alone, up to
    rounding.

    Args:
        given: the runs, whose folders the caller holds.
        over: told of each run when it is over and recorded, from any thread, with the reason where
            it did not finish (which it has to record).

    Raises:
        CannotFuse: they do not fit together; nothing has begun.
        Interrupted: a signal asked to stop; everything is saved.
    """
    if len(given) < 2:
        raise CannotFuse("there is one run")
    stack = Stack(given, over=over)
    try:
        stack.run()
    finally:
        stack.close()


@final
class Stack:
    """The vectorised training of several runs."""

    def __init__(
        self, given: Sequence[Given], *, over: Callable[[Path, Exception | None], object]
    ) -> None:
        """Loads data, network and activations.

        Raises:
            CannotFuse: the runs do not fit together.
        """
        started = time.monotonic()
        self.over = over
        self.failed: dict[str, Exception] = {}
        self.example: Path | None = None
        self.names = tuple(each.folder.name for each in given)
        first = given[0]
        torch.use_deterministic_algorithms(first.config["trainer"]["deterministic"], warn_only=True)
        plan = build.plan(first.config, init=first.init)
        _check_recipe(plan)
        self.trainer = train.trainer_of(first.config, first.folder, plan, [])
        self.module = TransferModule(plan.recipe, total_steps=plan.pace.total_steps)
        train.prepare_network(first.config, plan)
        self.module.enter(plan.spans[0], start=0, states={})
        self.network = plan.model.network
        data = self._data(given, plan)
        self.members = [self._member(each, data[_data_key(each.config)]) for each in given]
        with Writers() as writers:
            writers.all(
                train.note_inputs, [g.folder for g in given], [m.plan for m in self.members]
            )
        self._check_alike()
        self.pace = plan.pace
        self.span = plan.spans[0]
        self.loss = loss_of(plan.model.task)
        self.stop = StopFlag()
        self.saved = time.monotonic()
        self.step = self.steps[0]
        for member in self.members:
            member.wall_s += (time.monotonic() - started) / len(self.members)

    def _data(self, given: Sequence[Given], plan: Plan) -> dict[str, Data]:
        """The activations of each set of splits."""
        made: dict[str, Data] = {}
        for each in given:
            key = _data_key(each.config)
            if key in made:
                continue
            own = plan
            if made:
                data = build.ready(build.splits(each.config), plan.model.backbone.input_spec)
                own = replace(plan, splits=data)
            if own.splits.labels != plan.splits.labels:
                raise CannotFuse("the runs have other labels")
            if len(own.splits.train) != len(plan.splits.train):
                raise CannotFuse("the runs have training sets of other sizes")
            reuse = build.reuse(each.config, own, self.trainer, self.module)
            why = "cache=off" if reuse is None else reuse.why_not()
            if reuse is None or why is not None:
                raise CannotFuse(str(why))
            reuse.say = print
            try:
                if made:
                    reuse.adopt(next(iter(made.values())).reuse)
                elif (boundary := reuse.find()) != "backbone":
                    raise CannotFuse(f"the boundary is {boundary}, below the head")
                made[key] = Data(reuse, own)
                made[key].load()
            except (NoSplit, StoreError) as reason:
                raise CannotFuse(str(reason)) from reason
        return made

    def _member(self, given: Given, data: Data) -> Member:
        config, shared = given.config, data.plan
        effects = build.regularization(config)
        task = shared.model.task
        recipe = replace(
            shared.recipe,
            schedule=build.instantiate(config["schedule"]),
            lr=config["optimizer"]["lr"],
            weight_decay=effects.weight_decay,
            smoothing=effects.smoothing,
            seed=config["seed"],
        )
        selection = build.selection(config, task, effects)
        plan = replace(shared, recipe=recipe, selection=selection, effects=effects)
        head = build.new_head(config, task, shared.model.backbone, effects=effects, init=given.init)
        if not isinstance(head, LinearHead) or head.dropout.p:
            raise CannotFuse("the head is not linear, or has dropout")
        return Member(
            given=given,
            plan=plan,
            data=data,
            course=Course(plan.spans, pace=plan.pace, selection=selection),
            head=head,
            order=build.order_of(config, plan),
            loggers=[],
            display=Display(
                total_steps=plan.pace.total_steps,
                stages=[span.stage.name for span in plan.spans],
                metric=selection.metric,
                silent=True,
                file=given.folder / runs.PROGRESS,
                every_s=1.0,
            ),
            pruner=pruning.hook(given.folder, every=plan.pace.eval_every),
        )

    def _check_alike(self) -> None:
        kinds = {member.given.config["optimizer"]["_target_"] for member in self.members}
        if len(kinds) > 1 or kinds - OPTIMIZERS.keys():
            raise CannotFuse(f"no stack for {', '.join(sorted(kinds))}")
        self.steps = [self._resume(member) for member in self.members]
        if len(set(self.steps)) > 1:
            raise CannotFuse("the runs stopped at different steps")
        numbers = sum(p.numel() for p in self.members[0].head.parameters())
        needed = len(self.members) * numbers * BYTES_OF_A_NUMBER
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > MOST_MEMORY * memory:
            raise CannotFuse(f"the stack would take {needed / 1e9:.1f} GB")

    # -- checkpoints --------------------------------------------------------------------------

    def _resume(self, member: Member) -> int:
        """The step that a run goes on from."""
        found = checkpoints.load_newest(member.given.folder / "checkpoints")
        if found is None:
            return 0
        payload, path = found
        if payload["identity"] != train.identity(member.given.folder, member.plan):
            raise CannotFuse(f"{path} belongs to other data or weights")
        if payload["average"] is not None or payload["progress"]["stage"]:
            raise CannotFuse(f"{path} is of another kind of run")
        member.course.progress = Progress(**payload["progress"])
        member.course.progress.resumes += 1
        member.head.load_state_dict(_head_of(payload["network"]))
        member.carried = payload["optimizer"]
        step = member.logged = member.course.progress.step
        if member.course.progress.best_step is not None:
            best = checkpoints.load_step(
                member.given.folder / "checkpoints", member.course.progress.best_step, tag="best"
            )
            member.best = tuple(_head_of(best["network"]).values())
        return step

    def _save(self) -> None:
        """A checkpoint of each run, such as a run alone would go on from."""
        for member, run in zip(self.active, self.heads.runs, strict=True):
            member.tell()
            if member.run not in self.failed:
                self._save_one(member, run)
        self.saved = time.monotonic()

    def _save_one(self, member: Member, run: int) -> None:
        folder, progress = member.given.folder / "checkpoints", member.course.progress
        if member.best is not None and progress.best_step is not None:
            payload = {"network": self._state(member.best), "value": progress.best_value}
            checkpoints.save(folder, progress.best_step, payload, tag="best", keep=1)
        state = self.heads.state(run)
        checkpoints.save(
            folder,
            progress.step,
            {
                "identity": train.identity(member.given.folder, member.plan),
                "progress": asdict(progress),
                "network": self._state(self.heads.head(run)),
                "optimizer": {f"head.{name}": dict(s) for name, s in state.items() if s},
                "scaler": None,
                "average": None,
            },
        )

    def _state(self, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
        """A network's state with one run's head, less what never trains."""
        weights_id = self.members[0].plan.model.backbone.weights_id
        state = saved_state(self.network, self.span.stage.trains, weights_id=weights_id)
        names = [name for name in state if name.startswith("head.")]
        state |= dict(zip(names, parameters, strict=True))
        return {name: tensor.detach().cpu() for name, tensor in state.items()}

    # -- training -----------------------------------------------------------------------------

    def run(self) -> None:
        """Trains every run to its end, and records it."""
        self.active = list(self.members)
        for member in self.members:
            member.loggers = train.loggers_of(member.given.config, member.given.folder)
            for logger in member.loggers:
                logger.resume(self.step or None)
        starts = [_start(member) for member in self.members]
        self.heads = Heads(starts, loss=self.loss)
        for run, member in enumerate(self.members):
            names, carried = starts[run].parameters, member.carried
            self.heads.load_state(run, {n: carried.get(f"head.{n}", {}) for n in names})
            member.course.enter_stage()
        print(
            f"{len(self.members)} runs that differ in their heads only are trained as one: "
            f"{', '.join(self.names)}",
            flush=True,
        )
        self.factors_GS = _factors(self.members, self.span.end)
        self.sums_G = torch.zeros(len(self.members), dtype=torch.float64)
        self.told = time.monotonic()
        self.stop.install()
        try:
            # those that had ended, and were stopped before that was recorded
            self._take_out([m for m in self.active if m.course.progress.stage_over])
            while self.active:
                self._segment()
        finally:
            self.stop.restore()

    def _segment(self) -> None:
        """Trains up to the next validation, validates, and takes out what is over."""
        started, count = time.monotonic(), len(self.active)
        end = self.active[0].course.segment_end()
        which_G = torch.tensor(self.heads.runs)
        factors = self.factors_GS[which_G]
        self.sources = {(id(m.data), m.order.seed): m for m in self.active}
        self.order = [(id(member.data), member.order.seed) for member in self.active]
        while self.step < end:
            features, targets = self._batch()
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
        over = self._validate()
        if time.monotonic() - self.told > TELL_EVERY_S:
            self.told = time.monotonic()
            for member in self.active:
                member.tell()
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
        made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for key, member in self.sources.items():
            features = member.data.features["train"]
            _, items = member.order.batch_at(self.step)
            index = torch.tensor(items, device=features.device)
            targets = member.data.targets(member.plan.splits.train)
            made[key] = features.index_select(0, index), targets.index_select(0, index)
        if len(made) == 1:
            return made[self.order[0]]
        each = [made[key] for key in self.order]
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
            member.display.trained(self.step, 0, row)
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

    def _at_once(self, rows: int) -> int:
        """How many runs are judged together that have so many rows of outputs each."""
        outputs = len(list(self.members[0].head.parameters())[-1])
        return max(1, OUTPUTS_AT_ONCE // (rows * outputs))

    def _validate_on(self, group: Sequence[tuple[Member, int]]) -> None:
        """Judges runs that have the same data."""
        first = group[0][0]
        features, targets = first.data.of("val", first.plan.splits.val)
        heads = [self.heads.head(run) for _, run in group]
        count = self._at_once(len(features))
        for start in range(0, len(group), count):
            some = heads[start : start + count]
            outputs_GNC = _outputs(features, some)
            figures = together.metrics_each(first.plan.model.task, outputs_GNC, targets)
            for (member, _), head, found in zip(group[start:], some, figures, strict=False):
                try:
                    self._judge(member, head, found)
                except (Diverged, Pruned) as reason:
                    self.failed[member.run] = reason

    def _judge(
        self, member: Member, head: tuple[Tensor, ...], metrics: Mapping[str, float]
    ) -> None:
        if member.run in self.failed:
            return
        course, name = member.course, member.plan.selection.metric
        check_validation(metrics, monitored=name, step=self.step)
        if course.select(metrics[name]):
            member.best = head
        course.decide(metrics[name])
        member.rows.append((self.step, {f"val/{key}": value for key, value in metrics.items()}))
        member.display.validated(self.step, metrics)
        prune = member.pruner is not None and member.pruner(self.step, metrics)
        if prune and not course.progress.stage_over:
            raise Pruned(f"pruned at step {self.step}, at {metrics[name]:.6g}")

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
            if member.run not in self.failed:
                if member.given.config["keep"] == "checkpoints":
                    self._save_one(member, run)
                best = member.plan.selection.final == "best" and member.best is not None
                head = member.best if best and member.best else self.heads.head(run)
                groups.setdefault(id(member.data), []).append((member, head))
        with Writers() as writers:
            for group in groups.values():
                for found in self._reports(group):
                    outcome = self._finish(*found)
                    begun.append((found[0], writers.begin(self._record, found[0], outcome)))
        for member, future in begun:
            error = future.exception()
            if isinstance(error, Exception):
                self.failed[member.run] = error
            elif error is not None:
                raise error
        for member, run in zip(over, gone, strict=True):
            reason = self.failed.get(member.run)
            if reason is not None:
                if isinstance(reason, Pruned):
                    self._save_one(member, run)
                self._close(member)
                self.over(member.given.folder, reason)
        self.heads.drop(gone)
        self.active = [each for each in self.active if each not in over]

    # -- ends ---------------------------------------------------------------------------------

    def _finish(
        self,
        member: Member,
        head: Sequence[Tensor],
        reports: Mapping[str, dict[str, Any]],
        outputs: Mapping[str, Tensor],
    ) -> "Outcome":
        """Closes the accounts of one run that has been evaluated."""
        begun = time.monotonic()
        plan, folder, course = member.plan, member.given.folder, member.course
        computed, reused = member.data.take_counts()
        validated = math.ceil(course.progress.step / self.pace.eval_every) * len(plan.splits.val)
        served = course.progress.step * self.pace.batch_size + validated
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
        made = train.record_of(
            member.given.config,
            folder,
            plan,
            course.progress,
            reports,
            member.wall_s,
            fused_with=others,
        )
        names = [name for name in self.network.state_dict() if name.startswith("head.")]
        outcome = Outcome(made, outputs, dict(zip(names, head, strict=True)), self.example)
        if self.example is None:
            train.save_weights(folder, plan, {**self.network.state_dict(), **outcome.head})
            self.example = folder
        member.tell()
        train.show(member.loggers, plan, made)
        for logger in member.loggers:
            logger.finish("finished")
        member.loggers = []
        return outcome

    def _record(self, member: Member, outcome: "Outcome") -> None:
        """Writes what one run found out; beside other work."""
        plan, folder = member.plan, member.given.folder
        for name, outputs_NC in outcome.outputs.items():
            split = plan.splits.test if name == "test" else plan.splits.extra[name]
            path, task = folder / "predictions" / f"{name}.csv", plan.model.task
            collected = together.collected(task, outputs_NC, member.data.targets(split))
            train.write_predictions(path, split, member.plan, collected)
        if outcome.example is not None:
            train.save_weights_like(folder, outcome.example, outcome.head)
        record.write(folder, outcome.record)
        self.over(folder, None)

    def _reports(
        self, group: Sequence[tuple[Member, tuple[Tensor, ...]]]
    ) -> Iterator[tuple[Member, tuple[Tensor, ...], dict[str, Any], dict[str, Tensor]]]:
        """Of runs with the same data: figures of every split, outputs where they are written."""
        first = group[0][0]
        plan, data = first.plan, first.data
        named = {"val": plan.splits.val, "test": plan.splits.test, **plan.splits.extra}
        most = max(RESAMPLES, *(len(split) for split in named.values()))
        count = min(self._at_once(most), REPORTS_AT_ONCE)
        for start in range(0, len(group), count):
            begun, some = time.monotonic(), group[start : start + count]
            reports, kept = {}, {}
            for name, split in named.items():
                features, targets = data.of(name, split)
                kept[name] = _outputs(features, [head for _, head in some])
                reports[name] = together.report_each(plan.model.task, kept[name], targets)
            del kept["val"]
            share = (time.monotonic() - begun) / len(some)
            for place, (member, head) in enumerate(some):
                member.wall_s += share
                own = {name: found[place] for name, found in reports.items()}
                yield member, head, own, {name: found[place] for name, found in kept.items()}

    def close(self) -> None:
        """Ends the loggers of what did not finish."""
        for member in self.members:
            self._close(member)

    def _close(self, member: Member) -> None:
        member.tell()
        for logger in member.loggers:
            logger.finish("failed" if member.run in self.failed else "interrupted")
        member.loggers = []


def _check_recipe(plan: Plan) -> None:
    """Whether all that trains is a linear head.

    Raises:
        CannotFuse: it is not.
    """
    if len(plan.spans) != 1:
        raise CannotFuse("there are several stages")
    stage = plan.spans[0].stage
    scales = set(stage.trains.values())
    if any(not name.startswith("head.") for name in stage.trains) or scales != {1.0}:
        raise CannotFuse("more than the head trains")
    if plan.effects.ema is not None or plan.effects.penalties or plan.effects.callbacks:
        raise CannotFuse("a regularization acts on whole networks")


def _data_key(config: Config) -> str:
    return json.dumps(config["dataset"], sort_keys=True, default=str)


def _start(member: Member) -> Start:
    node, recipe = member.given.config["optimizer"], member.plan.recipe
    kind: Any = OPTIMIZERS[node["_target_"]]
    if kind is Sgd:
        momentum = node["momentum"]
        optimizer: Any = Sgd(momentum=momentum, nesterov=node["nesterov"] and momentum > 0)
    else:
        optimizer = AdamW(betas=tuple(node["betas"]), eps=node["eps"])
    clip = member.plan.effects.grad_clip
    device = member.data.features["train"].device
    return Start(
        parameters={n: p.detach().to(device) for n, p in member.head.named_parameters()},
        optimizer=optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        smoothing=recipe.smoothing,
        max_norm=math.inf if clip is None else clip,
    )


def _factors(members: Sequence[Member], steps: int) -> Tensor:
    """Learning-rate factors [G, steps], computed once for each schedule."""
    known: dict[str, list[float]] = {}
    rows = []
    for member in members:
        key = json.dumps(member.given.config["schedule"], sort_keys=True, default=str)
        if key not in known:
            schedule = member.plan.recipe.schedule
            known[key] = [schedule.factor(step, steps) for step in range(steps)]
        rows.append(known[key])
    return torch.tensor(rows, dtype=torch.float64)


def _head_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("head."): tensor
        for name, tensor in state.items()
        if name.startswith("head.")
    }


def _outputs(features: Tensor, heads: Sequence[Sequence[Tensor]]) -> Tensor:
    """Outputs [G, N, C] of linear heads on the same features [N, D]."""
    weight, bias = (torch.cat(tensors) for tensors in zip(*heads, strict=True))
    found: Tensor = nn.functional.linear(features, weight, bias)
    return found.view(len(features), len(heads), -1).transpose(0, 1)
