"""A study as the report sees it: its runs by arm, its figures over seeds."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tlx.base import sealed
from tlx.results import claims, grammar, manifest, stats, table
from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.record import Record
from tlx.results.stats import Comparison, Interval
from tlx.results.verdict import Verdict

MANY_RUNS = 1_000
"""Above so many runs the page draws and lists a part only."""
NOT_EVALUATION = ("train", "val")
LABELS = "labels_per_class"
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm's figure over seeds.

    Attributes:
        arm: which.
        interval: mean with Student's interval; `n` seeds have a figure.
        sd: deviation over seeds; NaN below two.
        values: one a seed of the manifest, NaN where there is none.
        planned: seeds that were planned.
        nan: how many runs finished without a number.
    """

    arm: str
    interval: Interval
    sd: float
    values: tuple[float, ...]
    planned: int
    nan: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm less the baseline, over the seeds that both have.

    Attributes:
        arm: which.
        comparison: paired.
        p_holm: corrected over all arms of the table; NaN where there is no test.
    """

    arm: str
    comparison: Comparison
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study with its records.

    Attributes:
        folder: of the study.
        runs_dir: of the runs.
        manifest: what was planned.
        records: run's id -> record.
        problems: why records that are there could not be read.
        missing: ids of planned runs without a record.
        picked: arm -> its runs under the candidate that it chose, in the order of seeds.
        chosen: arm -> that candidate.
        unnoted: why no verdict may be given: the look could not be noted; empty where it was.
        damaged: files of runs that are not what was written; they are left out, and told of.
        cache: figures that were computed already; the records never change.
    """

    folder: Path
    runs_dir: Path
    manifest: Manifest
    records: Mapping[str, Record]
    problems: Sequence[str]
    missing: Sequence[str]
    picked: Mapping[str, Sequence[PlannedRun]]
    chosen: Mapping[str, str]
    unnoted: str = ""
    damaged: set[Path] = field(default_factory=set, compare=False)
    cache: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What is made of the study, made once."""
        if key not in self.cache:
            self.cache[key] = make()
        made: T = self.cache[key]
        return made

    @property
    def split(self) -> str:
        """Split of the primary figure."""
        return self.manifest.metric.partition("/")[0]

    @property
    def metric(self) -> str:
        """Name of the primary figure, without its split."""
        return self.manifest.metric.partition("/")[2]

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Splits to report on, the primary one first, `train` and `val` left out."""
        found = [name for name in table.splits(self.records) if name not in NOT_EVALUATION]
        return tuple(dict.fromkeys([self.split, *found]))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of all figures, the primary one first."""
        found = (m for r in self.records.values() for s in r.splits.values() for m in s.metrics)
        return tuple(dict.fromkeys([self.metric, *found]))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms that have runs, in the manifest's order."""
        return tuple(arm for arm in self.manifest.arms if arm in self.picked)

    @property
    def many(self) -> bool:
        """Whether only a part is drawn."""
        return len(self.manifest.runs) > MANY_RUNS

    @cached_property
    def shared(self) -> bool:
        """Whether a run trained from stored activations or inputs, or in a job with others."""
        return any(record.cached or record.fused_with for record in self.records.values())

    @cached_property
    def repeated(self) -> bool:
        """Whether an arm has its figure of two seeds: below there is no interval."""
        return any(item.interval.n > 1 for item in self.summaries(self.manifest.metric))

    @property
    def with_interval(self) -> str:
        """What captions say behind a mean; nothing where there is no interval."""
        return " with its 95% interval over seeds" if self.repeated else ""

    @cached_property
    def verdicts(self) -> Sequence[Verdict]:
        """Of the claims; none where `trouble` says why."""
        return [] if self.trouble else claims.judge(self.manifest, self.records)

    @cached_property
    def trouble(self) -> str:
        """Why the claims cannot be judged; empty where they can."""
        try:
            for text in self.manifest.claims:
                grammar.parse(text, arms=self.manifest.arms, metric=self.manifest.metric)
        except grammar.ClaimError as error:
            return str(error)
        return self.unnoted

    def better(self, metric: str) -> str:
        """`max` or `min`, what is better in a figure (named without its split)."""
        known = dict(self.manifest.directions)
        return known.get(metric, self.manifest.mode if metric == self.metric else "max")

    @property
    def statuses(self) -> dict[str, int]:
        """How its runs ended: status -> how many, those that there are."""
        found = Counter(record.status for record in self.records.values())
        found.update(missing=len(self.missing), unreadable=len(self.problems))
        return {status: n for status, n in found.items() if n}

    def finished(self, arm: str) -> list[Record]:
        """Records of the arm's finished runs under its chosen candidate."""
        found = (self.records.get(run.run) for run in self.picked.get(arm, ()))
        return [record for record in found if record and record.status == "finished"]

    def values(self, metric: str) -> Mapping[str, Sequence[float]]:
        """Each arm's figure, one a seed of the manifest; as `table.values`, kept for later."""
        return self.once(
            ("values", metric), lambda: {arm: self._values(arm, metric) for arm in self.arms}
        )

    def summaries(self, metric: str) -> Sequence[ArmSummary]:
        """Every arm's figure over seeds, `test/accuracy` say."""
        return self.once(
            ("summaries", metric),
            lambda: [self._summary(arm, values) for arm, values in self.values(metric).items()],
        )

    def differences(self, metric: str) -> Sequence[Difference]:
        """Every arm less the baseline; empty without a baseline."""
        return self.once(("differences", metric), lambda: self._differences(metric))

    def _differences(self, metric: str) -> list[Difference]:
        base, values = self.manifest.baseline, self.values(metric)
        if base is None or base not in self.picked:
            return []
        others = [arm for arm in self.arms if arm != base]
        found = [stats.compare(values[arm], values[base]) for arm in others]
        corrected = stats.holm([item.p for item in found])
        return [
            Difference(arm=arm, comparison=item, p_holm=p)
            for arm, item, p in zip(others, found, corrected, strict=True)
        ]

    def _values(self, arm: str, metric: str) -> Sequence[float]:
        found = table.of_seeds(self.picked[arm], self.records, metric=metric)
        return [found.get(seed, math.nan) for seed in self.manifest.seeds]

    def _summary(self, arm: str, values: Sequence[float]) -> ArmSummary:
        found = stats.summary(values)
        interval = Interval(value=found.mean, low=found.low, high=found.high, n=found.n)
        return ArmSummary(
            arm=arm,
            interval=interval,
            sd=found.sd,
            values=tuple(values),
            planned=len({run.seed for run in self.picked[arm]}),
            nan=max(0, len(self.finished(arm)) // max(len(self.manifest.folds), 1) - found.n),
        )


def read(folder: Path, *, runs_dir: Path) -> StudyView:
    """The study whose manifest lies in a folder; notes there that its claims are looked at.

    Args:
        folder: of the study.
        runs_dir: where its runs live.

    Raises:
        ManifestError: there is no manifest, or it is broken.
    """
    spec = manifest.read(folder)
    loaded = table.load(runs_dir, manifest=spec)
    unnoted = ""
    try:
        spec = claims.take(folder, spec, loaded.records)
    except grammar.ClaimError:
        pass  # which `trouble` tells
    except OSError as error:
        unnoted = f"no verdict is given, for it cannot be noted that one was: {error}"
    return StudyView(
        folder=Path(folder),
        runs_dir=Path(runs_dir),
        manifest=spec,
        records=loaded.records,
        problems=loaded.problems,
        missing=loaded.missing,
        picked=table.picked(spec, loaded.records),
        chosen=table.chosen(spec, loaded.records),
        unnoted=unnoted,
    )


def sound(study: StudyView, read: Callable[[Path], T], path: Path, *, nothing: T) -> T:
    """What is read of a file of a run; `nothing`, and a line to the person, where it is damaged.

    Args:
        study: which the run belongs to.
        read: reads it.
        path: of the file.
        nothing: what stands for it in tables and figures.
    """
    if path in study.damaged:
        return nothing
    try:
        return read(path)
    except sealed.Damaged as error:
        study.damaged.add(path)
        log.warning("%s. The report leaves it out", error)
        return nothing


def shows(record: Record, view: str, *, of_old: Collection[str] = ()) -> bool:
    """Whether a run's task has a view; `of_old`: tasks of records from before they said so."""
    return record.task in of_old if record.views is None else view in record.views


def provenance(study: StudyView, run: str) -> Mapping[str, object]:
    """What provenance.json of a run says; empty where it is missing or damaged."""
    path = study.runs_dir / run / "provenance.json"
    return sound(study, _provenance, path, nothing={})


def _provenance(path: Path) -> Mapping[str, object]:
    sealed.check(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (ValueError, RecursionError) as error:
        raise sealed.Damaged(f"{path} is damaged ({error})", folder=path.parent) from error
    if not isinstance(found, dict):
        raise sealed.Damaged(f"{path} is damaged (it holds no object)", folder=path.parent)
    return found
