"""What goes with a probe that is solved rather than trained, as far as the config can tell."""

from collections.abc import Iterator

from tlx.base.nodes import Node, node_at, target_of
from tlx.config.keys import is_number, value_at
from tlx.config.problems import Problem
from tlx.config.solving import solves

KEPT = frozenset({"label_smoothing"})
"""Regularization that is part of the loss; what else there is acts on steps, or on the trunk."""

ONLY: dict[str, tuple[tuple[object, ...], str]] = {
    "freeze_strategy._target_": (
        ("tlx.methods.strategies.linear_probe",),
        "it solves a linear head on frozen features: choose freeze_strategy=linear_probe",
    ),
    "schedule._target_": (
        ("tlx.methods.schedules.constant",),
        "it has no learning rate: choose schedule=constant",
    ),
    "schedule.warmup_steps": ((0,), "it has no learning rate: give 0"),
    "schedule.warmup_fraction": ((0,), "it has no learning rate: give 0"),
    "cache": (("auto",), "it works on stored features: give cache=auto"),
    "frozen.dropout": (("off",), "features must not be random: give off"),
    "frozen.norm_affine": (("follow", "freeze"), "the head alone can train: give follow"),
    "frozen.norm_stats": (
        ("follow", "freeze", "recalibrate"),
        "features must not change on the way: give follow",
    ),
    "frozen.embeddings": (("follow", "freeze"), "the head alone can train: give follow"),
    "trainer.devices": ((1,), "it solves on one device: give 1"),
    "trainer.nodes": ((1,), "it solves on one device: give 1"),
    "trainer.accumulate": ((1,), "it takes all items at once: give 1"),
    "trainer.compile": ((False,), "nothing is there to compile: give false"),
    "task.criterion": (("mse", "huber"), "it needs a smooth loss: give mse or huber"),
}
"""Place to what it may be, where it is given, and why."""


def check(config: Node) -> Iterator[Problem]:
    """Problems of a config whose optimizer solves; none of another's."""
    if not solves(target_of(config.get("optimizer"))):
        return
    for place, (allowed, why) in ONLY.items():
        group, _, key = place.partition(".")
        given = value_at(config, place)
        if given is not None and given not in allowed:
            value = str(given).rpartition(".")[2] if key == "_target_" else given
            yield Problem(group if key == "_target_" else place, f"is {value}; of lbfgs: {why}")
    yield from _lists(config)
    yield from _penalties(config)


def _lists(config: Node) -> Iterator[Problem]:
    for group, kept in (("augmentation", frozenset()), ("regularization", KEPT)):
        names = node_at(config, group)
        others = [name for name in names if name not in kept]
        left = [name for name in names if name in kept]
        fix = f"give {group}=[{','.join(left)}]"
        for name in others:
            why = "features are computed once"
            if name == "weight_decay":
                why = "optimizer.penalties take its place"
            elif group == "regularization":
                why = "of these, lbfgs has label_smoothing alone"
            yield Problem(f"{group}.{name}", f"has no effect on lbfgs, {why}: {fix}")


def _penalties(config: Node) -> Iterator[Problem]:
    given = value_at(config, "optimizer.penalties")
    if not isinstance(given, list) or not all(is_number(each) for each in given):
        return
    if not given or len(set(given)) < len(given):
        yield Problem("optimizer.penalties", f"is {given}; give one or more, each once")
    if config.get("final_weights") == "last" and len(given) > 1:
        yield Problem(
            "final_weights",
            "is last; of lbfgs: validation chooses the penalty: give best, or one penalty",
            "best",
        )
