"""Learning-rate schedules as pure functions of step and length. Standard library only.

A schedule that falls (constant, cosine, linear) may begin with a linear warm-up over
`warmup_steps`, or over `warmup_fraction` of its length; `one_cycle` and `slanted_triangular` have
a rise of their own. No step has a factor of 0. `scope` says whether the length is the run's or
each stage's; it is always the planned one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from tlx.base.ranges import Range

Curve = Callable[[int, int], float]
"""(step, total) -> factor."""


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule.

    Attributes:
        curve: factor of the base learning rate at a step of the part after the warm-up, and the
            length of that part.
        scope: `run` or `stage`: where steps are counted from, and what the length is.
        warmup_steps: steps of linear rise to 1 before the curve.
        warmup_fraction: the same as a share of the length.
    """

    curve: Curve
    scope: Literal["run", "stage"] = "run"
    warmup_steps: int = 0
    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Checks the arguments.

        Raises:
            ValueError: one is out of range, or the warm-up is given twice.
        """
        if self.scope not in ("run", "stage"):
            raise ValueError(f"schedule.scope={self.scope!r}; give 'run' or 'stage'")
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps={self.warmup_steps}; give 0 or more")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"schedule.warmup_fraction={self.warmup_fraction}; give one in [0, 1)")
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError(
                f"schedule.warmup_steps={self.warmup_steps} and warmup_fraction="
                f"{self.warmup_fraction} are both given; set one of them to 0"
            )

    def check(self, total: int, *, of: str) -> None:
        """Passes a schedule whose warm-up ends before its length does.

        Args:
            total: planned steps of the scope.
            of: what has that length, for the message.

        Raises:
            ValueError: the base learning rate would never be reached.
        """
        if total > 0 and (warmup := self._warmup(total)) >= total:
            key = "warmup_steps" if self.warmup_steps else "warmup_fraction"
            raise ValueError(
                f"schedule.{key}={getattr(self, key)} is a warm-up of {warmup} steps, and {of} has "
                f"{total}: optimizer.lr would never be reached; lower it, or raise trainer.epochs "
                "or trainer.steps"
            )

    def factor(self, step: int, total: int) -> float:
        """What the base learning rate is multiplied by.

        Args:
            step: optimizer steps since the scope's start, from 0.
            total: planned steps of the scope; later steps keep the last one's factor.
        """
        step = min(step, total - 1)
        warmup = self._warmup(total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.curve(step - warmup, total - warmup)

    def _warmup(self, total: int) -> int:
        return self.warmup_steps or round(self.warmup_fraction * total)


def constant(
    *, warmup_steps: int = 0, warmup_fraction: float = 0.0, scope: Literal["run", "stage"] = "run"
) -> Schedule:
    """The base learning rate throughout.

    >>> constant(warmup_steps=1).factor(0, 10)
    0.5
    """
    return Schedule(_constant, scope, warmup_steps, warmup_fraction)


def cosine(
    *,
    warmup_steps: int = 0,
    warmup_fraction: float = 0.0,
    end_factor: Annotated[float, Range(least=0, most=1)] = 0.0,
    scope: Literal["run", "stage"] = "run",
) -> Schedule:
    """Half a cosine from 1 to `end_factor`, which the step after the last would have.

    Source: Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.

    >>> round(cosine().factor(5, 10), 3)
    0.5
    """
    return Schedule(partial(_cosine, end=_end(end_factor)), scope, warmup_steps, warmup_fraction)


def linear(
    *,
    warmup_steps: int = 0,
    warmup_fraction: float = 0.0,
    end_factor: Annotated[float, Range(least=0, most=1)] = 0.0,
    scope: Literal["run", "stage"] = "run",
) -> Schedule:
    """A straight line from 1 to `end_factor`, which the step after the last would have.

    >>> linear().factor(5, 10)
    0.5
    """
    return Schedule(partial(_linear, end=_end(end_factor)), scope, warmup_steps, warmup_fraction)


def one_cycle(
    *,
    pct_start: Annotated[float, Range(above=0, below=1)] = 0.3,
    div_factor: Annotated[float, Range(least=1)] = 25.0,
    final_div_factor: Annotated[float, Range(least=1)] = 10000.0,
    scope: Literal["run", "stage"] = "run",
) -> Schedule:
    """Half a cosine up to the base learning rate, then half a cosine down to almost nothing.

    Args:
        pct_start: share of the length that rises, in (0, 1).
        div_factor: the base learning rate over the first one.
        final_div_factor: the first learning rate over the last.
        scope: whether it spans the run or each stage.

    Raises:
        ValueError: an argument is out of range.

    Source: Smith and Topin 2018, "Super-Convergence", as torch's OneCycleLR; unlike there, the
    optimizer's momentum stays.

    >>> round(one_cycle().factor(0, 100), 6)
    0.04
    """
    if not 0 < pct_start < 1:
        raise ValueError(f"schedule.pct_start={pct_start}; give a fraction in (0, 1)")
    for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        if not value >= 1:
            raise ValueError(f"schedule.{name}={value}; give 1 or more")
    first = 1 / div_factor
    return Schedule(
        partial(_one_cycle, share=pct_start, first=first, final=first / final_div_factor), scope
    )


def slanted_triangular(
    *,
    cut_frac: Annotated[float, Range(above=0, below=1)] = 0.1,
    ratio: Annotated[float, Range(least=1)] = 32.0,
    scope: Literal["run", "stage"] = "run",
) -> Schedule:
    """A short straight rise, then a long straight fall.

    Args:
        cut_frac: share of the length that rises, in (0, 1).
        ratio: the base learning rate over the smallest.
        scope: whether it spans the run or each stage.

    Raises:
        ValueError: an argument is out of range.

    Source: Howard and Ruder 2018, "ULMFiT", equation 3. Where `cut_frac` of the length is not
    whole, the paper's fall would end below the smallest rate; ours ends at it.

    >>> schedule = slanted_triangular()
    >>> schedule.factor(0, 100), schedule.factor(10, 100)
    (0.03125, 1.0)
    """
    if not 0 < cut_frac < 1:
        raise ValueError(f"schedule.cut_frac={cut_frac}; give a fraction in (0, 1)")
    if not ratio >= 1:
        raise ValueError(f"schedule.ratio={ratio}; give 1 or more")
    return Schedule(partial(_slanted_triangular, share=cut_frac, ratio=ratio), scope)


def _end(end_factor: float) -> float:
    if not 0 <= end_factor <= 1:
        raise ValueError(f"schedule.end_factor={end_factor}; give one in [0, 1]")
    return end_factor


def _constant(step: int, total: int) -> float:
    return 1.0


def _cosine(step: int, total: int, *, end: float) -> float:
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * step / total))


def _linear(step: int, total: int, *, end: float) -> float:
    return 1 + (end - 1) * step / total


def _one_cycle(step: int, total: int, *, share: float, first: float, final: float) -> float:
    top, last = share * total - 1, total - 1
    if last == 0:  # a single step has neither rise nor fall
        return 1.0
    if step <= top:
        return _between(first, 1.0, step / top if top else 1.0)
    return _between(1.0, final, (step - top) / (last - top))


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def _slanted_triangular(step: int, total: int, *, share: float, ratio: float) -> float:
    cut = math.floor(total * share)
    height = step / cut if step < cut else 1 - (step - cut) / (total - cut)
    return (1 + height * (ratio - 1)) / ratio
