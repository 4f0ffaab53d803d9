"""Ranges of single values, and rules between values, that the config alone can tell."""

import fnmatch
import math
import re
from collections.abc import Callable, Iterator, Mapping

from tlx.base.nodes import Node, node_at, sequence, target_of
from tlx.config import exact, modality, study
from tlx.config.keys import is_number
from tlx.config.problems import Problem
from tlx.config.signatures import constant
from tlx.config.suggest import listed, nearest

Range = tuple[Callable[[float], bool], str]

ABOVE_0: Range = (lambda x: 0 < x < float("inf"), "above 0")
FROM_0: Range = (lambda x: 0 <= x < float("inf"), "0 or more")
FROM_1: Range = (lambda x: x >= 1, "1 or more")
FROM_2: Range = (lambda x: x >= 2, "2 or more")
SEED: Range = (lambda x: 0 <= x < 2**32, "0 or more, and below 2**32")
ANY: Range = (lambda x: True, "of any size")
UP_TO_1: Range = (lambda x: 0 < x <= 1, "above 0 and at most 1")
FROM_0_TO_1: Range = (lambda x: 0 <= x <= 1, "at least 0 and at most 1")
BELOW_1: Range = (lambda x: 0 <= x < 1, "at least 0 and below 1")

RANGES: dict[str, Range] = {
    "seed": SEED,
    "order_seed": SEED,
    "cache_gb": ABOVE_0,
    "frozen.views": FROM_0,
    "optimizer.lr": ABOVE_0,
    "optimizer.eps": ABOVE_0,
    "optimizer.betas": BELOW_1,
    "optimizer.momentum": BELOW_1,
    "optimizer.layer_decay": UP_TO_1,
    "optimizer.penalties": ABOVE_0,
    "optimizer.tolerance": ABOVE_0,
    "optimizer.path_tolerance": ABOVE_0,
    "optimizer.most_iterations": FROM_1,
    "optimizer.patience": FROM_1,
    "schedule.warmup_steps": FROM_0,
    "schedule.warmup_fraction": BELOW_1,
    "executor.timeout_minutes": ABOVE_0,
    "executor.memory_gb": ABOVE_0,
    "executor.max_restarts": FROM_0,
    "executor.max_requeues": FROM_0,
    "executor.poll_s": ABOVE_0,
    "executor.gpus": FROM_0,
    "executor.kwargs.*": ANY,
    "executor.*": FROM_1,
    "search.seed": FROM_0,
    "search.startup_trials": FROM_0,
    "search.pruner_startup_trials": FROM_0,
    "search.pruner_warmup": FROM_0,
    "search.reduction_factor": FROM_2,
    "search.popsize": FROM_2,
    "search.max_failed": FROM_0,
    "search.space.*": ANY,
    "search.*": FROM_1,
    "trainer.workers": FROM_0,
    "trainer.timeout_minutes": ABOVE_0,
    "trainer.*": FROM_1,
    "backbone.image_size": FROM_1,
    "backbone.in_chans": FROM_1,
    "backbone.drop_rate": BELOW_1,
    "backbone.mean": FROM_0_TO_1,
    "backbone.std": UP_TO_1,
    "backbone.drop_path_rate": BELOW_1,
    "backbone.dropout": BELOW_1,
    "backbone.dropout_scale": FROM_0,
    "backbone.*_dropout": BELOW_1,
    "backbone.max_length": FROM_1,
    "backbone.vocabulary_size": FROM_1,
    "backbone.least_count": FROM_1,
    "backbone.layers": FROM_1,
    "backbone.width": FROM_1,
    "backbone.embedding": FROM_1,
    "backbone.new_words": FROM_0,
    "study.seeds": SEED,
    "freeze_strategy.k": FROM_1,
    "freeze_strategy.*_steps": FROM_1,
    "freeze_strategy.*_epochs": ABOVE_0,
    "freeze_strategy.*_fraction": UP_TO_1,
    "freeze_strategy.*_scale": ABOVE_0,
    "freeze_strategy.lr_scales": FROM_0,
    "freeze_strategy.lr_mult": ABOVE_0,
    "freeze_strategy.plateau": FROM_1,
    "freeze_strategy.t0": BELOW_1,
    "freeze_strategy.decay": ABOVE_0,
    "freeze_strategy.r": FROM_1,
    "freeze_strategy.alpha": ABOVE_0,
    "freeze_strategy.dropout": BELOW_1,
    "freeze_strategy.layers": FROM_1,
    "regularization.weight_decay.value": FROM_0,
    "regularization.*.p": BELOW_1,
    "regularization.label_smoothing.eps": BELOW_1,
    "regularization.l2_sp.*": FROM_0,
    "regularization.r_drop.alpha": FROM_0,
    "regularization.neftune.alpha": FROM_0,
    "regularization.grad_clip.max_norm": ABOVE_0,
    "regularization.early_stopping.patience": FROM_1,
    "regularization.early_stopping.min_delta": FROM_0,
    "regularization.ema.*": BELOW_1,
    "augmentation.*.p": UP_TO_1,
    "augmentation.*.share": UP_TO_1,
    "augmentation.*.swaps": FROM_1,
    "augmentation.*.alpha": ABOVE_0,
}
"""Place to range, of what many functions take; others' ranges are said in their signatures
(`tlx.base.ranges`). The first pattern that fits a place counts; lists are checked item by item."""


def check(config: Node) -> list[Problem]:
    """Problems of ranges and of rules between values."""
    return [
        *_ranges(config, ""),
        *_budget(config),
        *_devices(config),
        *_metrics(config),
        *_patterns(node_at(config, "freeze_strategy"), "freeze_strategy"),
        *_ends(node_at(config, "freeze_strategy"), "freeze_strategy"),
        *modality.check(config),
        *exact.check(config),
        *study.check(config, metrics_of(config)),
    ]


def _ranges(node: object, place: str) -> Iterator[Problem]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _ranges(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _ranges(item, place)
    elif is_number(node):
        for pattern, (holds, text) in RANGES.items():
            if fnmatch.fnmatchcase(place, pattern):
                if not holds(node):
                    yield Problem(place, f"is {node}; give a number {text}")
                return


def _budget(config: Node) -> Iterator[Problem]:
    trainer = config.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    epochs, steps = trainer.get("epochs"), trainer.get("steps")
    if epochs is None and steps is None:
        yield Problem("trainer.epochs", "no budget: give trainer.epochs or trainer.steps")
    elif epochs is not None and steps is not None:
        yield Problem(
            "trainer.steps",
            f"both trainer.epochs={epochs} and trainer.steps={steps} are given; set one to null",
            "trainer.epochs=null",
        )
    every = [f"eval_every_{unit}" for unit in ("epochs", "steps")]
    if all(trainer.get(key) is not None for key in every):
        yield Problem(f"trainer.{every[1]}", f"{every[0]} is given too; set one to null")


def _devices(config: Node) -> Iterator[Problem]:
    trainer = config.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    given = [trainer.get(key, 1) for key in ("devices", "nodes", "accumulate")]
    batch = trainer.get("batch_size", 32)
    counts = [v for v in given if isinstance(v, int) and v > 0]
    if len(counts) == len(given) and isinstance(batch, int) and batch > 0:
        parts = math.prod(counts)
        if batch % parts:
            better = max(parts, round(batch / parts) * parts)
            yield Problem(
                "trainer.batch_size",
                f"is {batch}, the items of one optimizer step over all devices; it does not divide "
                f"into devices × nodes × accumulate = {parts} equal parts",
                str(better),
            )
        if parts == counts[-1] and trainer.get("strategy") == "fsdp":
            yield Problem(
                "trainer.strategy", "fsdp shares weights between devices, and there is one", "auto"
            )
    accelerator = trainer.get("accelerator")
    if accelerator == "cpu" and trainer.get("precision") == "16-mixed":
        yield Problem("trainer.precision", "16-mixed needs a GPU; on the CPU give 32", "32")


def metrics_of(config: Node) -> dict[str, str]:
    """The task's metrics and their direction, read from its module without importing it."""
    names = constant(target_of(config.get("task")).rpartition(".")[0], "METRICS")
    return names if isinstance(names, dict) else {}


def _metrics(config: Node) -> Iterator[Problem]:
    monitor, names = config.get("monitor"), metrics_of(config)
    if not isinstance(monitor, str):
        return
    split, slash, metric = monitor.partition("/")
    near = nearest(metric if slash else split, names) or next(iter(names), "loss")
    if slash and split != "val":
        yield Problem(
            "monitor",
            f"is {monitor!r}; selection looks at validation only, never at {split!r}: "
            "a test figure that chose the weights is no test",
            f"val/{metric if metric in names else near}",
        )
    elif not slash or (names and metric not in names):
        yield Problem(
            "monitor",
            f"{monitor!r} is no metric; there are {listed(names)}, each as val/NAME",
            f"val/{near}",
        )


def _patterns(node: Node, place: str) -> Iterator[Problem]:
    for pattern in sequence(node.get("patterns")):
        try:
            re.compile(str(pattern))
        except re.error as error:
            yield Problem(f"{place}.patterns", f"{pattern!r} is no regular expression: {error}")


def _ends(node: Node, place: str) -> Iterator[Problem]:
    """A stage's end that is given in two units."""
    given: dict[str, list[str]] = {}
    for key, value in node.items():
        subject, _, unit = str(key).rpartition("_")
        if unit in {"fraction", "epochs", "steps"} and value is not None:
            given.setdefault(subject, []).append(str(key))
    for keys in given.values():
        if len(keys) > 1:
            first, *others = keys
            yield Problem(f"{place}.{others[0]}", f"{place}.{first} is given too; set one to null")
