"""Which weights a run has kept: of which step, and of which of its stages."""

from collections.abc import Iterable
from dataclasses import dataclass

from tlx.results.record import Record


@dataclass(frozen=True, kw_only=True)
class KeptWeights:
    """Where in a run the weights come from that it was judged by.

    Attributes:
        step: optimizer steps that they had been trained for.
        stage: name of the stage that the step is in.
        last: whether that is the last stage of the strategy. Of records that do not say: the last
            one that was begun.
        several: whether the strategy has several stages.
    """

    step: int
    stage: str
    last: bool
    several: bool


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often some runs of several stages kept weights of another stage than the last.

    Attributes:
        earlier: runs that did.
        several: finished runs of several stages.
    """

    earlier: int
    several: int

    def __str__(self) -> str:
        """`4 of 5`."""
        return f"{self.earlier:,} of {self.several:,}"


def of(record: Record | None) -> KeptWeights | None:
    """Which weights a finished run has kept; None where nothing tells.

    Records that were written before they named the stage tell it by the steps of their stages.
    """
    if record is None or record.status != "finished":
        return None
    selected, stages = record.selected, record.stages
    # a stage's own validations come after its first step, the one of its end included
    within = [place for place, s in enumerate(stages) if selected and s.start < selected.step]
    if selected is None or not within:
        return None
    place = within[-1]
    last = place == len(stages) - 1 if selected.last_stage is None else selected.last_stage
    return KeptWeights(
        step=selected.step,
        stage=selected.stage or stages[place].name,
        last=last,
        several=len(stages) > 1 or not last,
    )


def count(records: Iterable[Record | None]) -> Count:
    """How often runs of several stages kept weights of another stage than the last."""
    several = [kept for kept in map(of, records) if kept is not None and kept.several]
    return Count(earlier=sum(not kept.last for kept in several), several=len(several))


def sentence(record: Record | None) -> str:
    """Step and stage in a few words, `step 60 (stage all)`; empty where nothing tells."""
    kept = of(record)
    if kept is None:
        return ""
    text = f"step {kept.step:,} (stage {kept.stage})"
    return text if kept.last else f"{text}, not of the last stage"
