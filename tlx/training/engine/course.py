"""Where a run stands in its budget, and what its validations decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, final

from tlx.methods.stages import Span
from tlx.methods.stopping import Plateau
from tlx.results.record import StageRecord
from tlx.training.effects import Stopping


@dataclass(frozen=True)
class Pace:
    """When things happen, in optimizer steps.

    Attributes:
        total_steps: the budget.
        steps_per_epoch: optimizer steps of one pass over the training data.
        batch_size: items a step, over all ranks.
        eval_every: steps between validations; a stage's end is always validated.
        checkpoint_every: steps between checkpoints besides those at validations; None: no others.
        log_every: steps between rows of the training log.
    """

    total_steps: int
    steps_per_epoch: int
    batch_size: int
    eval_every: int
    checkpoint_every: int | None = None
    log_every: int = 20


@dataclass(frozen=True)
class Selection:
    """What validation decides.

    Attributes:
        metric: name of the validation metric.
        mode: `max` or `min`.
        final: `best` on validation or `last`.
        select_from: the best is that of the `last_stage` to train, and at a stage's end that of the
            stage; or of the `run` so far.
        early_stopping: ends the run.
    """

    metric: str
    mode: str
    final: str = "best"
    select_from: str = "last_stage"
    early_stopping: Stopping | None = None


class Served(TypedDict, total=False):
    """What a stage took from the store: fields of its record; none where it took nothing.

    Attributes:
        boundary: of what is stored.
        computed: activations that were computed for it.
        reused: those that were there.
        saved_s: seconds of computing that it was spared.
    """

    boundary: str
    computed: int
    reused: int
    saved_s: float


@dataclass
class Progress:
    """All that a run must remember besides weights; plain values, saved in each checkpoint."""

    step: int = 0
    stage: int = 0
    stage_start: int = 0
    stage_over: str = ""
    best_value: float | None = None
    best_step: int | None = None
    last_value: float | None = None
    plateau: dict[str, object] = field(default_factory=dict)
    early: dict[str, object] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)
    reuse: Served = field(default_factory=Served)
    notes: dict[str, object] = field(default_factory=dict)
    stage_wall_s: float = 0.0
    wall_s: float = 0.0
    resumes: int = 0

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "Progress":
        """From `asdict` of another, which a checkpoint held."""
        known = {field.name for field in fields(StageRecord)}  # older checkpoints say more
        rows = [{k: v for k, v in row.items() if k in known} for row in state["stages"]]
        return cls(**{**state, "stages": [StageRecord(**row) for row in rows]})


@final
class Course:
    """The course of one run through its stages: selection, plateaus, early stopping, accounts.

    Attributes:
        spans: stages with their places in the budget.
        pace: when to validate.
        selection: what validation decides.
        progress: how far the run is.
    """

    def __init__(self, spans: Sequence[Span], *, pace: Pace, selection: Selection) -> None:
        """Starts at step 0 of the first stage."""
        self.spans, self.pace, self.selection = spans, pace, selection
        self.progress = Progress()
        self._plateau: Plateau | None = None
        self._early: Plateau | None = None

    @property
    def span(self) -> Span:
        """The current stage."""
        return self.spans[self.progress.stage]

    @property
    def over(self) -> bool:
        """Whether every stage is done."""
        return self.progress.stage >= len(self.spans)

    def enter_stage(self) -> None:
        """Takes up the current stage's patience, from where it was."""
        progress, mode = self.progress, self.selection.mode
        self._plateau = _rule(self.span.stage.until.plateau, 0.0, mode, progress.plateau)
        early = self.selection.early_stopping
        self._early = _rule(
            early.patience if early else None,
            early.min_delta if early else 0.0,
            mode,
            progress.early,
        )

    def segment_end(self) -> int:
        """The step of the next validation."""
        every = self.pace.eval_every
        return min((self.progress.step // every + 1) * every, self.span.end)

    def select(self, value: float) -> bool:
        """Whether a validation is the best of those that are compared, which is noted."""
        progress = self.progress
        progress.last_value = value
        better = Plateau.improves(value, self._to_beat(), mode=self.selection.mode)
        if better:
            progress.best_value, progress.best_step = value, progress.step
        return better

    def _to_beat(self) -> float | None:
        """The best value so far of those that are compared; None before the first of them.

        What stages before have reached counts no longer once this one is validated: their weights
        would pass for those of a strategy that was never carried out. Until then the best is
        theirs, for a restart at a stage's end restores it once more.
        """
        progress = self.progress
        within = self.selection.select_from == "last_stage" and progress.stage > 0
        earlier = progress.best_step is None or progress.best_step <= progress.stage_start
        return None if within and earlier else progress.best_value

    def decide(self, value: float) -> None:
        """Notes whether a validation ends the stage or the run."""
        progress = self.progress
        if progress.step >= self.span.end:
            progress.stage_over = "budget"
        for name, rule in (("plateau", self._plateau), ("early_stopping", self._early)):
            if rule is not None and rule.update(value) and not progress.stage_over:
                progress.stage_over = name
        progress.plateau = self._plateau.state() if self._plateau else {}
        progress.early = self._early.state() if self._early else {}

    def leave_stage(self, sizes: Mapping[str, int]) -> Span:
        """Records the stage that ended, and turns to the next; returns the one that ended.

        Args:
            sizes: numbers in each parameter of the network.
        """
        progress, span = self.progress, self.span
        steps = progress.step - progress.stage_start
        progress.stages.append(
            StageRecord(
                name=span.stage.name,
                start=progress.stage_start,
                end=progress.step,
                ended_by=progress.stage_over,
                trainable=sum(n for name, n in sizes.items() if name in span.stage.trains),
                total=sum(sizes.values()),
                wall_s=progress.stage_wall_s,
                samples_per_s=steps * self.pace.batch_size / max(progress.stage_wall_s, 1e-9),
                **progress.reuse,
            )
        )
        run_over = progress.stage_over == "early_stopping"
        progress.stage = len(self.spans) if run_over else progress.stage + 1
        progress.stage_start = progress.step
        progress.stage_over = ""
        progress.stage_wall_s = 0.0
        progress.plateau, progress.early, progress.reuse = {}, {}, {}
        return span


def _rule(
    patience: int | None, min_delta: float, mode: str, state: dict[str, object]
) -> Plateau | None:
    if patience is None:
        return None
    rule = Plateau(patience=patience, min_delta=min_delta, mode=mode)
    if state:
        rule.load(state)
    return rule
