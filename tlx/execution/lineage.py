"""Where a run starts: the runs that come before it, found without training anything."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.execution import runs
from tlx.results import reading, record

Config = Mapping[str, Any]
INHERITED = ("accelerator", "devices", "nodes", "strategy", "workers")
"""Of `trainer`: what a parent takes from the run that asks for it; none of it is in its id."""


@dataclass(frozen=True)
class Located:
    """A run with its place, and with the run that its weights come from.

    Attributes:
        folder: of the run, whether it exists or not.
        config: normalised; `backbone.init` names the parent by its full id.
        parent: None where the weights come from elsewhere.
    """

    folder: Path
    config: dict[str, Any]
    parent: "Located | None" = None

    @property
    def chain(self) -> tuple["Located", ...]:
        """The run and all that come before it, oldest first."""
        return (*(self.parent.chain if self.parent else ()), self)

    @property
    def init(self) -> str:
        """Where the starting weights come from: `hub`, `none` or a file."""
        if self.parent is not None:
            return str(self.parent.folder / runs.WEIGHTS)
        return str(self.config["backbone"]["init"])


class Locator:
    """Finds runs; parents that several runs share are composed once."""

    def __init__(self, *, config_dir: str | None = None) -> None:
        """Keeps the user's own folder of groups and experiments."""
        self.config_dir = config_dir
        self._parents: dict[str, Located] = {}

    def locate(self, config: Config, *, waiting: tuple[str, ...] = ()) -> Located:
        """The place of a run and of its parents.

        Args:
            config: checked.
            waiting: ids of runs that start from this one.

        Raises:
            RunError: a run that it starts from cannot be found, or waits for itself.
        """
        plain = normalise(dict(config))
        label = run_id(plain)
        if label in waiting:
            raise runs.RunError(f"backbone.init goes in a circle: {' → '.join((*waiting, label))}")
        parent = self._parent(plain, waiting=(*waiting, label))
        if parent is not None:
            trunk = {**plain["backbone"], "init": f"run:{parent.folder.name}"}
            plain = {**plain, "backbone": trunk}
            label = run_id(plain)
        return Located(Path(plain["runs_dir"]).expanduser().absolute() / label, plain, parent)

    def _parent(self, config: Config, *, waiting: tuple[str, ...]) -> Located | None:
        kind, _, name = config["backbone"]["init"].partition(":")
        if kind not in {"experiment", "run"} or not name:
            return None
        given = [config[key] for key in ("runs_dir", "executor", "logger", "trainer")]
        key = json.dumps([kind, name, *given], sort_keys=True, default=str)
        if key not in self._parents:
            find = self._of_experiment if kind == "experiment" else self._of_run
            self._parents[key] = find(name, config, waiting=waiting)
        return self._parents[key]

    def _of_experiment(self, text: str, config: Config, *, waiting: tuple[str, ...]) -> Located:
        words = text.split()
        parent = compose([f"experiment={words[0]}", *words[1:]], config_dir=self.config_dir)
        if parent.pop("study", None) and not words[1:]:
            raise runs.RunError(
                f"backbone.init=experiment:{text} names a study of several runs; say which one, "
                f"as in 'backbone.init=\"experiment:{text} freeze_strategy=full seed=0\"'"
            )
        parent["runs_dir"] = config["runs_dir"]
        for key in ("executor", "logger"):
            parent[key] = config[key]
        for key in INHERITED:
            parent["trainer"][key] = config["trainer"][key]
        return self.locate(parent, waiting=waiting)

    def _of_run(self, name: str, config: Config, *, waiting: tuple[str, ...]) -> Located:
        folder = runs.find(name, runs_dir=config["runs_dir"])
        own = runs.read_config(folder)
        if finished(folder) is not None:
            return Located(folder, own)
        return self.locate({**own, "runs_dir": str(folder.parent)}, waiting=waiting)


def finished(folder: Path) -> record.Record | None:
    """The record of a run that finished, or None.

    Raises:
        RecordError: there is a record that cannot be read, so that nobody knows.
    """
    found = known(folder)
    return found if found is not None and found.status == "finished" else None


def known(folder: Path) -> record.Record | None:
    """The record of a run, or None where there is none; raises RecordError as `finished`."""
    return reading.one(folder)
