"""A finished run evaluated on its own data, or on other."""

import logging
import os
from pathlib import Path

from omegaconf import OmegaConf

from tlx.base.nodes import node_at
from tlx.building.calls import ready, splits
from tlx.config.check import CheckError, check
from tlx.config.compose import compose
from tlx.config.data_paths import TWO_CLASSES, origin
from tlx.config.identity import normalise
from tlx.config.run import Option, Run
from tlx.data.divide import whole
from tlx.data.relabel import relabelled
from tlx.data.splits import Splits
from tlx.execution import runs
from tlx.execution.finished import load
from tlx.tasks.task import Report
from tlx.training.collect import Collector
from tlx.training.loaders import RankShare
from tlx.training.outputs import outputs
from tlx.training.session import encoded_loader

LOG = logging.getLogger(__name__)


LIMITS = ("labels_per_class", "fraction", "protocol")
"""Keys of a dataset that leave a part of its training data, and of validation with it."""


REDIVIDED = ("val_fraction", "test_fraction", "split_seed", "folds", "fold")


DIVISION = (*LIMITS, *REDIVIDED)
"""Keys of a dataset that say how it is to be divided."""


def evaluate(
    folder: Path, *, overrides: list[str], config_dir: str | None = None
) -> dict[str, Report]:
    """Reports of a finished run on every evaluation split of its own or other data.

    Args:
        folder: of the run.
        overrides: `dataset=NAME` and its keys; only keys: the run's own data with these changed;
            none: the run's own data.
        config_dir: the user's own groups.

    Raises:
        CheckError: the overrides are wrong.
        RunError: the data has other labels than the run, or nothing to evaluate on.
    """
    run, made = load(folder)
    data = _data(folder, run, overrides, config_dir=config_dir)
    _check_pairs(data, run.dataset)
    spec = made.backbone.reads
    try:
        data = relabelled(ready(data, spec), made.task.labels)
    except ValueError as error:
        raise runs.RunError(f"{folder.name}: {error}") from None
    reports = {}
    splits = {"val": data.val, "test": data.test, **data.extra}
    if not any(len(split) for split in splits.values()):
        raise runs.RunError(f"the data is too small to divide: {', '.join(splits)} hold nothing")
    for name, split in splits.items():
        if not len(split):
            continue
        loader = encoded_loader(run.trainer, data, made, split, RankShare())
        reports[name] = made.task.report(outputs(made.network, loader, Collector(made.task)))
    return reports


def _data(folder: Path, run: Run, overrides: list[str], *, config_dir: str | None) -> Splits:
    """The run's own data, divided as it was for training, or other data, all of it.

    Other data was not trained on, so nothing of it is set aside, unless the overrides say how to
    divide it.
    """
    if not overrides:
        return splits(run.dataset)
    keys = [text.lstrip("+").partition("=")[0] for text in overrides]
    changed = _on_other_data(run, overrides, config_dir=config_dir)
    if _same(changed, run.dataset):
        if redivided := [key for key in REDIVIDED if f"dataset.{key}" in keys]:
            LOG.warning(
                "dataset.%s divides the data anew: what is judged may have been trained on",
                redivided[0],
            )
        return splits(changed)
    if _is_own(folder, run, changed):
        LOG.warning("this is the data that %s was trained on, divided as it was", folder.name)
        changed = _limited(changed, own=run.dataset, keys=keys, same=True)
        return splits(changed)
    if _overlaps(changed, run.dataset):
        LOG.warning(
            "this is a part of the data of %s, or holds it: what is judged may have been "
            "trained on",
            folder.name,
        )
    if any(f"dataset.{key}" in keys for key in DIVISION):
        data = splits(changed)
    else:
        with whole():
            data = splits(changed)
    rest = f"; the {len(data.train)} items of its train are not" if len(data.train) else ""
    judged = {"val": data.val, "test": data.test, **data.extra}
    counts = ", ".join(f"{name} ({len(split)})" for name, split in judged.items() if len(split))
    LOG.warning("of the other data are judged: %s%s", counts, rest)
    return data


def _same(dataset: Option, own: Option) -> bool:
    """Whether training data is taken from the same place."""
    alike = (_place(dataset.get(key)) == _place(own.get(key)) for key in origin(own.target))
    return dataset.target == own.target and all(alike)


def _overlaps(dataset: Option, own: Option) -> bool:
    """Whether one of two data sets lies within the other's folder, or is the same file."""
    here, there = (
        [place for key in ("root", "path") if isinstance(place := _place(data.get(key)), Path)]
        for data in (dataset, own)
    )
    return any(a.is_relative_to(b) or b.is_relative_to(a) for a in here for b in there)


def _is_own(folder: Path, run: Run, dataset: Option) -> bool:
    """Whether data at another place is a copy of what the run was trained on.

    Then most of it must not be judged. Divided as for the run, it has the fingerprint of its data.
    """
    own = run.dataset
    if dataset.target != own.target:
        return False
    moved = {key: dataset.get(key) for key in origin(own.target) if key in dataset.arguments}
    there = Option(own.target, {**own.arguments, **moved})
    logger = logging.getLogger("tlx.data")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what a mere trial has to say is of no concern
    try:
        fingerprint = splits(there).fingerprint
    except (ValueError, OSError):
        return False
    finally:
        logger.setLevel(level)
    said = runs.read_json(folder / "provenance.json").get("data_fingerprint")
    return bool(fingerprint == said)


def _check_pairs(data: Splits, own: Option) -> None:
    """Raises a RunError where the run reads pairs of texts and the data none, or the reverse."""
    reads = "single texts" if own.get("pair_column") is None else "pairs"
    for split in (data.train, data.val, data.test, *data.extra.values()):
        for text in getattr(split, "inputs", ())[:1]:
            has = "pairs" if isinstance(text, tuple) else "single texts"
            if has != reads:
                raise runs.RunError(
                    f"the data has {has}, and the run was trained on {reads}; set "
                    "dataset.pair_column"
                )


def _on_other_data(run: Run, overrides: list[str], *, config_dir: str | None) -> Option:
    """Other data than the run's; where its own weights came from is of no concern.

    Raises:
        CheckError: the data is wrong.
        RunError: something else than data is to be changed.
    """
    keys = [text.lstrip("+").partition("=")[0] for text in overrides]
    for key in keys:
        if key != "dataset" and not key.startswith("dataset."):
            raise runs.RunError(
                f"{key}: only the data can be changed, by dataset=NAME and dataset.KEY=VALUE; "
                "everything else is the run's own"
            )
    if "dataset" in keys:
        given = [f"seed={run.seed}", *overrides]
        # unchecked: it is the run's network that has to read the data
        dataset = compose(given, config_dir=config_dir, check=False)["dataset"]
    else:
        changes = OmegaConf.from_dotlist([text.lstrip("+") for text in overrides])
        dataset = {**run.plain["dataset"], **OmegaConf.to_container(changes)["dataset"]}  # type: ignore[index,call-overload,dict-item]
    trunk = {**run.plain["backbone"], "init": "none"}
    made = normalise({**run.plain, "dataset": dataset, "backbone": trunk})
    limited = _limited(Option.of(node_at(made, "dataset")), own=run.dataset, keys=keys)
    made["dataset"] = {"_target_": limited.target, **limited.arguments}
    if problems := [each for each in check(made) if TWO_CLASSES not in str(each)]:
        raise CheckError(problems)
    return limited


def _limited(dataset: Option, *, own: Option, keys: list[str], same: bool | None = None) -> Option:
    """The data, limited as the run's where that is its training data, and whole where it is other.

    Limits hold for what is trained on, which other data is not: drawing from it could only fail.
    The run's own stays as it was, since a whole `val` would hold what the run was trained on.

    Args:
        dataset: normalised.
        own: of the run.
        keys: that the person gave; limits among them hold as they are.
        same: whether it is the run's; None: where it is at the same place.
    """
    given = {key for key in LIMITS if f"dataset.{key}" in keys}
    same = _same(dataset, own) if same is None else same
    if same and given:
        return dataset
    free = {key for key in LIMITS if key in dataset.arguments} - given
    limits = {key: own.get(key) if same else None for key in free}
    return Option(dataset.target, {**dataset.arguments, **limits})


def _place(value: object) -> object:
    return Path(os.path.realpath(os.path.expanduser(value))) if isinstance(value, str) else value
