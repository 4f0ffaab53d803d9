"""Ending a trial early: rank 0 reports each validation to the search, and asks whether to go on.

The storage of a search is opened here, since a run's worker and the search itself both do it.
"""

import fcntl
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from tlx.base import secrecy

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage
    from optuna.storages.journal import JournalFileBackend

FILE = "search.json"
"""In a run's folder: of which trial of which search the run is a part."""

PRUNED_AT = "pruned_at"
"""A trial's attribute: the validation at which it was told to end."""

KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Of a connection to PostgreSQL: it soon notices a machine that is gone, and frees its locks."""

log = logging.getLogger(__name__)


class TrialFile(TypedDict):
    """What `search.json` says.

    Attributes:
        storage: of the search.
        study: its name in there.
        trial: number of the trial.
        seed_index: of the run; only a trial's first run, 0, is judged on its way.
        metric: `val/` and the name of the figure.
        pruner: arguments of `make_pruner`.
    """

    storage: str
    study: str
    trial: int
    seed_index: int
    metric: str
    pruner: Mapping[str, Any]


class Pruner:
    """Reports the validations of one run to its search."""

    def __init__(self, settings: TrialFile, *, every: int) -> None:
        """Opens the search.

        Args:
            settings: what `search.json` says.
            every: steps between validations.
        """
        import optuna

        self.metric = settings["metric"].partition("/")[2]
        self.every = every
        self.study = optuna.load_study(
            study_name=settings["study"],
            storage=open_storage(settings["storage"]),
            sampler=optuna.samplers.RandomSampler(),
            pruner=make_pruner(**settings["pruner"]),
        )
        self.number = settings["trial"]

    def __call__(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether the run should end here.

        Validations are numbered 1, 2, 3, …, whatever the steps between them. One that is reported
        again, after a restart, changes nothing, and a run that was told to end stays told.

        Args:
            step: optimizer steps done.
            metrics: of the validation there.
        """
        import optuna

        value = metrics[self.metric]
        if not math.isfinite(value):
            return False
        point = math.ceil(step / self.every)
        try:
            return self._judged(point, value)
        except (OSError, optuna.exceptions.StorageInternalError) as error:
            # to end trials early is a saving; that their scheduler is away ends no run
            log.warning("validation %d was not judged: %s", point, error)
            return False
        except optuna.exceptions.UpdateFinishedTrialError:
            return False  # told meanwhile, by another worker

    def _judged(self, point: int, value: float) -> bool:
        trial = self.study.get_trials(deepcopy=False)[self.number]
        if trial.state.is_finished():
            return False
        if PRUNED_AT in trial.user_attrs:
            return True
        storage, key = self.study._storage, trial._trial_id
        if point not in trial.intermediate_values:
            storage.set_trial_intermediate_value(key, point, value)
        if not self.study.pruner.prune(self.study, self.study.get_trials()[self.number]):
            return False
        storage.set_trial_user_attr(key, PRUNED_AT, point)
        return True


def hook(folder: Path, *, every: int) -> Pruner | None:
    """The pruner of a run, where its folder says that it is a trial's first and may be ended.

    Args:
        folder: of the run.
        every: steps between validations.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    settings: TrialFile = json.loads(path.read_text(encoding="utf-8"))
    if settings["seed_index"] != 0 or settings["pruner"]["name"] == "none":
        return None
    return Pruner(settings, every=every)


def make_pruner(
    name: str,
    *,
    startup_trials: int = 5,
    warmup: int = 0,
    min_resource: int = 1,
    max_resource: int | None = None,
    reduction_factor: int = 3,
) -> "BasePruner":
    """A pruner whose resource is the number of a run's validations.

    Args:
        name: none, median, successive_halving or hyperband.
        startup_trials: of median: trials that must have finished before it prunes.
        warmup: of median: validations at which it never prunes.
        min_resource: validations that every trial gets.
        max_resource: of hyperband: validations of a whole run; None: as the first run had.
        reduction_factor: one of so many goes on at each rung.

    Source: Li et al. 2018 (Hyperband); Li et al. 2020 (ASHA), whose promotions are asynchronous.
    """
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup + 1)
    if name == "successive_halving":
        return pruners.SuccessiveHalvingPruner(
            min_resource=min_resource, reduction_factor=reduction_factor
        )
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=min_resource,
            max_resource=max_resource or "auto",
            reduction_factor=reduction_factor,
        )
    if name == "none":
        return pruners.NopPruner()
    raise ValueError(f"pruner={name!r}; it is none, median, successive_halving or hyperband")


def open_storage(storage: str) -> "BaseStorage":
    """The storage of a search, as Optuna has it.

    Args:
        storage: a SQL URL, else the path of a journal, made if missing. A masked password is that
            of the driver's, handed on by the environment, else what the database's client knows.
    """
    from optuna import storages

    storage = secrecy.opened(storage, os.environ.get(secrecy.STORAGE_PASSWORD))
    if "://" not in storage:
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        return storages.JournalStorage(_journal(path))
    arguments = {"timeout": 60} if storage.startswith("sqlite") else KEEPALIVES
    engine = {"connect_args": arguments, "pool_pre_ping": True}
    return storages.RDBStorage(storage, engine_kwargs=engine)


def disconnect(storage: "BaseStorage") -> None:
    """Closes what connections a storage has; it opens them again when it is asked."""
    from optuna.storages import RDBStorage

    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _journal(path: Path) -> "JournalFileBackend":
    from optuna.storages.journal import JournalFileBackend

    class Journal(JournalFileBackend):
        """Optuna's journal under a lock that the kernel gives back when its holder is killed.

        Optuna's own lock file outlives a killed process by 30 s, and two that wait for it may then
        both take it. A line that was cut off by a kill is taken away before the next is written,
        for Optuna cannot read past it.
        """

        def append_logs(self, logs: list[dict[str, object]]) -> None:
            """Appends whole lines, durably."""
            lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
            with open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    _cut_torn_line(file.fileno())
                    file.seek(0, os.SEEK_END)
                    file.write(lines.encode())
                    file.flush()
                    os.fsync(file.fileno())
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)

    return Journal(str(path))


def _cut_torn_line(descriptor: int) -> None:
    """Shortens a file to the end of its last whole line."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    whole = end
    while whole > 0:
        start = max(0, whole - 4096)
        found = os.pread(descriptor, whole - start, start).rfind(b"\n")
        if found >= 0:
            whole = start + found + 1
            break
        whole = start
    if whole < end:
        os.ftruncate(descriptor, whole)
