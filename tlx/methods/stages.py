"""What trains when: stages as data. Standard library only, so that config checks stay fast."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """Parameters that freeze and thaw together.

    Attributes:
        name: as printed, `layer3` or `blocks.11`.
        parameters: full parameter names in the network, `backbone.layer3.0.conv1.weight`.
        level: depth that layer-wise decay counts from, 0 at the stem; the head has the highest.
    """

    name: str
    parameters: tuple[str, ...]
    level: int


@dataclass(frozen=True)
class Layout:
    """The parameters of a network, as a freeze strategy sees them.

    Attributes:
        groups: coarse layer groups, stem to top, the head last; each parameter in exactly one.
        fine_groups: the same parameters in the finest useful groups (layer-wise decay).
        neck: names of the final norm, pooler or pre-logits layers just below the head.
        norms: names of the affine parameters of all normalisation layers.
        embeddings: names of patch, position and token embeddings.
        no_decay: names that take no weight decay (norms, biases, `no_weight_decay()`).
        adapters: names of what was put beside the network's own layers (LoRA).
    """

    groups: tuple[Group, ...]
    fine_groups: tuple[Group, ...]
    neck: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    no_decay: frozenset[str] = frozenset()
    adapters: tuple[str, ...] = ()

    @property
    def head(self) -> Group:
        """The last group: the task's head."""
        return self.groups[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """All parameter names, stem to head."""
        return tuple(name for group in self.groups for name in group.parameters)


@dataclass(frozen=True)
class Until:
    """When a stage ends: by at most one of steps, epochs and fraction; by none: the budget's rest.

    Attributes:
        steps: optimizer steps of the stage.
        epochs: passes over the training data, fractions allowed.
        fraction: share of the run's whole budget, in (0, 1].
        plateau: besides, end after this many validations without improvement.
    """

    steps: int | None = None
    epochs: float | None = None
    fraction: float | None = None
    plateau: int | None = None


@dataclass(frozen=True)
class Stage:
    """One static phase of a run: nothing about the graph changes inside it.

    Attributes:
        name: as printed and recorded, `head` or `layer4+`.
        trains: parameter name -> learning-rate scale; what is not named is frozen.
        until: when it ends.
        restore_best: start the *next* stage from this one's best weights on validation.
        anneal: parameter name -> fraction of the run's budget at which its own cosine
            reaches zero (FreezeOut); others follow the run's schedule.
    """

    name: str
    trains: Mapping[str, float]
    until: Until = field(default_factory=Until)
    restore_best: bool = False
    anneal: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A stage in its place: optimizer steps `start` (included) to `end` (excluded) of the run."""

    stage: Stage
    start: int
    end: int


def layout_of(groups: Mapping[str, Sequence[str]]) -> Layout:
    """A layout of named groups of parameters, stem to top, the head last.

    >>> layout_of({"stem": ["conv.weight"], "head": ["fc.weight"]}).head.parameters
    ('fc.weight',)
    """
    made = tuple(
        Group(name, tuple(parameters), level)
        for level, (name, parameters) in enumerate(groups.items())
    )
    return Layout(groups=made, fine_groups=made)


def matching(pattern: str, names: Collection[str]) -> tuple[str, ...]:
    """The names that a regular expression matches in full, in their order.

    Raises:
        ValueError: it matches none, or is no regular expression.

    >>> matching(r"head[.].*", ["conv.weight", "head.weight", "head.bias"])
    ('head.weight', 'head.bias')
    """
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"freeze rule {pattern!r} is no regular expression: {error}") from None
    found = tuple(name for name in names if rule.fullmatch(name))
    if not found:
        example = list(names)[-1] if names else "nothing: there are no parameters"
        raise ValueError(
            f"freeze rule {pattern!r} matches no parameter; names look like {example!r}"
        )
    return found


def check(stages: Sequence[Stage], layout: Layout) -> None:
    """Refuses stages that do not fit a network.

    Raises:
        ValueError: there is no stage, one trains nothing, names a parameter that the network
            lacks, or a learning-rate scale is not above 0.

    >>> check([Stage("head", {"fc.weight": 1.0})], layout_of({"head": ["fc.weight"]}))
    """
    if not stages:
        raise ValueError("a freeze strategy must give at least one stage; it gave none")
    known = set(layout.names)
    for stage in stages:
        if not stage.trains:
            raise ValueError(
                f"stage {stage.name!r} trains nothing; let its rules match a parameter, or the "
                "head train"
            )
        for name in (*stage.trains, *stage.anneal):
            if name not in known:
                raise ValueError(
                    f"stage {stage.name!r} names {name!r}, which is no parameter; names look "
                    f"like {layout.names[-1]!r}"
                )
        for name, scale in stage.trains.items():
            if not (0 < scale < math.inf):
                raise ValueError(
                    f"stage {stage.name!r} scales the learning rate of {name!r} by {scale}; "
                    "give a number above 0, or leave the parameter frozen"
                )


def spans(stages: Sequence[Stage], *, total_steps: int, steps_per_epoch: int) -> tuple[Span, ...]:
    """The stages laid end to end over the whole budget; the last one takes the rest.

    Ends are rounded where they fall, not where they add up, so that fractions do not drift. They
    may fall inside an epoch.

    Args:
        stages: at least one.
        total_steps: the budget in optimizer steps.
        steps_per_epoch: optimizer steps of one pass over the training data.

    Raises:
        ValueError: stages do not fit into the budget, one gets no step at all (with the least
            budget from which on all do), one before the last has no end, or an end is given twice
            or out of range.

    >>> stages = [Stage("head", {}, Until(epochs=0.5)), Stage("all", {})]
    >>> [(s.stage.name, s.start, s.end) for s in spans(stages, total_steps=9, steps_per_epoch=4)]
    [('head', 0, 2), ('all', 2, 9)]
    """
    if total_steps < 1 or steps_per_epoch < 1:
        raise ValueError(
            f"total_steps={total_steps}, steps_per_epoch={steps_per_epoch}; both must be 1 or more"
        )
    if not stages:
        raise ValueError("there is no stage to place; give at least one")
    ends = _ends(stages, total_steps, steps_per_epoch)
    placed = [Span(*each) for each in zip(stages, (0, *ends), ends, strict=False)]
    if _fit(ends, total_steps):
        return tuple(placed)
    least = least_steps(stages, steps_per_epoch=steps_per_epoch)
    fix = "shorten the stages before it, or raise trainer.epochs or trainer.steps"
    if least is not None and least > total_steps:
        fix = (
            f"the {len(stages)} stages fit into {least} steps or more: raise trainer.steps, or "
            "trainer.epochs, or let stages be fewer or shorter"
        )
    for span in placed:
        _check_end(span, total_steps=total_steps, last=span is placed[-1], fix=fix)
    return tuple(placed)


def least_steps(stages: Sequence[Stage], *, steps_per_epoch: int) -> int | None:
    """The least budget from which on the stages fit into every one; None: a longer one is no help.

    Smaller budgets may fit by luck, where no two ends are rounded to the same step.

    >>> stages = [Stage(f"{i}", {}, Until(fraction=0.3)) for i in range(2)] + [Stage("all", {})]
    >>> least_steps(stages, steps_per_epoch=1)
    3
    """
    shares = [stage.until.fraction or 0.0 for stage in stages]
    fixed = [_length(stage, 0, steps_per_epoch) or 0.0 for stage in stages]
    rest = 1.0 - math.fsum(shares)
    if any(0 < length < 1 for length in fixed) or rest <= 1e-9:
        return None
    # where each share is a step long, no two ends are rounded to the same one; half a step is
    # enough for the first and for the rest, one of whose ends is a step itself
    enough = [(0.5 if place == 0 else 1) / share for place, share in enumerate(shares) if share]
    least = math.ceil(max(*enough, (math.fsum(fixed) + 0.5) / rest, 1)) + 1
    while least > 1 and _fit(_ends(stages, least - 1, steps_per_epoch), least - 1):
        least -= 1
    return least


def _ends(stages: Sequence[Stage], total_steps: int, steps_per_epoch: int) -> list[int]:
    """The step at which each stage ends, whether they fit or not."""
    ends: list[int] = []
    mark = 0.0
    for place, stage in enumerate(stages):
        length = _length(stage, total_steps, steps_per_epoch)
        if length is None and place < len(stages) - 1:
            raise ValueError(
                f"stage {stage.name!r} has no end, and is not the last; give it one of steps, "
                "epochs or fraction"
            )
        mark = total_steps if length is None else mark + length
        ends.append(math.floor(mark + 0.5))
    return ends


def _fit(ends: Sequence[int], total_steps: int) -> bool:
    """Whether each stage has a step, and the last one ends with the budget."""
    grow = all(end > start for start, end in zip((0, *ends), ends, strict=False))
    return grow and ends[-1] == total_steps


def _length(stage: Stage, total_steps: int, steps_per_epoch: int) -> float | None:
    """Steps of a stage as its `until` says, unrounded; None without an end."""
    until = stage.until
    ends = {"steps": until.steps, "epochs": until.epochs, "fraction": until.fraction}
    given = {unit: value for unit, value in ends.items() if value is not None}
    if len(given) > 1:
        text = ", ".join(f"{unit}={value}" for unit, value in given.items())
        raise ValueError(f"stage {stage.name!r} has two ends, {text}; keep one of them")
    for unit, value in {**given, "plateau": until.plateau}.items():
        if value is None:
            continue
        if unit == "fraction" and not 0 < value <= 1:
            raise ValueError(f"stage {stage.name!r}: fraction={value}; give one in (0, 1]")
        least = 1 if unit in ("steps", "plateau") else 0
        if not (least <= value < math.inf and value > 0):
            text = "1 or more" if least else "above 0"
            raise ValueError(f"stage {stage.name!r}: {unit}={value}; give a number {text}")
    if until.steps is not None:
        return float(until.steps)
    if until.epochs is not None:
        return until.epochs * steps_per_epoch
    return None if until.fraction is None else until.fraction * total_steps


def _check_end(span: Span, *, total_steps: int, last: bool, fix: str) -> None:
    name, start, end = span.stage.name, span.start, span.end
    if end > total_steps:
        raise ValueError(
            f"stage {name!r} would end at step {end} of a budget of {total_steps}; {fix}"
        )
    if end <= start:
        raise ValueError(
            f"stage {name!r} gets no step: it would start at {start} and end at {end} of a budget "
            f"of {total_steps}; {fix}"
        )
    if last and end != total_steps:
        raise ValueError(
            f"the last stage {name!r} ends at step {end} of a budget of {total_steps}; leave its "
            "end out: it takes the rest"
        )
