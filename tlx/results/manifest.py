"""The manifest of a study: which runs belong to it, and what it asks of them."""

import dataclasses
import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlx.base import durable, names
from tlx.base.secrecy import masked, masked_line
from tlx.results.record import LATER, typed

logger = logging.getLogger(__name__)

VERSION = 1
FILE = "manifest.json"
PAGE = "report.html"
LOCK = ".manifest.lock"
STUDIES = "studies"
"""Folder of the study folders, in the folder of runs."""


WAYS_ON = (
    "put it back from a copy, or start the study again: its runs stay, and what cannot be read of "
    "looks at its claims is lost"
)


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
        fold: which part of the data is its test, where the study has folds.
    """

    run: str
    arm: str
    seed: int
    candidate: str = field(default="", metadata=LATER)
    overrides: tuple[str, ...] = field(default=(), metadata=LATER)
    factors: Mapping[str, object] = field(default_factory=dict, metadata=LATER)
    trial: int | None = field(default=None, metadata=LATER)
    fold: int | str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A set of seeds on which claims were judged; judging the same set again is the same look.

    Attributes:
        seeds: of the set, in the study's order.
        sequential: what `study.sequential` declared then; empty where these seeds alone were.
        taken: ISO time; empty for a page of an earlier tlx, which noted no looks.
    """

    seeds: tuple[int, ...]
    sequential: Mapping[str, int] = field(default_factory=dict, metadata=LATER)
    taken: str = field(default="", metadata=LATER)


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
        sequential: of a study that adds seeds itself, `max_seeds` and how many it starts with,
            `first`; empty for one whose seeds are declared.
        looks: sets of seeds on which claims were judged, the first one first; `write` only ever
            adds to those that there are.
        folds: parts of the data, each of which is the test of one run an arm and seed; none where
            all runs have the same test.
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
    factors: Mapping[str, tuple[object, ...]]
    tuned: Mapping[str, tuple[object, ...]]
    runs: tuple[PlannedRun, ...]
    parents: tuple[str, ...]
    command: tuple[str, ...]
    created: str
    search: Mapping[str, object] = field(default_factory=dict, metadata=LATER)
    sequential: Mapping[str, int] = field(default_factory=dict, metadata=LATER)
    looks: tuple[Look, ...] = field(default=(), metadata=LATER)
    folds: tuple[int | str, ...] = field(default=(), metadata=LATER)


def write(folder: Path | str, manifest: Manifest) -> Path:
    """Writes a manifest into a study's folder, atomically; returns its path.

    Looks that the study had stay, whatever the new manifest knows of them: verdicts that were seen
    cannot be unseen by starting the study again.
    """
    with _alone(Path(folder)):
        return _write(Path(folder), manifest)


def add_look(
    folder: Path | str, seeds: Sequence[int], *, sequential: Mapping[str, int]
) -> Manifest:
    """Notes a look in the manifest of a study's folder, durably; returns the manifest.

    Args:
        folder: of the study.
        seeds: on which its claims are judged.
        sequential: what the study has declared, as in `Manifest`.

    Raises:
        ManifestError: there is no manifest, or it is broken.
        OSError: the folder cannot be written to.
    """
    look = Look(
        seeds=tuple(seeds), sequential=dict(sequential), taken=time.strftime("%Y-%m-%dT%H:%M:%S%z")
    )
    with _alone(Path(folder)):
        manifest = read(folder)
        both = _union(manifest.looks, [look])
        if both != manifest.looks:
            manifest = dataclasses.replace(manifest, looks=both)
            _write(Path(folder), manifest)
    return manifest


def _write(folder: Path, manifest: Manifest) -> Path:
    path = folder / FILE
    _keep_damaged(path)
    whole = dataclasses.replace(manifest, looks=_union(looks_of(folder), manifest.looks))
    text = json.dumps({"version": VERSION, **_shown(whole)}, ensure_ascii=False)
    durable.write(path, text + "\n")
    return path


def _shown(manifest: Manifest) -> dict[str, Any]:
    """A manifest as plain data, without secrets of the lines that people gave."""
    plain = dataclasses.asdict(manifest)
    plain["command"] = [masked_line(text) for text in manifest.command]
    plain["search"] = masked(plain["search"])
    for run in plain["runs"]:
        run["overrides"] = [masked_line(text) for text in run["overrides"]]
    return plain


def _keep_damaged(path: Path) -> None:
    """Copies a manifest that cannot be read beside, before it is replaced."""
    if not path.exists():
        return
    try:
        read(path.parent)
    except ManifestError as error:
        aside = path.with_name(f"{FILE}.damaged")
        shutil.copyfile(path, aside)
        logger.warning("%s. It is replaced, and kept as %s", error, aside.name)


def _union(looks: Iterable[Look], more: Iterable[Look]) -> tuple[Look, ...]:
    """Looks of both, each set of seeds once, as it was first noted."""
    by_set: dict[frozenset[int], Look] = {}
    for look in (*looks, *more):
        by_set.setdefault(frozenset(look.seeds), look)
    return tuple(by_set.values())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from changing the manifest meanwhile: none may lose another's look."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        except OSError as error:
            # some network file systems have no locks; replacing the file is still atomic there
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        yield


def looks_of(folder: Path) -> tuple[Look, ...]:
    """The looks of the manifest in a folder, even of one that is otherwise of no use."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return _looks(data, folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ()


def _looks(data: Mapping[str, Any], folder: Path) -> tuple[Look, ...]:
    """The looks that a manifest lists; those of an earlier tlx are told by what it left behind.

    It judged at every report, so that its page means one look at the seeds of the manifest.
    """
    if "looks" in data:
        return tuple(Look(**{**look, "seeds": tuple(look["seeds"])}) for look in data["looks"])
    pages = (folder / PAGE, folder / "tables" / "claims.csv")
    if data["claims"] and any(os.path.exists(page) for page in pages):
        return (Look(seeds=tuple(data["seeds"])),)
    return ()


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
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path} is broken ({error}); {WAYS_ON}") from error
    if version != VERSION:
        raise ManifestError(f"{path}: version {version}, this tlx reads {VERSION}")
    try:
        manifest: Manifest = typed(Manifest, data, "manifest")
        if manifest.mode not in ("max", "min"):
            raise ValueError(f"mode is {manifest.mode!r}, not max or min")
        if "looks" not in data:
            manifest = dataclasses.replace(manifest, looks=_looks(data, path.parent))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ManifestError(f"{path} is broken ({error}); {WAYS_ON}") from error
    for run in [*(planned.run for planned in manifest.runs), *manifest.parents]:
        if not names.stays_inside(run):
            raise ManifestError(
                f"{path}: {run!r} is no name of a run, for it leads out of the folder of runs; "
                "somebody has changed the file: start the study again"
            )
    return manifest


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
    listed = ", ".join(folder.name for folder in (matches or folders)) or "none"
    if matches:
        raise ManifestError(f"{study!r} fits {len(matches)} studies: {listed}; name one")
    raise ManifestError(f"no study {study!r} in {root}; there are: {listed}")
