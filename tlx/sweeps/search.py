"""Hyperparameter search on Optuna by ask and tell, for any number of workers.

A worker (a driver of runs) takes trials by `Search.next`, trains a trial's runs, one per seed, and
gives the mean of their figures to `Search.tell`. Only finished trials, complete or pruned, count
for the budget, and exactly the budget of them there is at the end, whoever was killed meanwhile:

- a claim (counting, then taking a trial) happens under a lock that all workers share;
- a trial appears in the storage whole, with its parameters, in one step;
- a worker shows that it lives; the trials of one that does not are taken over as they are, with
  their numbers and parameters, so that their runs go on from their checkpoints.

What trial n is drawn from follows from the search's seed, n, and the trials before it, so that one
worker's search is repeatable, restarts or not. Several workers finish trials in another order each
time, hence draw others.

`optuna-dashboard runs/studies/NAME/optuna.journal` (or the SQL URL) shows a search as it goes.
"""

import copy
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from tlx.base import secrecy
from tlx.config.schema import SearchConfig
from tlx.execution import leases
from tlx.sweeps import search_claims, search_samplers, spaces
from tlx.sweeps.search_runs import SearchError, Trial, damage_told, planned, value_of
from tlx.training.engine import pruning

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["JOURNAL", "Search", "SearchError", "Trial", "opened", "planned", "value_of"]

JOURNAL = "optuna.journal"
OWNER, REASON, ABOUT = "worker", "reason", "search"
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


@final
class Search:
    """One worker's view of a search."""

    def __init__(
        self,
        *,
        name: str,
        storage: str,
        space: Mapping[str, object],
        objectives: Sequence[tuple[str, str]],
        budget: int,
        sampler: str = "tpe",
        sampler_options: Mapping[str, Any] | None = None,
        pruner: str = "none",
        pruner_options: Mapping[str, Any] | None = None,
        seed: int = 0,
        max_failed: int | None = None,
        base: str = "",
        beat_s: float = 10.0,
        stale_s: float = 60.0,
    ) -> None:
        """Opens a search, or begins it.

        Args:
            name: of the study.
            storage: path of a journal, `postgresql+psycopg://…` or `sqlite:///…`.
            space: key to entry, see `tlx.sweeps.spaces`.
            objectives: figures and their directions, `[("val/accuracy", "max")]`.
            budget: finished trials to reach.
            sampler: see `search_samplers.make_sampler`.
            sampler_options: `startup_trials`, `popsize`.
            pruner: see `pruning.make_pruner`.
            pruner_options: its arguments.
            seed: of the sampler.
            max_failed: so many failed trials end the search; None: as many as the budget.
            base: what the trials share besides, hashed, and marks of the changes of meaning that
                concern some of them; another one is refused.
            beat_s: seconds between this worker's signs of life.
            stale_s: a worker on another machine that is silent for so long is gone.

        Raises:
            CheckError: the space is wrong.
            SearchError: a search of this name tries something else.
        """
        self.name = name
        self.storage = str(Path(storage).absolute())
        if "://" in storage:
            self.storage = secrecy.opened(storage, os.environ.get(secrecy.STORAGE_PASSWORD))
        self.entries = spaces.entries(space)
        self.distributions = spaces.distributions(self.entries)
        self.objectives = tuple((figure, mode) for figure, mode in objectives)
        self.budget = budget
        self.sampler, self.sampler_options = sampler, dict(sampler_options or {})
        self.pruner = {"name": pruner, **(pruner_options or {})}
        self.seed = seed
        self.max_failed = budget if max_failed is None else max_failed
        self.cells = search_samplers.cells(self.entries) if sampler == "grid" else None
        if password := secrecy.password_of(self.storage):
            os.environ[secrecy.STORAGE_PASSWORD] = password  # for runs, whose files have a mask
        self.place = search_claims.meeting_place(self.storage, name)
        with self.place.lock(opening=True), damage_told(storage):
            self.opened = pruning.open_storage(self.storage)
            self.study = self._open(base)
        self.me = leases.myself()
        self.watch = search_claims.Watch(self.place, stale_s=stale_s)
        self.heart = search_claims.Heart(self.place, self.me, every_s=beat_s)

    def _open(self, base: str) -> "Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.name,
            storage=self.opened,
            sampler=optuna.samplers.RandomSampler(seed=0),  # trials are drawn in `_ask`
            directions=[DIRECTIONS[mode] for _, mode in self.objectives],
            load_if_exists=True,
        )
        space = {key: asdict(entry) for key, entry in self.entries.items()}
        about = {"objectives": self.objectives, "space": space, "base": base}
        about = json.loads(json.dumps(about))
        before = study.user_attrs.get(ABOUT)
        if before is None:
            study.set_user_attr(ABOUT, about)
            with search_samplers.quiet():
                study.set_metric_names([figure for figure, _ in self.objectives])
        elif before != about:
            other = ", ".join(key for key in about if about[key] != before.get(key))
            marks = base.removeprefix(str(before.get("base")))
            if other == "base" and marks.startswith(" "):
                other = f"meaning of its configs (what has changed since:{marks})"
            raise SearchError(
                f"the search {self.name!r} in {self.storage} has another {other}, and its trials "
                "would not compare; give this search another name, group=NAME, or delete the old "
                "one, `tlx clean NAME --runs`"
            )
        return study

    # -- trials -------------------------------------------------------------------------------

    def next(self) -> Trial | None:
        """A trial to work on, first one whose worker is gone.

        None when the search is over, or when all that is left of it is being worked on.
        """
        if self._room(self._trials()) <= 0:
            return None
        with self.place.lock():
            trials = self._trials()
            orphans = self._orphans(trials)
            if self._room(trials, orphans) <= 0:
                return None
            return self._adopt(orphans[0]) if orphans else self._ask()

    def tell(
        self,
        trial: Trial,
        values: float | Sequence[float] | None = None,
        *,
        state: str = "finished",
        reason: str | None = None,
    ) -> str:
        """Ends a trial, once: what is told of one that has ended already changes nothing.

        Args:
            trial: from `next`.
            values: of the objectives, in their order, where it finished; a value that is not
                finite makes it a failed one.
            state: finished, failed or pruned.
            reason: why it failed.

        Returns:
            What it ended as.
        """
        from optuna.trial import TrialState

        found = [values] if isinstance(values, int | float) else [*(values or ())]
        if state == "finished" and len(found) != len(self.objectives):
            names = ", ".join(figure for figure, _ in self.objectives)
            raise ValueError(f"values={values!r} of trial {trial.number}; give one each of {names}")
        if state == "finished" and not all(math.isfinite(value) for value in found):
            state, reason = "failed", reason or f"its figures are {found}"
        with self.place.lock():
            trials = self._trials()
            now = trials[trial.number]
            if now.state.is_finished():
                return _state(now)
            if state != "failed" and self._finished(trials) >= self.budget:
                state, reason = "failed", "the budget was reached without it"
            if state == "failed" and reason:
                self.study._storage.set_trial_user_attr(now._trial_id, REASON, reason)
            if state == "finished":
                self.study.tell(trial.number, found)
            elif state == "pruned":
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
        return state

    def hook(self, trial: Trial, *, seed_index: int) -> dict[str, object]:
        """What `search.json` in the folder of one of a trial's runs says, for its pruner.

        Args:
            trial: from `next`.
            seed_index: of the run; only a trial's first run, 0, is judged on its way.
        """
        return {
            "storage": self.storage,
            "study": self.name,
            "trial": trial.number,
            "seed_index": seed_index,
            "metric": self.objectives[0][0],
            "pruner": self.pruner,
        }

    # -- the whole ----------------------------------------------------------------------------

    def finished(self) -> int:
        """Number of finished trials, complete or pruned."""
        return self._finished(self._trials())

    def failed(self) -> int:
        """Number of failed trials."""
        return sum(_state(trial) == "failed" for trial in self._trials())

    def done(self) -> bool:
        """Whether no trial is to be begun or awaited any more."""
        trials = self._trials()
        if self._finished(trials) >= self.budget:
            return True
        orphans = self._orphans(trials)
        awaited = sum(_state(trial) == "running" for trial in trials) - len(orphans)
        return awaited == 0 and self._room(trials, orphans) <= 0

    def best(self) -> list[Trial]:
        """The best trial, or with several objectives all that no other beats in each of them."""
        if len(self.objectives) > 1:
            found = [t for t in self.study.best_trials if _state(t) == "finished"]
        else:
            sign = 1 if self.objectives[0][1] == "max" else -1
            complete = [t for t in self._trials() if _state(t) == "finished"]
            found = sorted(complete, key=lambda t: -sign * (t.value or 0.0))[:1]
        return [self._ours(trial, resumed=False) for trial in found]

    def trials(self) -> list[Trial]:
        """All trials that this search has drawn, in order."""
        return [self._ours(t, resumed=False) for t in self._trials() if _state(t) != "other"]

    def close(self) -> None:
        """Leaves; what this worker has not told is taken over by others at once."""
        self.heart.stop()
        pruning.disconnect(self.opened)

    # -- parts --------------------------------------------------------------------------------

    def _trials(self) -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)

    def _finished(self, trials: "Sequence[FrozenTrial]") -> int:
        return sum(_state(trial) in {"finished", "pruned"} for trial in trials)

    def _orphans(self, trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
        """Running trials of workers that are gone, oldest first."""
        owners: dict[str, bool] = {self.me.nonce: False}
        found = []
        for trial in trials:
            if _state(trial) == "running":
                owner = leases.Holder(**trial.user_attrs[OWNER])
                if owner.nonce not in owners:
                    owners[owner.nonce] = self.watch.gone(owner)
                if owners[owner.nonce]:
                    found.append(trial)
        return found

    def _room(
        self, trials: "Sequence[FrozenTrial]", orphans: "Sequence[FrozenTrial] | None" = None
    ) -> int:
        """How many trials may be begun or taken over now."""
        if orphans is None:
            orphans = self._orphans(trials)
        states = [_state(trial) for trial in trials]
        if states.count("failed") >= self.max_failed:
            return 0
        running = states.count("running") - len(orphans)
        room = self.budget - self._finished(trials) - running
        if self.cells is not None:
            room = min(room, self.cells - len(trials) + len(orphans))
        return room

    def _adopt(self, orphan: "FrozenTrial") -> Trial:
        self.study._storage.set_trial_user_attr(orphan._trial_id, OWNER, asdict(self.me))
        return self._ours(orphan, resumed=True)

    def _ask(self) -> Trial:
        """Draws a trial in a copy of the study, and adds it whole; under the lock.

        Optuna's own `ask` writes the trial first and each parameter after it: a worker that is
        killed in between leaves a trial of which half is known.
        """
        import optuna
        from optuna.trial import TrialState

        trials = self._trials()
        sampler = search_samplers.make_sampler(
            self.sampler,
            space=self.entries,
            seed=self.seed,
            number=len(trials),
            **self.sampler_options,
        )
        shadow = optuna.create_study(
            study_name=self.name,  # hyperband's brackets follow from it
            storage=optuna.storages.InMemoryStorage(),
            sampler=sampler,
            pruner=pruning.make_pruner(**self.pruner),
            directions=self.study.directions,
        )
        taken = optuna.create_trial(state=TrialState.FAIL)  # in place of one that somebody queued
        for trial in trials:
            shadow.add_trial(taken if trial.state == TrialState.WAITING else _bare(trial))
        with search_samplers.quiet():
            number = shadow.ask(self.distributions).number
        drawn = shadow.get_trials(deepcopy=False)[number]
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs={OWNER: asdict(self.me)},
                system_attrs=drawn.system_attrs,
            )
        )
        return self._ours(drawn, resumed=False)

    def _ours(self, trial: "FrozenTrial", *, resumed: bool) -> Trial:
        params = {key: trial.params[key] for key in self.distributions}
        return Trial(trial.number, params, resumed)


def _bare(trial: "FrozenTrial") -> "FrozenTrial":
    """A trial less the attributes that no sampler reads: they are most of a copy's cost."""
    bare = copy.copy(trial)
    bare.user_attrs = {}
    return bare


def _state(trial: "FrozenTrial") -> str:
    """A trial's state in our words; one that somebody else added is `other`, and counts nowhere."""
    if OWNER not in trial.user_attrs:
        return "other"
    words = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    return words.get(trial.state.name, "other")


def opened(
    node: SearchConfig, *, name: str, folder: Path, monitor: tuple[str, str], base: str
) -> Search:
    """The search that a config's `search` node describes.

    Args:
        node: checked.
        name: of the study.
        folder: of the study, where the journal lies unless a storage is given.
        monitor: objective where none is given, `("val/accuracy", "max")`.
        base: hash of what all trials share, and marks of changes of meaning.

    Raises:
        CheckError: the space is wrong.
        SearchError: a search of this name tries something else.
    """
    pruning: dict[str, int | None] = {}
    if node.pruner != "none":
        pruning = {
            "min_resource": node.min_resource,
            "max_resource": node.max_resource,
            "reduction_factor": node.reduction_factor,
            "startup_trials": node.pruner_startup_trials,
            "warmup": node.pruner_warmup,
        }
    return Search(
        name=name,
        storage=node.storage or str(folder / JOURNAL),
        space=node.space or {},
        objectives=list((node.objectives or dict([monitor])).items()),
        budget=node.trials,
        sampler=node.sampler,
        sampler_options={"startup_trials": node.startup_trials, "popsize": node.popsize},
        pruner=node.pruner,
        pruner_options=pruning,
        seed=node.seed,
        max_failed=node.max_failed,
        base=base,
    )
