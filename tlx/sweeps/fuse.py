"""Which runs of a study may be trained as one: those that differ in what a stack of heads can."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.config.identity import essence
from tlx.execution.lineage import Located

MOST = 256
"""Runs of one stack."""

STRATEGIES = frozenset({"linear_probe", "last_layer"})
OPTIMIZERS = frozenset({"adamw", "sgd"})
REGULARIZATION = frozenset({"weight_decay", "label_smoothing", "grad_clip", "early_stopping"})
OWN = ("seed", "order_seed", "schedule", "regularization", "final_weights")
"""Keys in which runs of one stack may differ."""


def key(found: Located) -> str | None:
    """Equal for runs that may be trained as one; None for a run that is trained alone.

    What a config cannot tell, such as whether the head is linear, the worker finds out.
    """
    config = found.config
    trainer = config["trainer"]
    alone = (
        config["fuse"] == "off"
        or config["cache"] == "off"
        or trainer["devices"] * trainer["nodes"] > 1
        or trainer["precision"] != "32"
        or trainer["accumulate"] != 1
        or trainer["compile"]
        or config["augmentation"]
        or _leaf(config["freeze_strategy"]) not in STRATEGIES
        or _leaf(config["optimizer"]) not in OPTIMIZERS
        or not {_leaf(node) for node in config["regularization"].values()} <= REGULARIZATION
    )
    if alone:
        return None
    shared = {name: node for name, node in essence(config).items() if name not in OWN}
    if found.init == "none":
        shared["seed"] = config["seed"]  # each seed has a network of its own
    shared["dataset"] = {k: v for k, v in config["dataset"].items() if k != "seed"}
    shared["optimizer"] = config["optimizer"]["_target_"]
    shared["init"] = found.init
    shared["trainer"] = dict(trainer)
    return json.dumps(shared, sort_keys=True, default=str)


def begun(folder: Path) -> int:
    """The step of a run's newest checkpoint, 0 without one: runs of one stack are at one step."""
    names = sorted(path.name for path in folder.glob("checkpoints/last-*-step*.pt"))
    return int(names[-1].partition("-step")[2].partition("-")[0]) if names else 0


def _leaf(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]
