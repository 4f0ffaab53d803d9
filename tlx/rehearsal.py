"""What `--check` finds beyond the config: networks are built without weights, stages planned."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Config = Mapping[str, Any]
READ = (
    "task",
    "backbone",
    "freeze_strategy",
    "frozen",
    "augmentation",
    "regularization",
    "trainer",
)
"""What a rehearsal reads of a config, beside the next."""
READ_TOO = ("schedule", "optimizer", "monitor", "select_from")


def notes_on(configs: Iterable[Config]) -> list[str]:
    """Rehearses configs, each kind of network once; gives what is to be said of them.

    Raises:
        ValueError: one cannot be trained.
    """
    from tlx import build
    from tlx.backbones.weights import NotFetched

    seen: set[str] = set()
    notes: dict[str, None] = {}
    for config in configs:
        # where the weights come from is of no matter to what is built without any
        trunk = {key: value for key, value in config["backbone"].items() if key != "init"}
        parts = [trunk, *(config.get(key) for key in (*READ, *READ_TOO) if key != "backbone")]
        key = json.dumps(parts, sort_keys=True, default=str)
        if key in seen:
            continue
        seen.add(key)
        try:
            rehearsed = build.rehearse(config, build.regularization(config))
        except NotFetched as error:
            notes[f"the network was not tried: {error}"] = None
        else:
            notes |= dict.fromkeys(rehearsed.backbone.notes)
    return list(notes)
