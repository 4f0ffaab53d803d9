"""The records of a folder or of a study: as a tidy table, by arm, by seed."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlx.results import kept_weights
from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.reading import many_objects, read_many
from tlx.results.record import FILE, Record, RecordError

if TYPE_CHECKING:
    import pandas

FACTOR = "factor:"
"""What the names of the columns of factors start with."""
MISSING, UNREADABLE = "missing", "unreadable"
_OF_RUN = ("run", "arm", "seed", "candidate", "status")
_KEPT = ("kept_step", "kept_stage", "kept_last_stage")
_COUNTS = ("trainable", "total_parameters", "peak_memory_bytes", "used_steps", "budget_steps")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A study's records.

    Attributes:
        records: run's id -> record.
        problems: why records that are there could not be read, one text a record.
        missing: ids of the planned runs that have no record.
    """

    records: dict[str, Record]
    problems: list[str]
    missing: tuple[str, ...]


def load(runs_dir: Path | str, *, manifest: Manifest) -> Loaded:
    """The records of a study's runs, whatever their status.

    Runs of one arm whose config meant something else when they were trained than it does in others
    of that arm are among the problems: no figure mixes both meanings.

    Args:
        runs_dir: where runs live.
        manifest: of the study.
    """
    ids = dict.fromkeys(run.run for run in manifest.runs)
    records, problems, missing = {}, [], []
    with many_objects():
        for name, found in read_many(os.path.join(runs_dir, run) for run in ids):
            if found is None:
                missing.append(name)
            elif isinstance(found, RecordError):
                problems.append(str(found))
            else:
                records[name] = found
    for name, why in _of_another_meaning(manifest, records).items():
        problems.append(why)
        del records[name]
    return Loaded(records=records, problems=problems, missing=tuple(missing))


def chosen(manifest: Manifest, records: Mapping[str, Record]) -> dict[str, str]:
    """Each arm's candidate: of those it may choose from, the best on validation.

    The best has the best mean over seeds of `selected.value`, as `selected.mode` says. A
    candidate that lacks more seeds (missing, failed, pruned, or a value that is no number) is
    worse than any that lacks fewer; of equals the first is taken. No test figure is looked at.
    Where the study adds seeds itself, only the seeds that it starts with choose.

    Args:
        manifest: of the study.
        records: run's id -> record.
    """
    scores: dict[str, dict[str, list[float]]] = {arm: {} for arm in manifest.arms}
    choosing = set(manifest.seeds[: manifest.sequential.get("first")])
    for run in manifest.runs:
        if manifest.sequential and run.seed not in choosing:
            continue
        candidates = scores.setdefault(run.arm, {})
        candidates.setdefault(run.candidate, []).append(_selected(records.get(run.run)))
    return {
        arm: min(candidates, key=lambda name: _rank(candidates[name]))
        for arm, candidates in scores.items()
        if candidates
    }


def picked(manifest: Manifest, records: Mapping[str, Record]) -> dict[str, list[PlannedRun]]:
    """Each arm's runs under its chosen candidate, in the order of the manifest's seeds.

    Args:
        manifest: of the study.
        records: run's id -> record.
    """
    choice = chosen(manifest, records)
    runs: dict[str, list[PlannedRun]] = {arm: [] for arm in choice}
    for run in manifest.runs:
        if choice[run.arm] == run.candidate:
            runs[run.arm].append(run)
    order = {seed: place for place, seed in enumerate(manifest.seeds)}
    for items in runs.values():
        items.sort(key=lambda run: order.get(run.seed, len(order)))
    return runs


def values(
    manifest: Manifest, records: Mapping[str, Record], *, metric: str
) -> dict[str, list[float]]:
    """Each arm's figure, one a seed of the manifest, under its chosen candidate.

    Where the study has folds, that is the seed's mean over them, see `tlx.results.folds`.

    Args:
        manifest: of the study.
        records: run's id -> record.
        metric: split and metric, `test/accuracy`.

    Returns:
        Arm -> figures in the order of the manifest's seeds; NaN where the run is missing, has
        not finished, or has no such figure.

    Raises:
        ValueError: `metric` has no slash, or an arm has two runs of one seed and fold.
    """
    found = {}
    for arm, runs in picked(manifest, records).items():
        count = len({(run.seed, run.fold) for run in runs})
        if count < len(runs):
            raise ValueError(
                f"arm {arm!r} has {len(runs)} runs and {count} seeds and folds; "
                "an arm has one run of each, give what differs its own arm"
            )
        by_seed = of_seeds(runs, records, metric=metric)
        found[arm] = [by_seed.get(seed, math.nan) for seed in manifest.seeds]
    return found


def of_seeds(
    runs: Iterable[PlannedRun], records: Mapping[str, Record], *, metric: str
) -> dict[int, float]:
    """Seed -> the figure of its run, or the mean over its folds; NaN where one of them lacks it.

    Args:
        runs: of one arm and candidate.
        records: run's id -> record.
        metric: split and metric, `test/accuracy`.
    """
    values: dict[int, list[float]] = {}
    for run in runs:
        value = figure(records.get(run.run), metric=metric)
        values.setdefault(run.seed, []).append(value)
    return {seed: mean_of(each) for seed, each in values.items()}


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN where a value is not finite, but for the only one, which stays as it is."""
    if len(values) == 1:
        return values[0]
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def figure(record: Record | None, *, metric: str) -> float:
    """A finished run's figure; NaN where there is none.

    Args:
        record: of the run; None where it has none.
        metric: split and metric, `test/accuracy`.

    Raises:
        ValueError: `metric` has no slash.
    """
    split, slash, name = metric.partition("/")
    if not slash:
        raise ValueError(f"metric={metric!r}; name the split too, 'test/{metric}'")
    if record is None or record.status != "finished" or split not in record.splits:
        return math.nan
    found = record.splits[split].metrics.get(name)
    return math.nan if found is None else found.value


def objective(record: Record | None, name: str) -> float | None:
    """A run's figure, `val/accuracy`, `parameters/trainable`, `wall_s`; NaN where it has not ended.

    None: a finished run does not have it.
    """
    if record is None or record.status != "finished":
        return math.nan
    split, _, metric = name.rpartition("/")
    value: object = None
    if split in record.splits and metric in record.splits[split].metrics:
        value = record.splits[split].metrics[metric].value
    elif record.selected is not None and record.selected.monitor == name:
        value = record.selected.value
    elif split in ("parameters", ""):
        value = getattr(record.parameters if split else record, metric, None)
    return float(value) if isinstance(value, int | float) else None


def splits(records: Mapping[str, Record]) -> list[str]:
    """Names of all splits that runs were evaluated on, in the order in which they appear."""
    return list(dict.fromkeys(name for record in records.values() for name in record.splits))


def runs_table(runs_dir: Path | str, *, manifest: Manifest | None = None) -> "pandas.DataFrame":
    """One row a run, split and metric; a run without figures has one row, whose split is NA.

    A planned run without a record has the status `missing`, one whose record cannot be read
    `unreadable`; `attrs["problems"]` says why. Factors' levels stand in columns
    `factor:<key>`, as numbers where all are numbers, as text (JSON for lists) otherwise.

    Args:
        runs_dir: where runs live.
        manifest: of the study whose runs are wanted; None for every run of the folder.
    """
    lines = _all(Path(runs_dir)) if manifest is None else [_planned(run) for run in manifest.runs]
    places: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        places.setdefault(str(line["run"]), []).append(place)
    figures: list[tuple[object, ...]] = []
    problems = []
    for name, found in read_many(os.path.join(runs_dir, run) for run in places):
        for place in places[name]:
            lines[place].update(_line(found))
            figures.extend((place, *row) for row in _figures(found))
        if isinstance(found, RecordError):
            problems.append(str(found))
    return _frame(lines, figures, problems)


def _all(runs_dir: Path) -> list[dict[str, object]]:
    return [{"run": name} for name in sorted(p.parent.name for p in runs_dir.glob(f"*/{FILE}"))]


def _of_another_meaning(manifest: Manifest, records: Mapping[str, Record]) -> dict[str, str]:
    """Why runs do not belong beside others of their arm and candidate, by their ids.

    All of those have one config but for the seed: a change of meaning concerns all or none.
    """
    alike: dict[tuple[str, str], list[Record]] = {}
    for run in manifest.runs:
        found = records.get(run.run)
        if found is not None and found.status == "finished":
            alike.setdefault((run.arm, run.candidate), []).append(found)
    reasons = {}
    for (arm, _), group in alike.items():
        marks = {mark for found in group for mark, concerns in _meanings(found).items() if concerns}
        for found in group:
            if lacking := sorted(mark for mark in marks if not _meanings(found).get(mark)):
                reasons[found.run] = (
                    f"{found.run} was trained when its config meant something else than that of "
                    f"other runs of {arm} ({', '.join(lacking)}): their figures do not compare; "
                    "start the study again, which plans and trains it anew"
                )
    return reasons


def _meanings(found: Record) -> Mapping[str, bool]:
    known = found.notes.get("changes")
    return known if isinstance(known, Mapping) else {}


def _planned(run: PlannedRun) -> dict[str, object]:
    factors = {f"{FACTOR}{key}": value for key, value in run.factors.items()}
    line = {"run": run.run, "arm": run.arm, "seed": run.seed}
    return {**line, "candidate": run.candidate, "trial": run.trial, **factors}


def _line(found: Record | RecordError | None) -> dict[str, object]:
    if not isinstance(found, Record):
        return {"status": MISSING if found is None else UNREADABLE}
    parameters, selected, kept = found.parameters, found.selected, kept_weights.of(found)
    return {
        "status": found.status,
        "seed": found.seed,
        "task": found.task,
        "wall_s": found.wall_s,
        "trainable": parameters.trainable if parameters else None,
        "total_parameters": parameters.total if parameters else None,
        "peak_memory_bytes": found.peak_memory_bytes,
        "used_steps": found.used_steps,
        "budget_steps": found.budget_steps,
        "selected": selected.value if selected else None,
        "kept_step": kept.step if kept else None,
        "kept_stage": kept.stage if kept else None,
        "kept_last_stage": kept.last if kept else None,
    }


def _figures(found: Record | RecordError | None) -> Iterable[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    if isinstance(found, Record):
        for split, item in found.splits.items():
            for metric, v in item.metrics.items():
                rows.append((split, metric, v.value, v.low, v.high, v.n))
    return rows or [(None, None, math.nan, math.nan, math.nan, None)]


def _frame(
    lines: list[dict[str, object]], figures: list[tuple[object, ...]], problems: list[str]
) -> "pandas.DataFrame":
    import pandas  # slow to import

    level = ["task", "wall_s", *_COUNTS, "selected", *_KEPT, "trial"]
    factors = list(dict.fromkeys(key for line in lines for key in line if key.startswith(FACTOR)))
    runs = pandas.DataFrame(lines, columns=[*_OF_RUN, *level, *factors])
    for key in factors:
        runs[key] = _levels([line.get(key) for line in lines])
    for key in ("run", "arm", "candidate", "status", "task", "kept_stage"):
        runs[key] = runs[key].astype("str")
    whole = dict.fromkeys(("seed", "trial", "kept_step", *_COUNTS), "Int64")
    real = {"wall_s": "float64", "selected": "float64"}
    runs = runs.astype({**whole, **real, "kept_last_stage": "boolean"})
    columns = ["place", "split", "metric", "value", "low", "high", "n_items"]
    rows = pandas.DataFrame(figures, columns=columns)
    ends = dict.fromkeys(("value", "low", "high"), "float64")
    rows = rows.astype({"split": "str", "metric": "str", **ends, "n_items": "Int64"})
    wide = runs.take(rows.pop("place").to_numpy(dtype="int64")).reset_index(drop=True)
    table = pandas.concat([wide[list(_OF_RUN)], rows, wide[[*level, *factors]]], axis=1)
    table.attrs["problems"] = problems
    return table


def _levels(levels: list[object]) -> list[object]:
    kinds = {type(level) for level in levels if level is not None}
    if kinds <= {int, float} or kinds <= {bool}:
        return levels
    return [level if isinstance(level, str) else json.dumps(level) for level in levels]


def _selected(record: Record | None) -> float:
    """The kept weights' validation, turned so that less is better; NaN where the run gave none."""
    if record is None or record.status != "finished" or record.selected is None:
        return math.nan
    return -record.selected.value if record.selected.mode == "max" else record.selected.value


def _rank(scores: list[float]) -> tuple[int, float]:
    there = [score for score in scores if math.isfinite(score)]
    mean = math.fsum(there) / len(there) if there else math.inf
    return len(scores) - len(there), mean
