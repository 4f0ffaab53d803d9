"""Made manifests and records for the tests of tlx.results."""

import math

from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.record import Parameters, Record, Selected, SplitRecord, Value


def made_manifest(**changes) -> Manifest:
    given = dict(
        study="made",
        question=None,
        design="arms",
        baseline=None,
        metric="test/accuracy",
        mode="max",
        directions={"accuracy": "max", "loss": "min"},
        claims=(),
        seeds=(0, 1, 2),
        arms=("full", "lp_ft"),
        factors={},
        tuned={},
        runs=(),
        parents=(),
        command=("tlx", "train"),
        created="2025-01-01T00:00:00",
    )
    return Manifest(**{**given, **changes})


def made_record(run: str, figures=None, *, seed=0, selected=None, mode="max", **changes) -> Record:
    """figures: {"test/accuracy": 0.9}."""
    splits = {}
    for key, value in (figures or {}).items():
        split, _, metric = key.partition("/")
        splits.setdefault(split, {})[metric] = Value(
            value=value, low=math.nan, high=value + 0.1, n=7
        )
    given = dict(
        run=run,
        name=run,
        status="finished",
        task="classification",
        seed=seed,
        budget_steps=10,
        used_steps=9,
        wall_s=1.5,
        splits={name: SplitRecord(n=7, metrics=metrics) for name, metrics in splits.items()},
        parameters=Parameters(total=100, trainable=10, by_stage={"only": 10}),
        selected=None
        if selected is None
        else Selected(monitor="val/accuracy", mode=mode, value=selected, step=5),
    )
    return Record(**{**given, **changes})


def study_of(figures, *, metric="test/accuracy", **changes):
    """A manifest of explicit arms, and records; figures: {arm: [one a seed, None for no record]}.

    A NaN stands for a run that failed.
    """
    seeds = tuple(range(len(next(iter(figures.values())))))
    runs, records = [], {}
    for arm, values in figures.items():
        for seed, value in zip(seeds, values, strict=True):
            run = f"{arm}-s{seed}"
            runs.append(PlannedRun(run=run, arm=arm, seed=seed))
            if value is None:
                continue
            failed = math.isnan(value)
            records[run] = made_record(
                run,
                {} if failed else {metric: value},
                seed=seed,
                status="failed" if failed else "finished",
            )
    manifest = made_manifest(seeds=seeds, arms=tuple(figures), runs=tuple(runs), **changes)
    return manifest, records
