"""Ranges of single values, and rules between values, that the config alone can tell."""

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping

from tlx.base.nodes import Node, node_at, sequence, target_of
from tlx.base.ranges import Range
from tlx.config import exact, modality, study
from tlx.config.keys import is_number
from tlx.config.problems import Problem
from tlx.config.signatures import constant
from tlx.config.suggest import listed, nearest

ABOVE_0, UP_TO_1 = Range(above=0), Range(above=0, most=1)
FROM_0, FROM_1, FROM_2 = Range(least=0), Range(least=1), Range(least=2)
SEED = Range(least=0, below=2**32)
BELOW_1, FROM_0_TO_1 = Range(least=0, below=1), Range(least=0, most=1)
ANY = Range(endless=True)

_RANGES = (
    ("order_seed seed study.seeds", SEED),
    (
        "augmentation.*.alpha cache_gb executor.timeout_minutes executor.memory_gb "
        "executor.poll_s freeze_strategy.*_epochs freeze_strategy.*_scale "
        "freeze_strategy.lr_mult freeze_strategy.decay freeze_strategy.alpha optimizer.lr "
        "optimizer.eps optimizer.penalties optimizer.tolerance optimizer.path_tolerance "
        "regularization.grad_clip.max_norm trainer.timeout_minutes",
        ABOVE_0,
    ),
    (
        "backbone.dropout_scale backbone.new_words executor.max_restarts "
        "executor.max_requeues executor.gpus freeze_strategy.lr_scales frozen.views "
        "regularization.weight_decay.value regularization.l2_sp.* "
        "regularization.r_drop.alpha regularization.neftune.alpha "
        "regularization.early_stopping.min_delta schedule.warmup_steps search.seed "
        "search.startup_trials search.pruner_startup_trials search.pruner_warmup "
        "search.max_failed trainer.workers",
        FROM_0,
    ),
    (
        "backbone.drop_rate backbone.drop_path_rate backbone.dropout backbone.*_dropout "
        "freeze_strategy.t0 freeze_strategy.dropout optimizer.betas optimizer.momentum "
        "regularization.*.p regularization.label_smoothing.eps regularization.ema.* "
        "schedule.warmup_fraction",
        BELOW_1,
    ),
    (
        "augmentation.*.p augmentation.*.share backbone.std freeze_strategy.*_fraction "
        "optimizer.layer_decay",
        UP_TO_1,
    ),
    (
        "augmentation.*.swaps backbone.image_size backbone.in_chans backbone.max_length "
        "backbone.vocabulary_size backbone.least_count backbone.layers backbone.width "
        "backbone.embedding freeze_strategy.k freeze_strategy.*_steps "
        "freeze_strategy.plateau freeze_strategy.r freeze_strategy.layers "
        "optimizer.most_iterations optimizer.patience "
        "regularization.early_stopping.patience",
        FROM_1,
    ),
    ("search.reduction_factor search.popsize", FROM_2),
    ("backbone.mean", FROM_0_TO_1),
    # what is left of their groups
    ("executor.kwargs.* search.space.*", ANY),
    ("executor.* search.* trainer.*", FROM_1),
)
RANGES = {place: bounds for places, bounds in _RANGES for place in places.split()}
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
        fitting = (r for pattern, r in RANGES.items() if fnmatch.fnmatchcase(place, pattern))
        bounds = next(fitting, ANY)
        if not bounds.holds(node):
            yield Problem(place, f"is {node}; give a number {bounds}")


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
