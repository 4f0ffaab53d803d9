"""What runs say of a claim, as data."""

from dataclasses import dataclass

from tlx.results.grammar import Claim

MOST_SEEDS = 100
"""Beyond so many seeds a claim counts as not to be settled."""
HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say of a claim.

    The figures of a decided claim are those of the look that decided it.

    Attributes:
        claim: its text.
        first: an arm.
        sign: `>` or `<`.
        second: an arm, or a number.
        metric: split and metric.
        margin: by how much more.
        status: `held`, `not held` or `undecided`.
        difference: mean of first minus second over seeds, whatever the sign; NaN without a seed.
        low: lower end of its interval, which is corrected as the verdict is; NaN below two seeds.
        high: upper end.
        level: of the interval, 0.95 for one claim of a study that was looked at once.
        n: seeds in which both have a figure.
        missing: seeds of the study in which one or both lack it.
        p: two-sided, of the difference against the margin; of an e-value its inverse; NaN below two
            seeds, and while runs are missing.
        p_holm: corrected for the number of declared looks, and by Holm over all claims that have
            a p or will have one.
        alpha: what `p_holm` is held against.
        test: `paired t`, `Wilcoxon` or `sign`, see `tlx.results.stats.compare`; `e-value` for looks
            that were not declared.
        more_seeds: for an undecided claim, how many seeds *in all* would settle it, validly, if
            mean and standard deviation stayed as seen; infinite for more than `most_seeds`; None
            where the claim is decided, or too few seeds are there to tell.
        most_seeds: the most that `more_seeds` can be.
        waiting: declared runs without a result, for which the verdict waits.
        failed: how many of them failed.
        looked: seeds of the study, the first ones, on which this is a verdict; 0 while it waits.
        open: whether the study itself would add seeds for it.
        note: what else there is to know of the verdict.
        sentence: all of this in plain English.
    """

    claim: str
    first: str
    sign: str
    second: str | float
    metric: str
    margin: float
    status: str
    difference: float
    low: float
    high: float
    level: float
    n: int
    missing: int
    p: float
    p_holm: float
    alpha: float
    test: str
    more_seeds: int | float | None
    most_seeds: int
    waiting: int
    failed: int
    looked: int
    open: bool
    note: str
    sentence: str


def against(claim: Claim) -> float:
    """The difference, first minus second, that the claim is tested against."""
    return claim.margin if claim.sign == ">" else -claim.margin


def status_of(claim: Claim, *, difference: float, direction: int) -> str:
    """Which way a test that rejects decides a claim.

    Args:
        claim: what is claimed.
        difference: mean of first minus second.
        direction: 1 where the test sees it above what it was tested against, -1 below.
    """
    side = 1 if difference > against(claim) else -1
    # ranks may point away from the mean: then neither is believed
    if side != direction:
        return UNDECIDED
    return HELD if (side > 0) == (claim.sign == ">") else NOT_HELD
