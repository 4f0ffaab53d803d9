"""What a study claims, and whether its runs bear it out."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tlx.results.grammar import Claim, ClaimError, parse
from tlx.results.manifest import Manifest
from tlx.results.record import Record
from tlx.results.wording import sentence

if TYPE_CHECKING:
    from tlx.results.stats import Comparison

__all__ = ["Claim", "ClaimError", "Verdict", "judge", "parse"]

ALPHA = 0.05
MOST_SEEDS = 100
"""Beyond so many seeds a claim counts as not to be settled."""
HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        claim: its text.
        first: an arm.
        sign: `>` or `<`.
        second: an arm, or a number.
        metric: split and metric.
        margin: by how much more.
        status: `held`, `not held` or `undecided`.
        difference: mean of first minus second over seeds, whatever the sign; NaN without a seed.
        low: lower end of its 95% interval, by Student's t; NaN below two seeds.
        high: upper end.
        n: seeds in which both have a figure.
        missing: seeds of the study in which one or both lack it.
        p: two-sided, of the difference against the margin; NaN below two seeds.
        p_holm: Holm-adjusted over all claims of the study that have a p.
        test: `paired t`, `Wilcoxon` or `sign`, see `tlx.results.stats.compare`.
        more_seeds: for an undecided claim, how many seeds *in all* would settle it if mean and
            standard deviation stayed as seen; infinite for more than `MOST_SEEDS`; None where the
            claim is decided, or too few seeds are there to tell.
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
    n: int
    missing: int
    p: float
    p_holm: float
    test: str
    more_seeds: int | float | None
    sentence: str


def judge(manifest: Manifest, records: Mapping[str, Record]) -> list[Verdict]:
    """A verdict on each claim of a study.

    The difference between the arms is taken seed by seed and tested against the margin, *two-sided*
    and Holm-adjusted over all claims of the study. A claim is held where the test rejects at 0.05
    in the claim's direction, not held where it rejects in the opposite one, and undecided
    otherwise. A claim has a direction, so a one-sided test would be permissible and needs fewer
    seeds. But claims are often written once first results are known, "not held" is a finding too
    and needs the other tail, and a two-sided t test never contradicts the 95% interval beside it.
    So the probability that any claim is called held which is not true is at most 0.025.

    Seeds in which either arm lacks a finite figure are left out and counted in `missing`.

    Args:
        manifest: of the study.
        records: run's id -> record.

    Raises:
        ClaimError: a claim cannot be parsed.
    """
    from tlx.results.stats import holm
    from tlx.results.table import values

    claims = [parse(text, arms=manifest.arms, metric=manifest.metric) for text in manifest.claims]
    figures = {
        metric: values(manifest, records, metric=metric)
        for metric in dict.fromkeys(claim.metric for claim in claims)
    }
    found = [_compare(claim, figures[claim.metric], len(manifest.seeds)) for claim in claims]
    adjusted = holm([comparison.p for comparison in found])
    verdicts = []
    for index, claim in enumerate(claims):
        bare = _verdict(claim, found[index], adjusted[index])
        if bare.status == UNDECIDED:
            bare = replace(bare, more_seeds=_more_seeds(index, claims, found))
        known = _known(records) if bare.n == 0 else ()
        verdicts.append(replace(bare, sentence=sentence(bare, known=known, most=MOST_SEEDS)))
    return verdicts


def _compare(claim: Claim, arms: Mapping[str, Sequence[float]], seeds: int) -> "Comparison":
    from tlx.results.stats import compare

    none = [math.nan] * seeds
    other = claim.second
    second = arms.get(other, none) if isinstance(other, str) else [other] * seeds
    return compare(arms.get(claim.first, none), second, against=_against(claim))


def _known(records: Mapping[str, Record]) -> list[str]:
    """Every split/metric of the finished runs."""
    finished = (record for record in records.values() if record.status == "finished")
    splits = (pair for record in finished for pair in record.splits.items())
    return list(dict.fromkeys(f"{name}/{key}" for name, split in splits for key in split.metrics))


def _against(claim: Claim) -> float:
    return claim.margin if claim.sign == ">" else -claim.margin


def _status(claim: Claim, found: "Comparison", p_holm: float) -> str:
    side = 1 if found.difference > _against(claim) else -1
    # ranks may point away from the mean: then neither is believed
    if not p_holm <= ALPHA or side != found.direction:
        return UNDECIDED
    return HELD if (side > 0) == (claim.sign == ">") else NOT_HELD


def _more_seeds(
    index: int, claims: Sequence[Claim], found: Sequence["Comparison"]
) -> int | float | None:
    """Seeds in all at which Student's test would decide, the other claims staying as they are."""
    from tlx.results.stats import holm, paired_p

    this, ps = found[index], [comparison.p for comparison in found]
    if math.isnan(this.p):
        return None
    gap = this.difference - _against(claims[index])

    def settles(n: int) -> bool:
        p = paired_p(gap, this.sd, n)
        return holm([*ps[:index], p, *ps[index + 1 :]])[index] <= ALPHA

    seeds = range(this.n + 1, MOST_SEEDS + 1)
    place = bisect.bisect_left(seeds, True, key=settles)
    return seeds[place] if place < len(seeds) else math.inf


def _verdict(claim: Claim, found: "Comparison", p_holm: float) -> Verdict:
    return Verdict(
        claim=claim.text,
        first=claim.first,
        sign=claim.sign,
        second=claim.second,
        metric=claim.metric,
        margin=claim.margin,
        status=_status(claim, found, p_holm),
        difference=found.difference,
        low=found.low,
        high=found.high,
        n=found.n,
        missing=found.dropped,
        p=found.p,
        p_holm=p_holm,
        test=found.test,
        more_seeds=None,
        sentence="",
    )
