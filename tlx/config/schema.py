"""Names, types and defaults of the config's own nodes, those without a target.

Read by `ast` like the targets' signatures, so annotations stay simple and defaults literal.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tlx.base.ranges import Range

TARGET_GROUPS = ("task", "backbone", "dataset", "freeze_strategy", "optimizer", "schedule")
"""Groups whose option is one call."""

LIST_GROUPS = ("augmentation", "regularization", "logger")
"""Groups whose options are calls by name, any number of them."""

DRIVERS_ONLY = ("name", "group", "arm", "tags", "executor", "search", "study")
"""Keys that whoever starts a run reads, and that a run's own process needs only to show them."""

SCHEMA_GROUPS = ("trainer", "executor", "search")
"""Groups whose options fill a dataclass."""


@dataclass(frozen=True)
class Config:
    """The top level, less the groups.

    Args:
        seed: of the weights, the data's draws and the order.
        order_seed: of the order of samples; null: the run's seed.
        name: shown in tables and logs; null: the run's id.
        group: what loggers group runs by; a study sets it to its own name.
        arm: what loggers call a run's kind; a study sets it to the run's arm.
        tags: shown by loggers; a study sets them to the run's factors.
        monitor: what selection looks at, like `val/accuracy`; null: the task's own.
        final_weights: which weights are evaluated and kept.
        select_from: where the best weights are looked for, in the last stage or in the whole run;
            `restore_best` likewise, in the stage that ends or in the run so far.
        init_head: whether a run that starts from a run keeps that run's head as well.
        runs_dir: folder of the run folders.
        keep: what is left on disk of a finished run: also its checkpoints, its final weights, or
            only records and predictions.
        cache: whether activations of what is frozen are stored, and trained from.
        cache_dir: folder of the store; null: `.cache` in `runs_dir`.
        cache_gb: what the store may hold; the least recently used goes first. null: what the disk
            has.
        fuse: whether runs of a study that differ in their heads only are trained as one.
    """

    seed: int = 0
    order_seed: int | None = None
    name: str | None = None
    group: str | None = None
    arm: str | None = None
    tags: list[str] | None = None
    monitor: str | None = None
    final_weights: Literal["best", "last"] = "best"
    select_from: Literal["last_stage", "run"] = "last_stage"
    init_head: Literal["new", "keep"] = "new"
    runs_dir: str = "runs"
    keep: Literal["checkpoints", "weights", "record"] = "weights"
    cache: Literal["auto", "off"] = "auto"
    cache_dir: str | None = None
    cache_gb: float | None = None
    fuse: Literal["auto", "off"] = "auto"


@dataclass(frozen=True)
class Frozen:
    """How the frozen part behaves.

    Args:
        norm_affine: whether affine parameters of normalisation follow their layer's rule.
        norm_stats: whether running statistics follow their layer, stay, go on, or are measured
            anew on the training data; auto: as the task wants it.
        dropout: whether dropout in the frozen part is off.
        embeddings: whether embeddings follow their group's rule.
        views: while a part is frozen, or a penalty compares with a frozen network, random
            augmentation repeats so many draws of each item, so that their activations can be
            stored; 0: a fresh draw each time, and none stored.
        stored_as: type of stored activations; half precision takes half the space.
    """

    norm_affine: Literal["follow", "freeze", "train"] = "follow"
    norm_stats: Literal["auto", "follow", "freeze", "train", "recalibrate"] = "auto"
    dropout: Literal["off", "on"] = "off"
    embeddings: Literal["follow", "freeze", "train"] = "follow"
    views: int = 0
    stored_as: Literal["same", "float16", "bfloat16"] = "same"


@dataclass(frozen=True)
class Trainer:
    """How long and on what a run trains.

    Args:
        epochs: budget in passes over the training data; exactly one of `epochs` and `steps`.
        steps: budget in optimizer steps.
        batch_size: items per optimizer step, over all devices and accumulated parts.
        accumulate: parts that a device's share of a batch is computed in.
        on_oom: whether, where a device's memory is full, what is computed at once is halved: a
            batch is then computed in more parts, with the same result up to rounding.
        workers: loader processes per device.
        timeout_minutes: of several devices: a rank that the others wait for longer is lost, and
            the run ends, to be started again; 3 times the first evaluation where that is more.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 32
    eval_batch_size: int = 256
    accumulate: int = 1
    on_oom: Literal["halve", "error"] = "halve"
    workers: int = 0
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = True
    eval_every_epochs: int | None = None
    eval_every_steps: int | None = None
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 50
    timeout_minutes: float = 10.0


@dataclass(frozen=True)
class ExecutorConfig:
    """Where the runs of a study are trained, and how many at once.

    Args:
        kind: local is this machine; a dotted name is a function of your own, which gives an
            executor from these options, `runs_dir` and `name`.
        workers: runs at the same time; null: one a GPU, or as many as there are cores; on a
            cluster, as many as it gives.
        per_device: local: runs that share a GPU.
        threads: local: of a run on the CPU; null: the cores divided among the workers.
        timeout_minutes: local: a run that takes longer is killed and has failed.
        memory_gb: a run whose processes hold more is killed and has failed; on a cluster, what a
            run is given on each node.
        max_restarts: how often a run that was killed from outside is started again while it gets
            no further.
        partition: slurm: where jobs go; null: the cluster's default.
        account: slurm: whom they are charged to.
        qos: slurm: their quality of service.
        job_minutes: slurm: time limit of a job; a run that reaches it saves and is queued again.
        signal_s: slurm: seconds before the time limit at which the run is told.
        max_requeues: slurm: how often a job that was preempted or timed out is queued again.
        max_jobs: cluster: jobs handed in at once.
        poll_s: slurm: seconds between looks at the queue.
        cpus: cluster: cores of each process.
        gpus: cluster: GPUs of each process; null: one unless the run is on the CPU; on Ray a
            fraction lets several runs share one.
        address: ray: of a running cluster; null: what the environment names, else this machine.
        snapshot: cluster: whether jobs run a copy of the code as it is now.
        snapshot_paths: folders of your own that are copied as well.
        kwargs: slurm: further options of sbatch; of a kind of your own, whatever it takes.
    """

    kind: Literal["local", "slurm", "ray"] | str = "local"
    workers: int | None = None
    per_device: int = 1
    threads: int | None = None
    timeout_minutes: float | None = None
    memory_gb: float | None = None
    max_restarts: int = 2
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    job_minutes: int = 60
    signal_s: int = 120
    max_requeues: int = 20
    max_jobs: int = 500
    poll_s: float = 5.0
    cpus: int = 1
    gpus: float | None = None
    address: str | None = None
    snapshot: bool = False
    snapshot_paths: list[str] | None = None
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class SearchConfig:
    """How a study with `design: search` looks for good hyperparameters.

    Args:
        space: key to what it may be, in Hydra's words (`tag(log, interval(1e-5, 1e-1))`,
            `choice(a, b)`, `range(1, 9)`) or as a mapping with `type`, `low`, `high`, `log`.
        objectives: figures to `max` or `min`: `val/...`, `parameters/trainable`, `wall_s`; null:
            what selection looks at.
        sampler: how trials are drawn.
        trials: finished trials to reach, pruned ones included.
        seeds_per_trial: runs of a trial, whose figures are averaged; the first ones of the study's
            seeds.
        seed: of the sampler.
        startup_trials: drawn at random first.
        popsize: of cmaes: trials of a generation; null: 4 + 3 ln(keys).
        pruner: how trials are given up half-way, by their first run's validations.
        pruner_startup_trials: of median: trials that finish before it prunes.
        pruner_warmup: of median: validations at which it never prunes.
        min_resource: of successive_halving and hyperband: validations that every trial gets.
        max_resource: of hyperband: validations of a whole run; null: as the first run had.
        reduction_factor: of both: one of so many goes on.
        max_failed: so many failed trials end the search; null: as many as `trials`.
        storage: a journal's path, `postgresql+psycopg://...` or `sqlite:///...`; null: a journal in
            the study's folder.
    """

    space: dict[str, Any] | None = None
    objectives: dict[str, str] | None = None
    sampler: Literal["tpe", "gp", "cmaes", "qmc", "random", "grid"] = "tpe"
    trials: int = 50
    seeds_per_trial: int = 1
    seed: int = 0
    startup_trials: int = 10
    popsize: int | None = None
    pruner: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    pruner_startup_trials: int = 5
    pruner_warmup: int = 0
    min_resource: int = 1
    max_resource: int | None = None
    reduction_factor: int = 3
    max_failed: int | None = None
    storage: str | None = None


@dataclass(frozen=True)
class StudyConfig:
    """Arms that are compared over seeds.

    Args:
        seeds: one run per arm and seed.
        design: how arms are made of `factors`: every combination; the base and each factor's
            other levels; the base without each element of a list, or with one of them alone;
            levels side by side; a search. null: arms where they are given, else grid.
        arms: name to overrides, for explicit arms.
        factors: key to its values, or to labels that each stand for several overrides; to the
            elements of a list for `leave_one_out` and `add_one_in`.
        tune: keys and values of which each arm takes, key by key, those that are best on
            validation over all seeds; every arm has the same values to choose from.
        baseline: the arm that the others are compared with; null: the first, or the base.
        metric: compared figure, like `test/accuracy`; null: the task's own on `test`.
        claims: what is expected to hold, like `lp_ft > full by 0.01 on rotation/accuracy`.
        question: what the study answers.
        folds: number of parts of the data, or names of groups, each of which is the test of a run
            of every arm and seed (cross-validation; leave one group out).
        sequential: `max_seeds`: after `seeds`, seeds are added one by one until each claim is
            decided or given up, at most so many in all.
    """

    seeds: list[int]
    design: (
        Literal["arms", "grid", "one_at_a_time", "leave_one_out", "add_one_in", "paired", "search"]
        | None
    ) = None
    arms: dict[str, list[str]] | None = None
    factors: dict[str, list[Any] | dict[str, list[str]]] | None = None
    tune: dict[str, list[Any]] | None = None
    baseline: str | None = None
    metric: str | None = None
    claims: list[str] | None = None
    question: str | None = None
    folds: Annotated[int, Range(least=2)] | list[str] | None = None
    sequential: dict[str, int] | None = None


NODES: dict[str, str] = {
    "frozen": "Frozen",
    "trainer": "Trainer",
    "executor": "ExecutorConfig",
    "study": "StudyConfig",
    "search": "SearchConfig",
}
"""Top-level key to the dataclass of its node."""

OPTIONAL = ("study", "search")
"""Nodes that a config may lack."""

MISSING: Any = "???"
"""What a config says where a value must be given."""
