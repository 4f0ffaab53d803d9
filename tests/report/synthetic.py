"""Made studies: run folders as tlx leaves them, without training anything."""

import json
import zlib
from dataclasses import dataclass, field

import numpy as np

from tlx.results.manifest import STUDIES, Manifest, PlannedRun, write
from tlx.results.record import (
    Parameters,
    Record,
    Selected,
    SplitRecord,
    StageRecord,
    Value,
    to_json,
)

TOTAL = 373_658
DIRECTIONS = {"accuracy": "max", "macro_f1": "max", "loss": "min", "ece": "min"}
SPLITS = {"val": 200, "test": 719, "noise": 719, "rotation": 719}
EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a made run ends."""

    accuracy: float = 0.9
    trainable: int = TOTAL
    stages: tuple[str, ...] = ("all",)
    status: str = "finished"
    error: str | None = None
    nan: bool = False
    wall_s: float = 12.0
    steps: int = 600
    classes: int = 10
    splits: dict[str, int] = field(default_factory=lambda: dict(SPLITS))
    drop: float = 0.05
    points: int = 40
    boundary: str | None = None  # of the first stage
    computed: int = 0
    reused: int = 0
    saved_s: float = 0.0
    fused_with: tuple[str, ...] = ()


def generator(*names):
    return np.random.default_rng(zlib.crc32("/".join(map(str, names)).encode()))


def confusion(rng, n, classes, accuracy):
    truth = rng.integers(0, classes, n)
    right = rng.random(n) < np.clip(accuracy - 0.12 * (truth % 3 == 1), 0, 1)
    wrong = (truth + 1 + rng.integers(0, 2, n)) % classes
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (truth, np.where(right, truth, wrong)), 1)
    return matrix


def split_record(rng, n, accuracy, made):
    matrix = confusion(rng, n, made.classes, accuracy)
    hit, support, column = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    recall, precision = hit / np.maximum(support, 1), hit / np.maximum(column, 1)
    f1 = 2 * hit / np.maximum(support + column, 1)
    value = float(hit.sum() / n)
    figures = {
        "accuracy": value,
        "macro_f1": float(f1.mean()),
        "loss": 2.2 * (1 - value) + 0.05,
        "ece": 0.2 * (1 - value) + 0.01,
    }
    if made.nan:
        figures["loss"] = float("nan")
    metrics = {
        name: Value(value=v, low=v - 0.02, high=v + 0.02, n=n) for name, v in figures.items()
    }
    lows = [(i, i / 10) for i in range(3, 10)]
    bins = [
        {
            "low": low,
            "high": low + 0.1,
            "confidence": low + 0.05,
            "accuracy": float(np.clip(low + 0.05 - 0.1 * (1 - value) + rng.normal(0, 0.02), 0, 1)),
            "n": 10 * (i + 1),
        }
        for i, low in lows
    ]
    return SplitRecord(
        n=n,
        metrics=metrics,
        per_class=tuple(
            {
                "name": str(c),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "support": int(support[c]),
            }
            for c in range(made.classes)
        ),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        calibration={
            "definition": "top-label confidence, 15 bins of equal width",
            "ece": figures["ece"],
            "nll": figures["loss"],
            "brier": 1.5 * (1 - value),
            "bins": bins,
        },
    )


def first_stage(made):
    names = ("boundary", "computed", "reused", "saved_s")
    return {name: getattr(made, name) for name in names}


def stages_of(made):
    edges = np.linspace(0, made.steps, len(made.stages) + 1).astype(int)
    return tuple(
        StageRecord(
            name=name,
            start=int(edges[i]),
            end=int(edges[i + 1]),
            trainable=made.trainable,
            total=TOTAL,
            wall_s=made.wall_s / len(made.stages),
            samples_per_s=900.0,
            ended_by="budget",
            **(first_stage(made) if i == 0 else {}),
        )
        for i, name in enumerate(made.stages)
    )


def record_of(planned, made):
    rng = generator(planned.run)
    shift = rng.normal(0, 0.012)
    splits = {}
    if made.status == "finished":
        for index, (name, n) in enumerate(made.splits.items()):
            accuracy = np.clip(made.accuracy + shift - made.drop * max(0, index - 1), 0.05, 1)
            splits[name] = split_record(rng, n, float(accuracy), made)
    return Record(
        run=planned.run,
        name=planned.run,
        status=made.status,
        task="classification",
        seed=planned.seed,
        budget_steps=made.steps,
        used_steps=made.steps if made.status == "finished" else made.steps // 3,
        stages=stages_of(made) if made.status == "finished" else (),
        splits=splits,
        parameters=Parameters(
            total=TOTAL, trainable=made.trainable, by_stage=dict.fromkeys(made.stages, 1)
        ),
        wall_s=float(made.wall_s * rng.uniform(0.9, 1.1)),
        peak_memory_bytes=int(6e8 + 400 * made.trainable),
        samples_per_s=900.0,
        selected=Selected(
            monitor="val/accuracy",
            mode="max",
            value=float("nan") if made.nan else float(made.accuracy + shift),
            step=made.steps,
        ),
        weights_id="0" * 64,
        fused_with=made.fused_with,
        cached=made.boundary is not None,
        notes={"sizes": {"train": 100, **made.splits}},
        error=made.error,
    )


def metrics_csv(planned, made):
    rng = generator(planned.run, "curve")
    lines = ["step,train/loss,train/lr,train/stage,val/accuracy,val/loss"]
    for step in np.linspace(made.steps / made.points, made.steps, made.points).astype(int):
        share = 1 - np.exp(-4 * step / made.steps)
        value = 0.1 + (made.accuracy - 0.1) * share + rng.normal(0, 0.01)
        loss = 2.3 * (1 - value) + 0.02
        lines.append(f"{step},{loss * 0.9:.5f},0.001,0.0,,")
        lines.append(f"{step},,,,{value:.5f},{'nan' if made.nan else f'{loss:.5f}'}")
    return "\n".join(lines) + "\n"


PROVENANCE = {
    "attempts": [],
    "started": "2026-11-24T23:28:59+0000",
    "versions": {"python": "3.11.7", "torch": "2.15.0", "tlx": "0.1.0"},
    "hardware": {"machine": "x86_64", "system": "Linux", "cores": 8, "memory_bytes": 2**35,
                 "gpus": ["NVIDIA H100"]},
    "code": {"sha": "a1ed0cde831775deb0332f65081cd9bc512df746", "dirty": False, "diff": ""},
    "seeds": {"seed": 0, "order_seed": None},
    "lineage": [],
}  # fmt: skip


def write_run(runs_dir, planned, made):
    folder = runs_dir / planned.run
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(to_json(record_of(planned, made)))
    (folder / "metrics.csv").write_text(metrics_csv(planned, made))
    (folder / "config.yaml").write_text(f"seed: {planned.seed}\n")
    (folder / "overrides.txt").write_text("\n".join(planned.overrides) + "\n")
    (folder / "provenance.json").write_text(json.dumps({"run": planned.run, **PROVENANCE}))
    return folder


def write_study(runs_dir, manifest, made):
    """Writes the study; `made` maps a planned run to a Made, or to None for a missing run."""
    for planned in manifest.runs:
        ending = made(planned)
        if ending is not None:
            write_run(runs_dir, planned, ending)
    folder = runs_dir / STUDIES / manifest.study
    write(folder, manifest)
    return folder


def manifest(study, runs, arms, **changes):
    seeds = tuple(dict.fromkeys(run.seed for run in runs))
    values = {
        "study": study,
        "question": "Which way of fine-tuning works best with few labels?",
        "design": "arms",
        "baseline": arms[0],
        "metric": "test/accuracy",
        "mode": "max",
        "directions": DIRECTIONS,
        "claims": (),
        "seeds": seeds,
        "arms": tuple(arms),
        "factors": {},
        "tuned": {},
        "runs": tuple(runs),
        "parents": (),
        "command": ("tlx", "train", f"experiment={study}"),
        "created": "2026-11-24T23:00:00+00:00",
    }
    return Manifest(**{**values, **changes})


ACCURACY = {
    "full": (0.90, TOTAL, ("all",)),
    "scratch": (0.42, TOTAL, ("all",)),
    "linear_probe": (0.84, 5_130, ("head",)),
    "lp_ft": (0.935, TOTAL, ("head", "all")),
    "gradual": (0.915, TOTAL, ("head", "layer4", "layer3", "rest")),
    EVIL: (0.88, 41_000, ("head", "all")),
}


def explicit(runs_dir, *, seeds=5, hurt=True):
    """Six arms with tuned learning rates and claims; failed, missing and diverged runs."""
    rates = ("0.001", "0.003")
    runs = [
        PlannedRun(
            run=f"arms-{abs(zlib.crc32(arm.encode())) % 10**6}-{rate}-s{seed}",
            arm=arm,
            seed=seed,
            candidate=f"optimizer.lr={rate}",
            overrides=(
                f"experiment=few_labels/{arm}", f"optimizer.lr={rate}", f"seed={seed}",
                "augmentation=[randaugment, mixup]",
            ),
        )
        for arm in ACCURACY
        for rate in rates
        for seed in range(seeds)
    ]  # fmt: skip

    def made(run):
        accuracy, trainable, stages = ACCURACY[run.arm]
        accuracy -= 0.03 * (run.candidate.endswith("0.001"))
        plain = {"accuracy": accuracy, "trainable": trainable, "stages": stages,
                 "wall_s": 6 + trainable / 20_000, 
                 "drop": 0.05 + (run.arm == "full") * 0.07}  # fmt: skip
        if hurt:
            if run.arm == "gradual" and run.seed == 4:
                return None
            if run.arm == "gradual" and run.seed == 3:
                return Made(**plain, status="failed", error=f"RuntimeError: bad\n{EVIL}\n at x")
            if run.arm == EVIL and run.seed == 1:
                return Made(**plain, status="interrupted")
            if run.arm == "scratch" and run.seed == 2:
                return Made(**plain, nan=True)
        return Made(**plain)

    claims = (
        "lp_ft > full", "lp_ft > full by 0.02 on rotation/accuracy", "linear_probe > lp_ft",
        "gradual > full by 0.01", "full > 0.85",
    )  # fmt: skip
    spec = manifest("few_labels", runs, tuple(ACCURACY), claims=claims,
                    tuned={"optimizer.lr": (0.001, 0.003)})  # fmt: skip
    return write_study(runs_dir, spec, made)


def grid(runs_dir, *, seeds=3, labels=(1, 5, 10, 50, 100)):
    """Freeze strategy × labels per class."""
    strategies = {"full": 0.0, "linear_probe": 0.03, "lp_ft": 0.05}
    factors = {"freeze_strategy": tuple(strategies), "dataset.labels_per_class": tuple(labels)}
    runs = [
        PlannedRun(
            run=f"grid-{strategy}-{count}-s{seed}",
            arm=f"{strategy},{count}",
            seed=seed,
            overrides=(f"freeze_strategy={strategy}", f"dataset.labels_per_class={count}"),
            factors={"freeze_strategy": strategy, "dataset.labels_per_class": count},
        )
        for strategy in strategies
        for count in labels
        for seed in range(seeds)
    ]
    arms = tuple(dict.fromkeys(run.arm for run in runs))

    def made(run):
        strategy, count = run.factors["freeze_strategy"], run.factors["dataset.labels_per_class"]
        few = np.log10(count) / 2
        accuracy = 0.5 + 0.42 * few + strategies[strategy] * (1.5 - few)
        return Made(accuracy=float(accuracy), trainable=5_130 if "probe" in strategy else TOTAL)

    spec = manifest("labels_curve", runs, arms, design="grid", factors=factors, baseline=arms[0])
    return write_study(runs_dir, spec, made)


def leave_one_out(runs_dir, *, seeds=5):
    """A base with each regulariser taken away."""
    gains = {"base": 0.0, "label_smoothing": 0.002, "l2_sp": 0.021, "mixup": 0.033,
             "ema": -0.006, "weight_decay": 0.0}  # fmt: skip
    names = {key: key if key == "base" else f"without {key}" for key in gains}
    runs = [
        PlannedRun(run=f"loo-{key}-s{seed}", arm=names[key], seed=seed, overrides=(f"seed={seed}",))
        for key in gains
        for seed in range(seeds)
    ]
    arms = tuple(names.values())
    by_arm = {names[key]: gain for key, gain in gains.items()}
    spec = manifest(
        "regularization_ablation", runs, arms, design="leave_one_out", baseline="base",
        claims=("base > without mixup", "base > without ema"),
    )  # fmt: skip
    return write_study(runs_dir, spec, lambda run: Made(accuracy=0.91 - by_arm[run.arm]))


def search(runs_dir, *, trials=60, seeds=2):
    """Sixty trials over four parameters, two objectives."""
    rng = generator("search")
    runs, endings = [], {}
    for trial in range(trials):
        rate, decay = 10 ** rng.uniform(-4, -1), float(rng.choice([0.0, 0.01, 0.1]))
        strategy, dropout = str(rng.choice(["full", "lp_ft", "linear_probe"])), rng.uniform(0, 0.5)
        values = {
            "optimizer.lr": float(rate), "regularization.weight_decay.value": decay,
            "freeze_strategy": strategy, "backbone.drop_rate": float(dropout),
        }  # fmt: skip
        candidate = " ".join(f"{key}={value}" for key, value in values.items())
        accuracy = 0.93 - 0.06 * (np.log10(rate) + 2.5) ** 2 - 0.1 * (strategy == "linear_probe")
        for seed in range(seeds):
            run = PlannedRun(
                run=f"search-t{trial}-s{seed}", arm="search", seed=seed, candidate=candidate,
                overrides=tuple(candidate.split()), factors=values, trial=trial,
            )  # fmt: skip
            runs.append(run)
            size = int(5_130 if strategy == "linear_probe" else TOTAL * (1 - dropout))
            endings[run.run] = Made(accuracy=float(max(0.1, accuracy)), trainable=size)
    endings["search-t7-s0"] = Made(status="failed", error="OutOfMemoryError: no memory left")
    endings["search-t9-s1"] = Made(nan=True, accuracy=0.2)
    spec = manifest(
        "search_finetune", runs, ("search",), design="search", baseline=None,
        search={"sampler": "tpe", "storage": None, "budget": trials,
                "objectives": {"val/accuracy": "max", "parameters/trainable": "min"}},
    )  # fmt: skip
    return write_study(runs_dir, spec, lambda run: endings[run.run])


ITEMS = 400
"""Activations that a run of `shared` takes from the store, or computes for it."""


def shared(runs_dir, *, seeds=5):
    """Runs from stored activations: probes fused by rate, others one by one, and full ones."""
    rates = ("0.01", "0.1")
    runs = [
        PlannedRun(run=f"shared-probe-{rate}-s{seed}", arm="linear_probe", seed=seed,
                   candidate=f"optimizer.lr={rate}",
                   overrides=("freeze_strategy=linear_probe", f"optimizer.lr={rate}",
                              f"seed={seed}"))
        for rate in rates
        for seed in range(seeds)
    ]  # fmt: skip
    runs += [
        PlannedRun(run=f"shared-{arm}-s{seed}", arm=arm, seed=seed,
                   overrides=(f"freeze_strategy={arm}", f"seed={seed}"))
        for arm in ("lp_ft", "last_block", "full")
        for seed in range(seeds)
    ]  # fmt: skip
    boundaries = {"linear_probe": "backbone", "lp_ft": "backbone", "last_block": "layer3"}
    met = set()

    def made(run):
        boundary = boundaries.get(run.arm)
        if boundary is None:
            return Made(accuracy=0.90, wall_s=90.0)
        first = boundary not in met
        met.add(boundary)
        job = [r.run for r in runs if r.candidate == run.candidate] if run.candidate else []
        return Made(
            accuracy={"linear_probe": 0.84, "lp_ft": 0.93, "last_block": 0.91}[run.arm],
            trainable=5_130 if run.arm == "linear_probe" else TOTAL,
            stages=("head", "all") if run.arm == "lp_ft" else ("head",),
            wall_s=60.0 if run.arm == "lp_ft" else 2.0,
            boundary=boundary,
            computed=ITEMS if first else 0,
            reused=0 if first else ITEMS,
            saved_s=9.0 if first else 10.0,
            fused_with=tuple(name for name in job if name != run.run),
        )

    arms = ("full", "linear_probe", "lp_ft", "last_block")
    spec = manifest("shared_prefix", runs, arms, claims=("lp_ft > full",))
    return write_study(runs_dir, spec, made)


STUDIES_MADE = {"explicit": explicit, "grid": grid, "leave_one_out": leave_one_out,
                "search": search, "shared": shared}  # fmt: skip


def large(runs_dir, *, arms=1000, seeds=10, text=None):
    """Many runs with records of some 20 KB (one record as a template, figures replaced)."""
    names = [f"arm_{i:04d}" for i in range(arms)]
    runs = [
        PlannedRun(run=f"big-{arm}-s{seed}", arm=arm, seed=seed,
                   overrides=(f"arm={arm}", f"seed={seed}"))
        for arm in names
        for seed in range(seeds)
    ]  # fmt: skip
    splits = {**SPLITS, "contrast": 719, "blur": 719}
    first = PlannedRun(run="@RUN@", arm="a", seed=0)
    made = Made(splits=splits)
    template = to_json(record_of(first, made))
    key = '"accuracy": {\n     "value": '
    head, *parts = template.split(key)
    tails = [part.split(",", 1)[1] for part in parts]
    curve = metrics_csv(first, made)
    rng = np.random.default_rng(0)
    for run in runs:
        folder = runs_dir / run.run
        folder.mkdir(parents=True)
        values = 0.8 + int(run.arm[4:]) / arms / 8 + rng.normal(0, 0.01, len(tails))
        body = "".join(f"{key}{v:.6f},{tail}" for v, tail in zip(values, tails, strict=True))
        full = (head + body).replace("@RUN@", run.run)
        (folder / "record.json").write_text(full.replace('"seed": 0', f'"seed": {run.seed}'))
        (folder / "metrics.csv").write_text(curve)
        (folder / "provenance.json").write_text(json.dumps({"run": run.run, **PROVENANCE}))
    write(runs_dir / STUDIES / "large", manifest("large", runs, names))
    return runs_dir / STUDIES / "large"
