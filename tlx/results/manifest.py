"""The manifest of a study: which runs belong to it, and what it asks of them."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlx.results.record import replace_text

VERSION = 1
FILE = "manifest.json"
STUDIES = "studies"
"""Folder of the study folders, in the folder of runs."""


class ManifestError(ValueError):
    """A study that cannot be found, or a manifest that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        run: its id; its folder is `runs_dir / run`.
        arm: what it is compared as.
        seed: the run's seed.
        candidate: tuned values as overrides joined by a space; empty where nothing is tuned.
        overrides: the whole line, `tlx train *overrides` trains it.
        factors: factor's key -> this run's level; empty for explicit arms.
        trial: number of the search's trial.
    """

    run: str
    arm: str
    seed: int
    candidate: str = ""
    overrides: tuple[str, ...] = ()
    factors: Mapping[str, Any] = field(default_factory=dict)
    trial: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A study, expanded.

    Attributes:
        study: its name, and that of its folder.
        question: what it answers.
        design: how its arms came about.
        baseline: the arm that the others are compared with.
        metric: the primary figure, `test/accuracy`.
        mode: `max` or `min`, what is better in it.
        directions: every metric of the task -> `max` or `min`.
        claims: what is expected to hold, `lp_ft > full on rotation/accuracy`.
        seeds: of every arm.
        arms: in order.
        factors: factor's key -> its levels in order; empty for explicit arms.
        tuned: key -> the values that each arm chooses from.
        runs: all of them.
        parents: ids of the runs that others start from.
        command: the line that started it.
        created: ISO time.
        search: sampler, objectives, storage of a search.
    """

    study: str
    question: str | None
    design: str
    baseline: str | None
    metric: str
    mode: str
    directions: Mapping[str, str]
    claims: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    factors: Mapping[str, tuple[Any, ...]]
    tuned: Mapping[str, tuple[Any, ...]]
    runs: tuple[PlannedRun, ...]
    parents: tuple[str, ...]
    command: tuple[str, ...]
    created: str
    search: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path | str, manifest: Manifest) -> Path:
    """Writes a manifest into a study's folder, atomically; returns its path."""
    path = Path(folder) / FILE
    text = json.dumps({"version": VERSION, **dataclasses.asdict(manifest)}, ensure_ascii=False)
    replace_text(path, text + "\n")
    return path


def read(folder: Path | str) -> Manifest:
    """The manifest in a study's folder.

    Raises:
        ManifestError: there is none, it is broken, or of another version.
    """
    path = Path(folder) / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.pop("version")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: there is no such study; start it first") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ManifestError(f"{path} is broken ({error}); start the study again") from error
    if version != VERSION:
        raise ManifestError(f"{path}: version {version}, this tlx reads {VERSION}")
    try:
        runs = tuple(
            PlannedRun(**{**run, "overrides": tuple(run["overrides"])}) for run in data.pop("runs")
        )
        kinds = {f.name: f.type for f in dataclasses.fields(Manifest)}
        plain = {key: _tupled(value, str(kinds[key])) for key, value in data.items()}
        return Manifest(runs=runs, **plain)
    except (TypeError, KeyError) as error:
        raise ManifestError(f"{path} has wrong keys ({error}); start the study again") from error


def _tupled(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping) and "tuple" in kind:
        return {key: tuple(items) for key, items in value.items()}
    return value


def find(study: str, *, runs_dir: Path | str) -> Path:
    """The folder of a study.

    Args:
        study: a folder, a name, or a part of a name that only one study has.
        runs_dir: where runs live.

    Raises:
        ManifestError: none, or several, match.
    """
    given = Path(study).expanduser().absolute()
    if (given / FILE).is_file():
        return given
    root = Path(runs_dir).expanduser().absolute() / STUDIES
    folders = sorted(path.parent for path in root.glob(f"*/{FILE}"))
    exact = [folder for folder in folders if folder.name == study]
    matches = exact or [folder for folder in folders if study in folder.name]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(folder.name for folder in (matches or folders)) or "none"
    if matches:
        raise ManifestError(f"{study!r} fits {len(matches)} studies: {names}; name one")
    raise ManifestError(f"no study {study!r} in {root}; there are: {names}")
