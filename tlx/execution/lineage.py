"""Where a run starts: the runs that come before it, found without training anything."""

import json
from dataclasses import dataclass
from pathlib import Path

from tlx.base.nodes import node_at
from tlx.config.compose import compose
from tlx.config.run import Run, typed
from tlx.execution import runs
from tlx.results import reading, record

INHERITED = ("accelerator", "devices", "nodes", "strategy", "workers")
"""Of `trainer`: what a parent takes from the run that asks for it; none of it is in its id."""


@dataclass(frozen=True)
class Located:
    """A run with its place, and with the run that its weights come from.

    Attributes:
        folder: of the run, whether it exists or not.
        run: its config; `backbone.init` names the parent by its full id.
        parent: None where the weights come from elsewhere.
    """

    folder: Path
    run: Run
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
        return str(self.run.backbone.arguments["init"])


class Locator:
    """Finds runs; parents that several runs share are composed once."""

    def __init__(self, *, config_dir: str | None = None) -> None:
        """Keeps the user's own folder of groups and experiments."""
        self.config_dir = config_dir
        self._parents: dict[str, Located] = {}

    def locate(self, run: Run, *, waiting: tuple[str, ...] = ()) -> Located:
        """The place of a run and of its parents.

        Args:
            run: checked.
            waiting: ids of runs that start from this one.

        Raises:
            RunError: a run that it starts from cannot be found, or waits for itself.
        """
        label = run.id
        if label in waiting:
            raise runs.RunError(f"backbone.init goes in a circle: {' → '.join((*waiting, label))}")
        parent = self._parent(run, waiting=(*waiting, label))
        if parent is not None:
            trunk = {**run.plain["backbone"], "init": f"run:{parent.folder.name}"}
            run = run.changed(backbone=trunk)
            label = run.id
        return Located(Path(run.runs_dir).expanduser().absolute() / label, run, parent)

    def _parent(self, run: Run, *, waiting: tuple[str, ...]) -> Located | None:
        kind, _, name = run.backbone.get("init", "none").partition(":")
        if kind not in {"experiment", "run"} or not name:
            return None
        inherited = [run.plain[key] for key in ("runs_dir", "executor", "logger", "trainer")]
        key = json.dumps([kind, name, *inherited], sort_keys=True, default=str)
        if key not in self._parents:
            find = self._of_experiment if kind == "experiment" else self._of_run
            self._parents[key] = find(name, run, waiting=waiting)
        return self._parents[key]

    def _of_experiment(self, text: str, run: Run, *, waiting: tuple[str, ...]) -> Located:
        words = text.split()
        parent = compose([f"experiment={words[0]}", *words[1:]], config_dir=self.config_dir)
        if parent.pop("study", None) and not words[1:]:
            raise runs.RunError(
                f"backbone.init=experiment:{text} names a study of several runs; say which one, "
                f"as in 'backbone.init=\"experiment:{text} freeze_strategy=full seed=0\"'"
            )
        parent |= {key: run.plain[key] for key in ("runs_dir", "executor", "logger")}
        inherited = {key: run.plain["trainer"][key] for key in INHERITED}
        parent["trainer"] = {**node_at(parent, "trainer"), **inherited}
        return self.locate(typed(parent), waiting=waiting)

    def _of_run(self, name: str, run: Run, *, waiting: tuple[str, ...]) -> Located:
        folder = runs.find(name, runs_dir=run.runs_dir)
        parent = runs.read_run(folder)
        if finished(folder) is not None:
            return Located(folder, parent)
        return self.locate(parent.changed(runs_dir=str(folder.parent)), waiting=waiting)


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
