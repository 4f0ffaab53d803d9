"""From runs to verdicts: what the declared looks, and the others, say of each claim."""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlx.results import looks, sequential, stats
from tlx.results.grammar import Claim
from tlx.results.intervals import LEVEL, PAIRED_T, Comparison
from tlx.results.manifest import Manifest
from tlx.results.record import Record
from tlx.results.table import values
from tlx.results.verdict import MOST_SEEDS, UNDECIDED, Verdict, against, status_of

E_VALUE = "e-value"


@dataclass(frozen=True, kw_only=True)
class LookEvidence:
    """What looks of one kind say of a claim.

    Attributes:
        seen: the comparison at each look, in order.
        p: for Holm; NaN where there is no look with a test.
        runs: of the claim's arms, at the last of these looks.
        most: seeds of the last declared look; None for one look, 0 for looks not declared.
        futile: whether the claim was given up at the last look.
    """

    seen: Sequence[Comparison]
    p: float
    runs: looks.Runs
    most: int | None = None
    futile: bool = False

    def bound(self, alpha: float, n: int) -> float:
        """|t| from which on n seeds decide, at this claim's part of α."""
        from scipy.stats import t as student  # slow to import

        if self.most == 0:
            return sequential.e_bound(1 / alpha, n)
        if self.most is not None:
            alpha = min(1.0, sequential.limit(alpha, most=self.most) * n / self.most)
        return float(student.isf(alpha / 2, n - 1))

    def look(self, alpha: float) -> Comparison:
        """The first look that decides at this part of α, else the last one."""
        far = [abs(seen.t) >= self.bound(alpha, seen.n) for seen in self.seen]
        return self.seen[far.index(True) if True in far else -1]


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """A stage of one claim, corrected over all claims."""

    stage: LookEvidence
    adjusted: float
    alpha: float
    part: float

    @property
    def decides(self) -> bool:
        """Whether the test rejects."""
        return self.adjusted <= self.alpha

    def status(self, claim: Claim) -> str:
        """Held, not held or undecided, by this stage alone."""
        if not self.decides:
            return UNDECIDED
        seen = self.stage.look(self.alpha * self.part)
        return status_of(claim, difference=seen.difference, direction=seen.direction)


class Judge:
    """Judges the claims of one study."""

    def __init__(
        self, manifest: Manifest, records: Mapping[str, Record], plan: looks.LooksPlan
    ) -> None:
        """Reads nothing yet."""
        self.manifest, self.records, self.plan = manifest, records, plan
        self._figures: dict[tuple[int, str], Mapping[str, Sequence[float]]] = {}

    def verdicts(self, claims: Sequence[Claim]) -> list[Verdict]:
        """One of each claim, without its sentence."""
        estimates = [self._stage_of_one(claim, self.manifest) for claim in claims]
        if self.plan.left_out:
            left = ", ".join(map(str, self.plan.left_out))
            note = (
                f"no verdict: it was looked at with seeds ({left}) that are left out now, or in "
                "another order; declare those again"
            )
            return [self._bare(c, e, note=note) for c, e in zip(claims, estimates, strict=True)]
        declared = _ruled([self._declared(claim) for claim in claims], self.plan.alpha)
        later: list[Ruling | None] = [None] * len(claims)
        if self.plan.later:
            later = [*_ruled([self._later(claim) for claim in claims], looks.LATER_ALPHA)]
        counted = sum(not math.isnan(ruling.part) for ruling in declared)
        return [
            self._verdict(*group, counted=counted)
            for group in zip(claims, estimates, declared, later, strict=True)
        ]

    # -- the looks ----------------------------------------------------------------------------

    def _declared(self, claim: Claim) -> LookEvidence:
        study = self.plan.declared
        if self.plan.most is None:
            return self._stage_of_one(claim, study)
        runs = looks.runs_of(study, self.records, arms=_arms(claim))
        a, b = (side[: runs.whole] for side in self._sides(claim, study, runs))
        start = max(sequential.FIRST, min(study.sequential["first"], self.plan.most))
        seen, futile = _each(a, b, claim, start=start, most=self.plan.most)
        if runs.whole < start:
            seen = []
        least = min((item.p * self.plan.most / item.n for item in seen), default=math.nan)
        p = least if math.isnan(least) else sequential.level(least, most=self.plan.most)
        return LookEvidence(seen=seen, p=p, runs=runs, most=self.plan.most, futile=futile)

    def _later(self, claim: Claim) -> LookEvidence:
        seen, largest = [], 0.0
        for study in self.plan.later:
            runs = looks.runs_of(study, self.records, arms=_arms(claim))
            if runs.missing:
                continue
            a, b = self._sides(claim, study, runs)
            whole = _each(a, b, claim, start=1, most=None)[0]
            if whole and whole[-1].n > 1:
                last = whole[-1]
                evidence = float(sequential.e_value(last.t, last.n))
                largest = max(largest, evidence)
                # what was once seen stays: p and Holm's correction are of the same look
                seen.append(replace(last, p=min(1.0, 1 / largest), test=E_VALUE))
        p = min(1.0, 1 / largest) if largest else math.nan
        return LookEvidence(seen=seen, p=p, runs=runs, most=0)

    def _stage_of_one(self, claim: Claim, study: Manifest) -> LookEvidence:
        """One look at all seeds; whoever has runs missing gets the estimate alone."""
        runs = looks.runs_of(study, self.records, arms=_arms(claim))
        a, b = self._sides(claim, study, runs)
        found = stats.compare(a, b, against=against(claim))
        return LookEvidence(seen=[found], p=math.nan if runs.missing else found.p, runs=runs)

    def _sides(
        self, claim: Claim, study: Manifest, runs: looks.Runs
    ) -> tuple[list[float], list[float]]:
        """The figures of both sides, one a seed that was planned."""
        key = (id(study), claim.metric)  # the plan keeps its studies, so ids stay theirs
        if key not in self._figures:
            self._figures[key] = values(study, self.records, metric=claim.metric)
        arms, planned = self._figures[key], set(runs.seeds)
        none = [math.nan] * len(study.seeds)
        second = claim.second
        sides = (
            arms.get(claim.first, none),
            arms.get(second, none) if isinstance(second, str) else [second] * len(study.seeds),
        )
        first, other = (
            [value for seed, value in zip(study.seeds, side, strict=True) if seed in planned]
            for side in sides
        )
        return first, other

    # -- the verdict --------------------------------------------------------------------------

    def _verdict(
        self,
        claim: Claim,
        estimate: LookEvidence,
        declared: Ruling,
        later: Ruling | None,
        *,
        counted: int,
    ) -> Verdict:
        ruling, status, note = declared, declared.status(claim), ""
        if later is not None:
            ruling, status, note = self._split(claim, declared, later)
        stage = ruling.stage
        waits = stage.runs.missing and (later is not None or status == UNDECIDED)
        if waits or not stage.seen or math.isnan(ruling.part):
            verdict = self._bare(claim, estimate)
            return replace(verdict, open=not waits and self._open(verdict, stage))
        seen = stage.look(ruling.alpha * ruling.part)
        low, high = _interval(stage, seen, ruling.alpha * ruling.part, decided=ruling.decides)
        verdict = replace(
            self._bare(claim, estimate),
            status=status,
            difference=seen.difference,
            low=low,
            high=high,
            level=1 - ruling.alpha * ruling.part,
            n=seen.n,
            missing=seen.dropped,
            p=seen.p,
            p_holm=ruling.adjusted,
            alpha=ruling.alpha,
            test=seen.test,
            looked=self._looked(stage),
            note=note,
        )
        if status != UNDECIDED:
            return verdict
        is_open = self._open(verdict, stage)
        if not note and stage.futile:
            note = "given up: what is seen is too small to be decided with the seeds declared"
        most = stage.most if stage.most and is_open else MOST_SEEDS
        more = _more_seeds(against(claim), seen, counted, most=stage.most if is_open else 0)
        return replace(verdict, note=note, open=is_open, more_seeds=more, most_seeds=most)

    def _split(self, claim: Claim, declared: Ruling, later: Ruling) -> tuple[Ruling, str, str]:
        """The stage that decides, what it says, and why one that decided before no longer does."""
        first, second = declared.status(claim), later.status(claim)
        n = declared.stage.seen[-1].n if declared.stage.seen else 0
        if UNDECIDED not in (first, second) and first != second:
            note = f"the declared look, at {n} seeds, and the later ones decide in opposite ways"
            return later, UNDECIDED, note
        if second != UNDECIDED:
            return later, second, ""
        if first != UNDECIDED and not later.stage.runs.missing:
            total = later.stage.runs.n
            note = f"decided by the declared look, before there were {total} seeds"
            looked = declared.stage.look(declared.alpha * declared.part)
            return declared, first, note if total > looked.n else ""
        would = replace(declared, alpha=looks.ALPHA).status(claim)
        note = ""
        if would != UNDECIDED and first == UNDECIDED:
            note = (
                f"withdrawn: p = {declared.adjusted:.2g} at {n} seeds was called {would}, at 0.05; "
                f"seeds were added after that look, which leaves it {looks.FIRST_ALPHA}"
            )
        return later, UNDECIDED, note

    def _bare(self, claim: Claim, estimate: LookEvidence, *, note: str = "") -> Verdict:
        """The estimate over all seeds that are in, undecided."""
        seen = estimate.seen[0]
        lacking = [status for found in estimate.runs.missing.values() for status in found]
        return Verdict(
            claim=claim.text,
            first=claim.first,
            sign=claim.sign,
            second=claim.second,
            metric=claim.metric,
            margin=claim.margin,
            status=UNDECIDED,
            difference=seen.difference,
            low=seen.low,
            high=seen.high,
            level=LEVEL,
            n=seen.n,
            missing=seen.dropped,
            p=math.nan,
            p_holm=math.nan,
            alpha=self.plan.alpha,
            test=seen.test,
            more_seeds=None,
            most_seeds=MOST_SEEDS,
            waiting=len(lacking),
            failed=lacking.count("failed"),
            looked=0,
            open=False,
            note=note,
            sentence="",
        )

    def _looked(self, stage: LookEvidence) -> int:
        """Seeds of the study up to the last that the stage has looked at."""
        seeds = stage.runs.seeds[: stage.runs.whole]
        return self.manifest.seeds.index(seeds[-1]) + 1 if seeds else 0

    def _open(self, verdict: Verdict, stage: LookEvidence) -> bool:
        """Whether the study has declared seeds that might decide it."""
        most = self.manifest.sequential.get("max_seeds", 0)
        small = stage.runs.n < sequential.FIRST
        return stage.runs.n < most and not stage.futile and (small or verdict.n > 0)


def _arms(claim: Claim) -> Iterable[str]:
    return [claim.first, *([claim.second] if isinstance(claim.second, str) else [])]


def _ruled(stages: Sequence[LookEvidence], alpha: float) -> list[Ruling]:
    """Stages corrected by Holm; claims that wait count, for they will have a p."""
    ps = [1.0 if stage.runs.missing and not stage.p <= 1 else stage.p for stage in stages]
    return [
        Ruling(stage=stage, adjusted=adjusted, alpha=alpha, part=part)
        for stage, adjusted, part in zip(stages, stats.holm(ps), stats.shares(ps), strict=True)
    ]


def _each(
    a: Sequence[float], b: Sequence[float], claim: Claim, *, start: int, most: int | None
) -> tuple[list[Comparison], bool]:
    """Student's test after every seed from `start` on, until a claim is given up.

    Args:
        a: figures of the first, one a seed.
        b: of the second.
        claim: what they are tested against.
        start: pairs of the first look.
        most: pairs of the last look; None where nothing is given up.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    whole = np.isfinite(first - second)
    gaps = stats.rounded_gaps(first[whole], second[whole], against(claim))
    scale = stats.scale_of(first[whole], second[whole], against(claim))
    tests = sequential.prefixes(gaps, equal=stats.EQUAL)
    futile = sequential.futile(tests.t, tests.n, most=most) if most else np.zeros(len(gaps), bool)
    seen = []
    for place in range(start - 1, len(gaps)):
        n, t = place + 1, float(tests.t[place])
        mean = float((first - second)[whole][:n].mean())
        found = Comparison(
            difference=mean,
            low=math.nan,
            high=math.nan,
            n=n,
            t=t,
            p=float(tests.p[place]),
            test=PAIRED_T,
            sd=float(tests.sd[place]) * scale,
            dropped=len(whole) - len(gaps),
            direction=int(np.sign(tests.mean[place])),
        )
        seen.append(found)
        if futile[place]:
            return seen, True
    return seen, False


def _interval(
    stage: LookEvidence, seen: Comparison, alpha: float, *, decided: bool
) -> tuple[float, float]:
    """Of the differences that this look does not reject; NaN where it has none."""
    if seen.n < 2:
        return math.nan, math.nan
    half = stage.bound(alpha, seen.n) * seen.sd / math.sqrt(seen.n)
    # differences that are all equal say nothing of their deviation
    if stage.most is not None and (math.isinf(half) or (seen.sd == 0 and not decided)):
        return math.nan, math.nan
    return seen.difference - half, seen.difference + half


def _more_seeds(
    margin: float, seen: Comparison, counted: int, *, most: int | None
) -> int | float | None:
    """Seeds in all at which a claim would be decided if mean and deviation stayed.

    Args:
        margin: that the difference is tested against.
        seen: at the last look.
        counted: claims that share α.
        most: seeds that were declared; 0 or None where any more are not.
    """
    if seen.n < 2:
        return None
    gap, last = seen.difference - margin, most or MOST_SEEDS

    def settles(n: int) -> bool:
        p = stats.paired_p(gap, seen.sd, n)
        if most:
            return p <= sequential.limit(looks.ALPHA / counted, most=most) * n / most
        t = math.inf if seen.sd == 0 and gap else 0.0
        t = abs(gap) / seen.sd * math.sqrt(n) if seen.sd else t
        evidence = float(sequential.e_value(t, n))
        return evidence >= counted / looks.LATER_ALPHA

    seeds = range(seen.n + 1, last + 1)
    place = bisect.bisect_left(seeds, True, key=settles)
    return seeds[place] if place < len(seeds) else math.inf
