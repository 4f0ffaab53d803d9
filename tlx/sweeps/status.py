"""How far studies are: read from their manifests, their runs' folders, and the leases."""

import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tlx.execution import runs
from tlx.execution.lease_places import leases
from tlx.results import manifest as manifests
from tlx.results import reading, record
from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.record import UNREADABLE

MOST = 30
"""Rows of a kind that are shown."""


@dataclass(frozen=True)
class State:
    """One run now.

    Attributes:
        run: as planned.
        status: finished, failed, pruned, running, interrupted, waiting or unreadable.
        folder: of the run.
    """

    run: PlannedRun
    status: str
    folder: Path


def states(manifest: Manifest, *, runs_dir: Path) -> list[State]:
    """The status of every run of a study; a run that is held by nobody is not running."""
    held = leases(runs_dir).held()
    found = []
    starts = [PlannedRun(run=run, arm="start", seed=0) for run in manifest.parents]
    for run in [*starts, *manifest.runs]:
        folder = runs_dir / run.run
        status = reading.status_of(folder) or "waiting"
        if status == "running" and run.run not in held:
            status = "interrupted"
        elif status in {"waiting", "interrupted"} and run.run in held:
            status = "running"
        found.append(State(run, status, folder))
    return found


def text(study: str | None, *, runs_dir: Path | str) -> str:
    """A table of one study; of all studies, a line each.

    Raises:
        ManifestError: there is no such study.
    """
    root = Path(runs_dir).expanduser().absolute()
    if study is not None:
        folder = manifests.find(study, runs_dir=root)
        return _one(manifests.read(folder), runs_dir=folder.parent.parent)
    folders = sorted(p.parent for p in root.glob(f"{manifests.STUDIES}/*/{manifests.FILE}"))
    if not folders:
        return f"no study in {root} yet: tlx train experiment=NAME starts one"
    return "\n".join(f"{folder.name:40} {_summary(folder, root)}" for folder in folders)


def _summary(folder: Path, runs_dir: Path) -> str:
    try:
        manifest = manifests.read(folder)
    except manifests.ManifestError as error:
        return str(error)
    return _counts(Counter(state.status for state in states(manifest, runs_dir=runs_dir)))


def _counts(counts: Counter[str]) -> str:
    order = ("finished", "running", "waiting", "interrupted", "failed", "pruned", UNREADABLE)
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name])


def _one(manifest: Manifest, *, runs_dir: Path) -> str:
    found = states(manifest, runs_dir=runs_dir)
    counts = Counter(state.status for state in found)
    number = "1 run" if len(found) == 1 else f"{len(found)} runs"
    parts = [f"{manifest.study}: {number}{': ' if counts else ''}{_counts(counts)}"]
    running = [s for s in found if s.status == "running"]
    if running:
        parts.append(_running(running))
    failed = [s for s in found if s.status in {"failed", UNREADABLE}]
    if failed:
        parts.append(_failed(failed))
    waiting = [s for s in found if s.status in {"waiting", "interrupted"}]
    if waiting:
        names = ", ".join(_title(s.run) for s in waiting[:8])
        parts.append(f"to do: {names}{', …' if len(waiting) > 8 else ''}")
    return "\n".join(parts)


def _title(run: PlannedRun) -> str:
    return " ".join([run.arm, *([run.candidate] if run.candidate else []), f"seed {run.seed}"])


def _running(found: list[State]) -> str:
    table = Table(title="running", title_justify="left")
    for column in ("run", "step", "stage", "last validation", "left", "log"):
        table.add_column(column, overflow="fold")
    for state in found[:MOST]:
        table.add_row(_title(state.run), *_progress(state.folder), str(state.folder / runs.LOG))
    return _shown(table, more=len(found) - MOST)


def _progress(folder: Path) -> tuple[str, str, str, str]:
    """Step, stage, last validation and time left, as far as the run has told."""
    path = folder / runs.PROGRESS
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        step, total = said["step"], said["total"]
        value = "" if said["value"] is None else f"{said['metric']} {said['value']:.4f}"
        # of the run's own clock; one that was begun by an earlier tlx told another machine's
        trained = step - said.get("since_step", step)
        left = f"{said['seconds'] / trained * (total - step):.0f} s" if trained > 0 else ""
        return (f"{step}/{total}", said["stages"][said["stage"]], value, left)
    except OSError:
        return ("starting", "", "", "")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return (f"{path.name} is damaged", "", "", "")  # the run replaces it within seconds


def _failed(found: list[State]) -> str:
    table = Table(title="failed", title_justify="left")
    for column in ("run", "reason", "log"):
        table.add_column(column, overflow="fold")
    for state in found[:MOST]:
        reason = (record.error_of(state.folder) or "no reason is known").partition("\n")[0]
        table.add_row(_title(state.run), reason, str(state.folder / runs.LOG))
    return _shown(table, more=len(found) - MOST)


def _shown(table: Table, *, more: int) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=110, highlight=False, markup=False).print(table)
    rest: Iterable[str] = [f"… and {more} more"] if more > 0 else []
    return "\n".join([*(line.rstrip() for line in buffer.getvalue().splitlines()), *rest])
