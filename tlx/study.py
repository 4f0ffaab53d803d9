"""A study: arms × seeds, each a run of its own, compared by paired differences over seeds."""

import io
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tlx import execute
from tlx.config.compose import compose
from tlx.results import stats
from tlx.results.record import Record


@dataclass(frozen=True)
class Result:
    """Records of a study's runs.

    Attributes:
        records: arm -> one record a seed, in the order of the seeds.
        seeds: of every arm.
        baseline: the arm that others are compared with.
        question: what the study answers.
        chosen: arm -> what it was tuned to, and on how many candidates.
    """

    records: Mapping[str, list[Record]]
    seeds: list[int]
    baseline: str
    question: str | None
    chosen: Mapping[str, str]


def run(overrides: list[str], *, config_dir: str | None = None, force: bool = False) -> Result:
    """Runs every arm of the experiment that the overrides name, seed by seed.

    Args:
        overrides: `experiment=NAME` and what the person changed.
        config_dir: the user's own groups and experiments.
        force: train again what is finished.
    """
    spec = compose(overrides, config_dir=config_dir)["study"]
    arms, seeds = spec["arms"], spec["seeds"]
    candidates = _candidates(spec.get("tune") or {})
    planned = configs(overrides, config_dir=config_dir)
    done: dict[tuple[str, tuple[str, ...]], list[Record]] = {}
    for number, ((arm, candidate, seed), config) in enumerate(planned.items(), start=1):
        title = " ".join([arm, *candidate])
        execute.say(f"\n── run {number} of {len(planned)}: {title}, seed {seed} ──")
        given = [*overrides, *arms[arm], *candidate, f"seed={seed}"]
        made = execute.run(config, force=force, overrides=given, config_dir=config_dir)
        done.setdefault((arm, candidate), []).append(made)
    best = {}
    for arm in arms:
        scores = {candidate: _on_validation(done[arm, candidate]) for candidate in candidates}
        best[arm] = max(scores, key=scores.__getitem__)
    return Result(
        records={arm: done[arm, best[arm]] for arm in arms},
        seeds=list(seeds),
        baseline=spec.get("baseline") or next(iter(arms)),
        question=spec.get("question"),
        chosen={
            arm: f"{' '.join(best[arm])} (best of {len(candidates)} on validation)"
            for arm in arms
            if len(candidates) > 1
        },
    )


def configs(
    overrides: list[str], *, config_dir: str | None = None
) -> dict[tuple[str, tuple[str, ...], int], dict[str, Any]]:
    """The config of each run by arm, tuned values and seed, in the order in which they run.

    Raises:
        CheckError: an arm's overrides are wrong.
    """
    spec = compose(overrides, config_dir=config_dir)["study"]
    arms, candidates = spec["arms"], _candidates(spec.get("tune") or {})
    return {
        (arm, candidate, seed): _arm(
            overrides, [*arms[arm], *candidate], seed, config_dir=config_dir
        )
        for arm in arms
        for candidate in candidates
        for seed in spec["seeds"]
    }


def _candidates(tune: Mapping[str, list[Any]]) -> list[tuple[str, ...]]:
    choices = [[f"{key}={value}" for value in values] for key, values in tune.items()]
    return list(itertools.product(*choices))


def _on_validation(records: list[Record]) -> float:
    """Mean of what selection looked at, signed so that more is better; NaN is worst."""
    values = [r.selected.value if r.selected else math.nan for r in records]
    sign = -1 if records[0].selected and records[0].selected.mode == "min" else 1
    mean = sign * sum(values) / len(values)
    return -math.inf if math.isnan(mean) else mean


def _arm(
    overrides: list[str], changes: list[str], seed: int, *, config_dir: str | None
) -> dict[str, Any]:
    config = compose([*overrides, *changes, f"seed={seed}"], config_dir=config_dir)
    del config["study"]
    named = [text.partition("=")[2] for text in overrides if text.startswith("experiment=")]
    return {**config, "group": config["group"] or next(iter(named), None)}


def table(result: Result, *, splits: list[str], metric: str) -> str:
    """Mean of each arm with its 95% t interval, and the paired difference to the baseline."""
    n = len(result.seeds)
    made = Table(
        title=f"{result.question or 'study'}\n{metric}: mean over n = {n} seeds [95% interval]; "
        f"gain: paired difference to {result.baseline}",
        title_justify="left",
    )
    for column in ("split", "arm"):
        made.add_column(column)
    for column in (metric, "gain"):
        made.add_column(column, justify="right", no_wrap=True)
    for split in splits:
        base = _values(result.records[result.baseline], split, metric)
        for number, (arm, records) in enumerate(result.records.items()):
            values = _values(records, split, metric)
            mean, gain = stats.t_interval(values), stats.paired_t(values, base)
            made.add_row(
                split if number == 0 else "",
                f"{arm}: {result.chosen[arm]}" if arm in result.chosen else arm,
                f"{mean.value:.3f}{_interval(mean.low, mean.high, '.3f')}",
                "–"
                if arm == result.baseline
                else f"{gain.difference:+.3f}{_interval(gain.low, gain.high, '+.3f')}",
                end_section=number == len(result.records) - 1,
            )
    buffer = io.StringIO()
    Console(file=buffer, width=100, highlight=False).print(made)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _interval(low: float, high: float, form: str) -> str:
    """Nothing where there is no interval: one seed."""
    return "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"


def _values(records: list[Record], split: str, metric: str) -> list[float]:
    return [record.splits[split].metrics[metric].value for record in records]


def verdict(result: Result, *, split: str, metric: str) -> list[str]:
    """One line an arm: by how much it beats the baseline, and whether the interval excludes 0."""
    lines = []
    base = _values(result.records[result.baseline], split, metric)
    for arm, records in result.records.items():
        if arm == result.baseline:
            continue
        gain = stats.paired_t(_values(records, split, metric), base)
        sure = "" if gain.low > 0 or gain.high < 0 else "; the interval includes 0"
        if math.isnan(gain.low):
            sure = "; no interval, it needs two seeds"
        lines.append(
            f"gain of {arm} over {result.baseline} on {split}: {gain.difference:+.3f} {metric}"
            f"{_interval(gain.low, gain.high, '+.3f')}, n = {gain.n} seeds{sure}"
        )
    return lines
