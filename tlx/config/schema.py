"""Names, types and defaults of the config's own nodes, those without a target.

Read by `ast` like the targets' signatures, so annotations stay simple and defaults literal.
"""

from dataclasses import dataclass
from typing import Any, Literal

TARGET_GROUPS = ("task", "backbone", "dataset", "freeze_strategy", "optimizer", "schedule")
"""Groups whose option is one call."""

LIST_GROUPS = ("augmentation", "regularization", "logger")
"""Groups whose options are calls by name, any number of them."""

SCHEMA_GROUPS = ("trainer", "executor")
"""Groups whose options fill a dataclass."""


@dataclass(frozen=True)
class Config:
    """The top level, less the groups.

    Args:
        seed: of the weights, the data's draws and the order.
        order_seed: of the order of samples; null: the run's seed.
        name: shown in tables and logs; null: the run's id.
        group: what loggers group runs by; a study sets it to its own name.
        monitor: what selection looks at, like `val/accuracy`; null: the task's own.
        final_weights: which weights are evaluated and kept.
        init_head: whether a run that starts from a run keeps that run's head as well.
        runs_dir: folder of the run folders.
    """

    seed: int = 0
    order_seed: int | None = None
    name: str | None = None
    group: str | None = None
    monitor: str | None = None
    final_weights: Literal["best", "last"] = "best"
    init_head: Literal["new", "keep"] = "new"
    runs_dir: str = "runs"


@dataclass(frozen=True)
class Frozen:
    """How the frozen part behaves.

    Args:
        norm_affine: whether affine parameters of normalisation follow their layer's rule.
        norm_stats: whether running statistics follow their layer, stay, go on, or are measured
            anew on the training data.
        dropout: whether dropout in the frozen part is off.
        embeddings: whether embeddings follow their group's rule.
    """

    norm_affine: Literal["follow", "freeze", "train"] = "follow"
    norm_stats: Literal["follow", "freeze", "train", "recalibrate"] = "follow"
    dropout: Literal["off", "on"] = "off"
    embeddings: Literal["follow", "freeze", "train"] = "follow"


@dataclass(frozen=True)
class Trainer:
    """How long and on what a run trains.

    Args:
        epochs: budget in passes over the training data; exactly one of `epochs` and `steps`.
        steps: budget in optimizer steps.
        batch_size: items per optimizer step, over all devices and accumulated parts.
        accumulate: parts that a device's share of a batch is computed in.
        workers: loader processes per device.
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
    workers: int = 0
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = True
    eval_every_epochs: int | None = None
    eval_every_steps: int | None = None
    checkpoint_every_steps: int | None = None
    log_every_steps: int = 50


@dataclass(frozen=True)
class Executor:
    """Where runs are started.

    Args:
        kind: local is this machine.
    """

    kind: Literal["local"] = "local"


@dataclass(frozen=True)
class Study:
    """Arms that are compared over seeds.

    Args:
        arms: name to overrides.
        seeds: one run per arm and seed.
        baseline: the arm that the others are compared with.
        metric: compared figure, like `test/accuracy`; null: the task's own on `test`.
        question: what the study answers.
        tune: keys and values of which each arm takes, key by key, those that are best on
            validation over all seeds; every arm has the same values to choose from.
    """

    arms: dict[str, list[str]]
    seeds: list[int]
    baseline: str | None = None
    metric: str | None = None
    question: str | None = None
    tune: dict[str, list[Any]] | None = None


NODES: dict[str, str] = {
    "frozen": "Frozen",
    "trainer": "Trainer",
    "executor": "Executor",
    "study": "Study",
}
"""Top-level key to the dataclass of its node; `study` may be absent."""

MISSING: Any = "???"
"""What a config says where a value must be given."""
