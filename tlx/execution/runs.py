"""Run folders: where a run lives, how it is found again, who is at work in it."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tlx.base import bounds, durable, sealed, secrecy
from tlx.config import moved
from tlx.config.identity import run_id
from tlx.config.run import Run, typed
from tlx.execution.lease_places import leases
from tlx.execution.leases import STALE_S, Holder, holding_all

CONFIG = "config.yaml"
LOG = "log.txt"
PROGRESS = "progress.json"
# libyaml's are ten times as fast, where they were built; both are the safe ones
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
WEIGHTS = sealed.WEIGHTS
NEEDED = ("backbone", "dataset", "freeze_strategy", "task", "trainer", "seed", "runs_dir")
"""Keys that the config of every run has."""


class RunError(RuntimeError):
    """A run that cannot be found, or that cannot be worked on."""


class Busy(RunError):
    """Somebody else is at work on the run."""


class Apart(RunError):
    """Runs cannot be trained as one; nothing has begun."""


class Lost(RunError):
    """The processes of a run ended without a word; it may go on from its last checkpoint."""


def find(run: str, *, runs_dir: str | Path) -> Path:
    """The folder of a run.

    Args:
        run: a folder, a run id, or a part of an id that only one run has.
        runs_dir: where runs live.

    Raises:
        RunError: none, or several, match.
    """
    given = Path(run).expanduser().absolute()
    if (given / CONFIG).is_file():
        return given
    root = Path(runs_dir).expanduser()
    folders = sorted(path.parent for path in root.glob(f"*/{CONFIG}"))
    exact = [folder for folder in folders if folder.name == run]
    matches = exact or [folder for folder in folders if run in folder.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = "\n  ".join(folder.name for folder in matches)
        raise RunError(f"{run!r} fits {len(matches)} runs; name one of\n  {names}")
    import difflib

    near = difflib.get_close_matches(run, [folder.name for folder in folders], n=3, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise RunError(f"no run {run!r} in {root} ({len(folders)} runs there){hint}")


def read_config(folder: Path) -> dict[str, object]:
    """The resolved config that a run was started with.

    Raises:
        RunError: the file is damaged, or not what a finished run was started with.
    """
    path = folder / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        bounds.require_yaml(text, str(path))  # the folder may be somebody else's
        config = yaml.load(text, Loader=LOADER)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise damaged(path, " ".join(str(error).split())) from error
    if not isinstance(config, dict):
        raise damaged(path, f"it holds no mapping but {type(config).__name__}")
    if lacking := [key for key in NEEDED if key not in config]:
        raise damaged(path, f"it lacks {', '.join(lacking)}")
    try:
        sealed.check(path)
    except sealed.Damaged:
        # what is not in the id, such as where the runs lie, a person may well have changed
        if not _same_run(config, folder.name):
            raise
    return moved.current(config)


def read_run(folder: Path) -> Run:
    """The run that is frozen in a folder; raises RunError as `read_config` does."""
    config = read_config(folder)
    try:
        return typed(config)
    except (KeyError, TypeError, AttributeError) as error:
        why = f"it is no config of a run: {type(error).__name__}: {error}"
        raise damaged(folder / CONFIG, why) from error


def _same_run(config: dict[str, object], label: str) -> bool:
    try:
        return run_id(config) == label
    except (KeyError, TypeError, ValueError, AttributeError):
        return False  # a part of it has another form than any config


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a run says; {} where there is none.

    Raises:
        RunError: the file is damaged, or not what a finished run wrote.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(found, dict):
        raise damaged(path, f"it holds no object but {type(found).__name__}")
    sealed.check(path)
    return found


def damaged(path: Path, why: str) -> RunError:
    """What is said of a file of a run that cannot be read."""
    return RunError(f"{path} is damaged ({why}); {sealed.ways_on(path.parent)}")


def write_config(folder: Path, config: Mapping[str, object], *, sync: bool = True) -> None:
    """Freezes a resolved config for workers to read, less what only its driver may know.

    Secrets stand in no key that a run's result or its process depends on (`config.check`): what is
    masked here changes neither the run's id nor its rerun. `sync` is as in `durable.write`.
    """
    if any(secrecy.places(config)):
        config = secrecy.masked(config)
    text = yaml.dump(dict(config), Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    durable.write(folder / CONFIG, text, sync=sync)


def write_json(path: Path, value: object, *, sync: bool = True) -> None:
    """Writes plain data as JSON, as `durable.write` does."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
    durable.write(path, f"{text}\n", sync=sync)


@contextmanager
def at_work(folder: Path, *, patient: bool = True) -> Iterator[None]:
    """Holds a run: its lease, for all machines, and its lock, for this one.

    The kernel gives the lock back when the process ends, however it ends. A record lock: loader
    processes do not inherit it, so that those of a killed run, which live on for seconds, keep
    nobody out. It also tells two processes apart one of which slept until its lease ran out.

    Args:
        folder: of the run.
        patient: whether to wait, up to a minute, until it is known if a holder on another machine
            lives; else it counts as living.

    Raises:
        Busy: another process holds it.
    """
    with at_work_all([folder], patient=patient) as busy:
        if folder in busy:
            raise busy[folder]
        yield


@contextmanager
def at_work_all(folders: Sequence[Path], *, patient: bool = True) -> Iterator[dict[Path, Busy]]:
    """Holds what nobody holds of several runs, as `at_work` does.

    Yields:
        Of each of the others, who holds it.
    """
    busy: dict[Path, Busy] = {}

    def is_busy(folder: Path, holder: object) -> None:
        busy[folder] = Busy(
            f"{folder.name} is being trained already, by {holder}; wait for it, or stop it first"
        )

    with ExitStack() as held:
        for folder in dict.fromkeys(folders):
            durable.make_folder(folder)
            file = held.enter_context(open(folder / ".lock", "a+", encoding="utf-8"))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                is_busy(folder, file.read().strip() or "a process")
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
        locked = [folder for folder in dict.fromkeys(folders) if folder not in busy]
        for parent in dict.fromkeys(folder.parent for folder in locked):
            names = [folder.name for folder in locked if folder.parent == parent]
            wait = say_wait if patient else None
            others = held.enter_context(holding_all(leases(parent), names, wait=wait))
            for name, holder in others.items():
                is_busy(parent / name, holder)
        yield busy


def held_here(folder: Path) -> bool:
    """Whether a process of this machine holds a run, or nobody does."""
    holder = leases(folder.parent).held().get(folder.name)
    return holder is None or holder.known_alive()


def say_wait(others: Mapping[str, Holder]) -> None:
    """Tells whose sign of life is waited for."""
    for name, holder in others.items():
        print(
            f"{name} is held by {holder}; waiting up to {STALE_S:.0f} s for a sign of life",
            flush=True,
        )
