"""What `--check` sees beside configs: their networks, without weights, and stages in the budget."""

import json
from collections.abc import Iterable

from tlx.config.problems import CheckError, Problem
from tlx.config.run import Run

NODES = (
    *("task", "freeze_strategy", "frozen", "regularization", "augmentation", "optimizer"),
    *("schedule", "trainer", "monitor", "select_from", "init_head"),
)
"""Keys that a rehearsal reads, beside the backbone: configs that differ in others alone are
rehearsed once."""


def rehearse(arms: Iterable[tuple[str, Run]]) -> list[str]:
    """Rehearses runs, without their data; gives what is to be said of them, a line each.

    Args:
        arms: runs, checked, each with the name of its arm; empty for a run by itself.

    Raises:
        ValueError: training would refuse the run, in the same words; of arms, all that it would.
    """
    from tlx.backbones.weights.files import NotFetched
    from tlx.building.calls import regularization
    from tlx.building.rehearsals import rehearse as rehearse_network
    from tlx.execution.teachers import check_runs

    seen: set[str] = set()
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    for arm, run in arms:
        # where the weights come from is of no matter to what is built without any
        trunk = {key: value for key, value in run.plain["backbone"].items() if key != "init"}
        parts = [trunk, *(run.plain.get(node) for node in NODES)]
        key = json.dumps(parts, sort_keys=True, default=str)
        if key in seen:
            continue
        seen.add(key)
        try:
            effects = regularization(run)
            check_runs(run, effects)
            rehearsed = rehearse_network(run, effects)
        except NotFetched as error:
            notes[f"{arm or 'the network'} was not tried: {error}"] = None
        except ValueError as error:
            if not arm:
                raise
            problems.append(Problem(arm, str(error)))
        else:
            notes |= dict.fromkeys(rehearsed.backbone.notes)
    if problems:
        raise CheckError(problems)
    return list(notes)
