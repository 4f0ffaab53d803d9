"""The network of a finished run, as its weights file tells it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from tlx.backbones.weights import stated
from tlx.base import sealed
from tlx.building.calls import regularization
from tlx.building.networks import model
from tlx.config.run import Run
from tlx.data.splits import Labels
from tlx.execution import lineage, runs
from tlx.results import reading, record
from tlx.tasks.model import Model
from tlx.training.engine import checkpoints


def facts(folder: Path) -> dict[str, Any]:
    """What the weights file says of itself: labels, their kind, the input spec.

    Raises:
        RunError: the run has no final weights, or they are damaged.
    """
    path = folder / runs.WEIGHTS
    finished = lineage.known(folder)
    # weights of a run that has not finished may not have reached the disk
    if not path.is_file() or (finished is not None and finished.status != "finished"):
        raise runs.RunError(_why_no_weights(folder))
    try:
        sealed.check(path)
        with safe_open(path, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})["tlx"])
        if not {"labels", "kind", "input_spec"} <= found.keys():
            raise KeyError("labels, kind, input_spec")
    except sealed.Damaged as error:
        raise runs.RunError(f"{error.why}; {_ways_back(folder)}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise runs.RunError(
            f"{path} is damaged, or not what the run wrote ({type(error).__name__}: {error}); "
            f"{_ways_back(folder)}"
        ) from error
    return found


def _why_no_weights(folder: Path) -> str:
    status = reading.status_of(folder)
    if status == "failed":
        return (
            f"{folder.name} has no {runs.WEIGHTS}, it failed: {record.error_of(folder) or ''}; "
            "`tlx train …` with the overrides of the run tries it again"
        )
    if status != "finished":
        return f"{folder.name} has no {runs.WEIGHTS} yet; let it finish first"
    by_itself = runs.read_config(folder).get("keep") == "record"
    who = "keep=record removes it when a run ends" if by_itself else "it was deleted since"
    return (
        f"{folder / runs.WEIGHTS} is gone: {folder.name} finished, and {who}; {_ways_back(folder)}"
    )


def _ways_back(folder: Path) -> str:
    """How a finished run gets its weights file again."""
    keep = " keep=weights" if runs.read_config(folder).get("keep") == "record" else ""
    again = f"`tlx train … --force{keep}`, with the overrides of the run, trains it again"
    if not checkpoints.found_in(folder / "checkpoints", tag="last"):
        return again
    return (
        f"{again}; without --force, and with its {record.FILE} moved elsewhere, the run goes on "
        "from its last checkpoint and writes it anew"
    )


def load(folder: Path) -> tuple[Run, Model]:
    """The config and the trained network of a finished run, in eval mode."""
    run = runs.read_run(folder)
    said = facts(folder)
    labels = Labels(kind=said["kind"], names=tuple(said["labels"]))
    made = model(
        run,
        labels,
        effects=regularization(run),
        kept=said["input_spec"],
        init="none",
        **_taken(run, (said.get("network") or {}).get("kwargs")),
    )
    made.network.load_state_dict(load_file(folder / runs.WEIGHTS))
    made.network.eval()
    return run, made


def _taken(run: Run, form: Mapping[str, object] | None) -> dict[str, Any]:
    """Arguments of timm's network that were stated beside its starting weights."""
    if form is None or "kwargs" not in run.backbone.arguments:
        return {}
    return {"kwargs": {key: value for key, value in form.items() if key not in stated.OURS}}
