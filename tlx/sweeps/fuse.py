"""Which runs of a study may be trained as one: those that differ in what a stack of heads can."""

import json
from pathlib import Path

from tlx.config.identity import essence
from tlx.config.solving import stacks_as
from tlx.execution.lineage import Located

MOST = 256
"""Runs of one stack."""

STRATEGIES = frozenset({"linear_probe", "last_layer"})
REGULARIZATION = frozenset({"weight_decay", "label_smoothing", "grad_clip", "early_stopping"})
OWN = ("seed", "order_seed", "schedule", "regularization", "final_weights")
"""Keys in which runs of one stack may differ."""


def key(found: Located) -> str | None:
    """Equal for runs that may be trained as one; None for a run that is trained alone.

    What a config cannot tell, such as whether the head is linear, the worker finds out.
    """
    run, trainer = found.run, found.run.trainer
    alone = (
        run.fuse == "off"
        or run.cache == "off"
        or trainer.devices * trainer.nodes > 1
        or trainer.precision != "32"
        or trainer.accumulate != 1
        or trainer.compile
        or run.augmentation
        or run.freeze_strategy.function not in STRATEGIES
        or stacks_as(run.optimizer.target) is None
        or not {option.function for option in run.regularization.values()} <= REGULARIZATION
    )
    if alone:
        return None
    shared = {name: node for name, node in essence(run.plain).items() if name not in OWN}
    if found.init == "none":
        shared["seed"] = run.seed  # each seed has a network of its own
    shared["dataset"] = {k: v for k, v in run.plain["dataset"].items() if k != "seed"}
    shared["optimizer"] = run.optimizer.target
    shared["init"] = found.init
    shared["trainer"] = run.plain["trainer"]
    return json.dumps(shared, sort_keys=True, default=str)


def begun(folder: Path) -> int:
    """The step of a run's newest checkpoint, 0 without one: runs of one stack are at one step."""
    names = sorted(path.name for path in folder.glob("checkpoints/last-*-step*.pt"))
    return int(names[-1].partition("-step")[2].partition("-")[0]) if names else 0
