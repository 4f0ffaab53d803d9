"""Running: from a config to a Record, here or through torchrun, resumed where it stopped."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlx import launch, runs
from tlx.config.check import CheckError, check
from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.results import provenance, record
from tlx.results.record import Record

Config = Mapping[str, Any]


def run(
    config: Config,
    *,
    force: bool = False,
    overrides: list[str] | None = None,
    config_dir: str | None = None,
    chain: tuple[str, ...] = (),
) -> Record:
    """Trains the run that a config describes; a finished one is not run again.

    Args:
        config: composed and resolved.
        force: forget what is there and start anew.
        overrides: as given, for the run's folder.
        config_dir: the user's own groups and experiments, for the run that this one starts from.
        chain: runs that wait for this one (a run cannot start from itself).

    Raises:
        CheckError: the config is wrong.
        RunError: somebody else is at work on this run, or a parent cannot be found.
    """
    config = normalise(dict(config))
    if problems := check(config):
        raise CheckError(problems)
    chain = (*chain, run_id(config))
    config, parent = resolve_init(config, chain=chain, config_dir=config_dir)
    identity = run_id(config)
    folder = Path(config["runs_dir"]).expanduser().absolute() / identity
    done = None if force else finished(folder)
    if done is not None:
        say(f"{identity} is finished already: {folder} (train it again with --force)")
        for line in changed_inputs(folder, config):
            say(line)
        return done
    init = str(parent / runs.WEIGHTS) if parent else config["backbone"]["init"]
    if launch.is_first():
        prepare(folder, config, overrides=overrides or [], parent=parent, force=force)
    if launch.wants_torchrun(config):
        launch.start(folder, config, init=init)
        return _after_launch(folder)
    return run_here(folder, init=init, config=config)


def _after_launch(folder: Path) -> Record:
    done = finished(folder)
    if done is None:
        found = record.read(folder) if (folder / record.FILE).is_file() else None
        if found is not None and found.status == "interrupted":
            from tlx.training.signals import Interrupted

            raise Interrupted(found.error or "stopped")
        reason = found.error if found is not None else None
        raise runs.RunError(
            f"the workers of {folder.name} did not finish: {reason or 'see above'}; "
            "the same command goes on from the last checkpoint"
        )
    return done


def identify(config: Config, *, config_dir: str | None = None) -> str:
    """The id that a run of this config gets; nothing is trained for it.

    Raises:
        RunError: the run that it starts from cannot be found, or waits for itself.
    """
    full = normalise(dict(config))
    resolved, _ = resolve_init(full, chain=(run_id(full),), config_dir=config_dir, train=False)
    return run_id(resolved)


def finished(folder: Path) -> Record | None:
    """The record of a run that finished, or None."""
    if not (folder / record.FILE).is_file():
        return None
    found = record.read(folder)
    return found if found.status == "finished" else None


def resolve_init(
    config: Config,
    *,
    chain: tuple[str, ...] = (),
    config_dir: str | None = None,
    train: bool = True,
) -> tuple[dict[str, Any], Path | None]:
    """Turns `run:` and `experiment:` starts into the run they mean, trained first if need be.

    Args:
        config: normalised.
        chain: runs that wait for this one.
        config_dir: the user's own groups and experiments.
        train: whether a start that is missing is trained now.

    Returns:
        The config whose `backbone.init` names the parent by its full id, and the parent's folder.
    """
    config = dict(config)
    init = config["backbone"]["init"]
    kind, _, name = init.partition(":")
    if kind == "experiment" and name:
        words = name.split()
        parent = compose([f"experiment={words[0]}", *words[1:]], config_dir=config_dir)
        if parent.pop("study", None) and not words[1:]:
            raise runs.RunError(
                f"backbone.init=experiment:{name} names a study of several runs; say which one, "
                f"as in 'backbone.init=\"experiment:{name} freeze_strategy=full seed=0\"'"
            )
        parent["runs_dir"] = config["runs_dir"]
        for key in ("executor", "logger"):
            parent[key] = config[key]
        for key in ("accelerator", "devices", "nodes", "strategy", "workers"):
            parent["trainer"][key] = config["trainer"][key]
        folder = _parent(parent, chain=chain, config_dir=config_dir, train=train)
    elif kind == "run" and name:
        folder = runs.find(name, runs_dir=config["runs_dir"])
        if finished(folder) is None:
            parent = {**runs.read_config(folder), "runs_dir": str(folder.parent)}
            folder = _parent(parent, chain=chain, config_dir=config_dir, train=train)
    else:
        return config, None
    if train and not (folder / runs.WEIGHTS).is_file():
        raise runs.RunError(
            f"backbone.init={init}: {folder.name} has no {runs.WEIGHTS}; "
            "train it again with --force"
        )
    config["backbone"] = {**config["backbone"], "init": f"run:{folder.name}"}
    return config, folder


def _parent(config: Config, *, chain: tuple[str, ...], config_dir: str | None, train: bool) -> Path:
    """The folder of a run that another starts from, trained now unless it has finished.

    Raises:
        RunError: the run waits for itself.
    """
    plain = normalise(dict(config))
    label = run_id(plain)
    if label in chain:
        raise runs.RunError(f"backbone.init goes in a circle: {' → '.join((*chain, label))}")
    resolved, _ = resolve_init(plain, chain=(*chain, label), config_dir=config_dir, train=train)
    folder = Path(config["runs_dir"]).expanduser().absolute() / run_id(resolved)
    if not train:
        return folder
    if finished(folder) is None:
        say(f"starts from {folder.name}, which is trained first:")
        run(config, config_dir=config_dir, chain=chain)
    else:
        say(f"starts from {folder.name}")
    return folder


def prepare(
    folder: Path, config: Config, *, overrides: list[str], parent: Path | None, force: bool
) -> None:
    """Writes what a worker reads and a reader wants to know; empties the folder on `force`."""
    with runs.at_work(folder):
        if force:
            _clear(folder)
        runs.write_config(folder, dict(config))
        runs.write_text(folder / "overrides.txt", "".join(f"{line}\n" for line in overrides))
        lineage = []
        if parent is not None:
            before = provenance_of(parent).get("lineage", [])
            lineage = [*before, parent.name]
        package = Path(__file__).resolve().parent
        earlier = provenance_of(folder)
        first = {key: value for key, value in earlier.items() if key != "attempts"}
        runs.write_json(
            folder / "provenance.json",
            {
                "run": folder.name,
                "attempts": [*earlier.get("attempts", []), first] if first else [],
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "versions": provenance.versions(),
                "hardware": provenance.hardware(),
                "code": provenance.git_state(package),
                "working_folder_code": provenance.git_state(Path.cwd()),
                "seeds": {"seed": config["seed"], "order_seed": config["order_seed"]},
                "inputs": provenance.stat_fingerprint(input_paths(config)),
                "lineage": lineage,
            },
        )


def _clear(folder: Path) -> None:
    import shutil

    for path in folder.iterdir():
        if path.name == ".lock":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def provenance_of(folder: Path) -> dict[str, Any]:
    """What provenance.json of a run says; {} where there is none."""
    import json

    path = folder / "provenance.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def input_paths(config: Config) -> dict[str, str]:
    """The files and folders outside the project that a run reads."""
    found = {}
    dataset, init = config["dataset"], config["backbone"]["init"]
    for key in ("root", "path", "csv"):
        if isinstance(dataset.get(key), str):
            found[f"dataset.{key}"] = dataset[key]
    if init not in {"hub", "none"} and ":" not in init:
        found["backbone.init"] = init
    return found


def changed_inputs(folder: Path, config: Config) -> list[str]:
    """What changed on disk or in the code since a finished run, a line each."""
    before = provenance_of(folder)
    lines = []
    now = provenance.stat_fingerprint(input_paths(config))
    for name, value in before.get("inputs", {}).items():
        if now.get(name) != value:
            lines.append(f"  note: {name} changed on disk since; --force trains on what is there")
    sha = provenance.git_state(Path(__file__).resolve().parent).get("sha")
    if before.get("code", {}).get("sha") != sha:
        lines.append("  note: the code has changed since (provenance.json has its commit)")
    return lines


def say(text: str) -> None:
    """A line for the person, on rank 0 only."""
    if launch.is_first():
        print(text, flush=True)


# -- one run, in this process -----------------------------------------------------------------


def run_here(folder: Path, *, init: str, config: Config | None = None) -> Record:
    """Trains (this rank of) a run.

    Args:
        folder: of the run.
        init: `hub`, `none` or a file of weights.
        config: of the run; None: what is frozen in the folder.

    Raises:
        Interrupted: a signal asked to stop; everything is saved.
    """
    from tlx.train import train

    config = runs.read_config(folder) if config is None else config
    rank, world = launch.join_ranks(config)
    if rank != 0:
        return train(config, folder, init=init, rank=rank, world=world)
    with runs.at_work(folder):
        return _guarded(
            folder, config, lambda: train(config, folder, init=init, rank=rank, world=world)
        )


def _guarded(folder: Path, config: Config, work: Callable[[], Record]) -> Record:
    """Records how a run ended that did not finish, then lets the exception go on."""
    from tlx.training.signals import Interrupted

    blank = Record(
        run=folder.name,
        name=config["name"] or folder.name,
        status="running",
        task=config["task"]["_target_"].rpartition(".")[2],
        seed=config["seed"],
        budget_steps=0,
    )
    record.write(folder, blank)
    try:
        return work()
    except (Interrupted, KeyboardInterrupt) as stop:
        record.write(folder, replace(blank, status="interrupted", error=str(stop)))
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        record.write(folder, replace(blank, status="failed", error=reason))
        raise


def rerun(config: Config, *, into: Path, parents: Path) -> Record:
    """Trains a frozen config anew in another runs folder.

    Args:
        config: resolved, as read from a run's folder.
        into: runs folder of the copy; what lies there of this run is replaced.
        parents: runs folder where the run that this one starts from is looked for.
    """
    config = {**config, "logger": {}}  # the original's W&B run stays as it is
    init = config["backbone"]["init"]
    if init.startswith("run:"):
        parent = runs.find(init.removeprefix("run:"), runs_dir=parents)
        source = str(parent / runs.WEIGHTS)
    else:
        parent, source = None, init
    folder = into.expanduser().absolute() / run_id(config)
    prepare(folder, config, overrides=[], parent=parent, force=True)
    if launch.wants_torchrun(config):
        launch.start(folder, config, init=source)
        return _after_launch(folder)
    return run_here(folder, init=source)
