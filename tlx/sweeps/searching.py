"""A study that searches: trials drawn one by one, each trained as runs of the study's driver."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from tlx.config import changes, vocabularies
from tlx.config.check import CheckError
from tlx.config.compose import Composer
from tlx.config.design import SEARCH
from tlx.config.identity import essence, normalise
from tlx.config.limits import metrics_of
from tlx.config.problems import Problem
from tlx.config.run import typed
from tlx.config.schema import SearchConfig
from tlx.execution.lineage import Located, Locator, known
from tlx.results.manifest import PlannedRun
from tlx.results.reading import status_of
from tlx.results.record import Record
from tlx.sweeps import fuse, search, search_rules, spaces
from tlx.sweeps.driver import Pending, first_line
from tlx.sweeps.search import Search, Trial


@dataclass(frozen=True)
class Space:
    """What is searched, checked, and how a trial becomes runs.

    Attributes:
        study: its name.
        line: overrides that all trials share.
        node: of the config.
        seeds: of a trial's runs.
        config: what all trials share, composed.
        changes: marks of the changes of meaning that concern some trials.
        metric: the study's primary figure.
        composer: of the runs.
        locator: of the runs.
    """

    study: str
    line: tuple[str, ...]
    node: SearchConfig
    seeds: tuple[int, ...]
    config: Mapping[str, Any]
    metric: str
    composer: Composer
    locator: Locator
    changes: tuple[str, ...] = ()

    @property
    def monitor(self) -> tuple[str, str]:
        """The objective where none is given: what selection looks at."""
        metrics = metrics_of(self.config)
        figure = self.config["monitor"] or f"val/{next(iter(metrics))}"
        return figure, metrics.get(figure.partition("/")[2], "max")

    def open(self, folder: Path) -> Search:
        """Opens the search in a study's folder, or begins it."""
        base = essence({**self.config, "seed": 0})
        base.pop("changes", None)  # those of the trials count, whose config may be another
        shared = json.dumps(base, sort_keys=True, default=str)
        return search.opened(
            self.node,
            name=self.study,
            folder=folder,
            monitor=self.monitor,
            base=" ".join([hashlib.sha256(shared.encode()).hexdigest()[:16], *self.changes]),
        )

    def runs_of(self, trial: Trial) -> list[tuple[PlannedRun, Located]]:
        """The runs of a trial, one a seed.

        Raises:
            CheckError: the trial's values do not compose.
        """
        found = []
        lines = search.planned(trial, base=self.line, seeds=self.seeds)
        for seed, line in zip(self.seeds, lines, strict=True):
            config = self.composer.compose(line)
            config.pop("search", None)
            tags = [f"trial={trial.number}"]
            labels = {"group": self.study, "arm": SEARCH, "tags": tags}
            place = self.locator.locate(typed({**config, **labels}))
            run = PlannedRun(
                run=place.folder.name,
                arm=SEARCH,
                seed=seed,
                candidate=" ".join(trial.overrides),
                overrides=tuple(line),
                factors=dict(trial.params),
                trial=trial.number,
            )
            found.append((run, place))
        return found


def space(
    config: Mapping[str, Any],
    *,
    line: Sequence[str],
    study: str,
    seeds: Sequence[int],
    metric: str,
    composer: Composer,
    locator: Locator,
) -> Space:
    """What a study's `search` node describes, checked; one value of each key is composed.

    Raises:
        CheckError: the node is missing or wrong.
    """
    given = config.get("search")
    if not isinstance(given, Mapping):
        problem = Problem("search", "is missing: choose how to search, search=tpe", "search=tpe")
        raise CheckError([problem])
    if wrong := search_rules.problems(given, metrics=metrics_of(config)):
        raise CheckError(wrong)
    node = SearchConfig(**given)
    own = tuple(seeds[: node.seeds_per_trial])
    if len(own) < node.seeds_per_trial:
        raise CheckError(
            [Problem("search.seeds_per_trial", f"is more than study.seeds has: {list(seeds)}")]
        )
    examples = list(spaces.examples(node.space or {}))
    marks: set[str] = set()
    for overrides in examples:
        marks.update(changes.marks(normalise(composer.compose([*line, *overrides]))))
    bears = tuple(sorted(marks))
    made = Space(study, tuple(line), node, own, config, metric, composer, locator, bears)
    varied = vocabularies.keys_of([text for overrides in examples for text in overrides])
    told = [
        vocabularies.problem("search.objectives", figure, varied=varied, config=config)
        for figure in node.objectives or [made.monitor[0]]
    ]
    if unfit := [problem for problem in told if problem is not None]:
        raise CheckError(unfit)
    return made


@dataclass
class Open:
    """A trial at work: its runs that are not at their ends, and those that wait for the first."""

    trial: Trial
    runs: list[str]
    left: set[str]
    waiting: list[Pending] = field(default_factory=list)


@final
class Trials:
    """Feeds a driver with the runs of trials, and tells the search how they ended."""

    def __init__(self, what: Space, found: Search) -> None:
        """Nothing is drawn yet."""
        self.space, self.search = what, found
        self.open: dict[int, Open] = {}
        self.ready: list[Pending] = []
        self.folders: dict[str, Path] = {}
        self.made: dict[int, list[tuple[PlannedRun, Located]]] = {}

    def more(self) -> list[Pending]:
        """The next runs: of trials whose first run came through, else of new trials.

        Of several trials at once where they may be trained as one, and where drawing them does not
        wait for the results of those before.
        """
        if self.ready:
            ready, self.ready = self.ready, []
            return ready
        tasks: list[Pending] = []
        while trial := self.search.next():
            begun = self._begin(trial)
            tasks += begun
            alone = begun and (begun[-1].stack is None or not self._is_free(trial.number + 1))
            if alone or len(tasks) >= fuse.MOST:
                break
        return tasks

    def _is_free(self, number: int) -> bool:
        """Whether what a trial is drawn from is known before those before it have ended."""
        node = self.space.node
        if node.sampler in {"random", "qmc", "grid"}:
            return True
        return node.sampler in {"tpe", "gp"} and number < node.startup_trials

    def _begin(self, trial: Trial) -> list[Pending]:
        """The first runs of a trial; none where its values do not compose, which is told."""
        try:
            planned = self.runs_of(trial)
        except CheckError as error:
            self.search.tell(trial, state="failed", reason=first_line(str(error)))
            return []
        tasks = []
        for number, (run, place) in enumerate(planned):
            self.folders[run.run] = place.folder
            hook = self.search.hook(trial, seed_index=number)
            title = f"trial {trial.number} seed {run.seed}"
            metric = self.search.objectives[0][0]
            tasks.append(Pending(place, title, run.overrides, metric=metric, search=hook))
        ids = [task.run for task in tasks]
        begun = tasks[:1] if self.space.node.pruner != "none" else tasks
        self.open[trial.number] = Open(trial, ids, set(ids), tasks[len(begun) :])
        return begun

    def runs_of(self, trial: Trial) -> list[tuple[PlannedRun, Located]]:
        """The runs of a trial, composed once."""
        if trial.number not in self.made:
            self.made[trial.number] = self.space.runs_of(trial)
        return self.made[trial.number]

    def over(self, task: Pending) -> None:
        """Takes note of a run's end; a trial whose last run it was is told to the search."""
        for entry in [entry for entry in self.open.values() if task.run in entry.left]:
            entry.left.discard(task.run)
            if task.state == "finished" and entry.left:
                self.ready += entry.waiting
                entry.waiting = []
                continue
            del self.open[entry.trial.number]
            self._tell(entry, task)

    def _tell(self, entry: Open, last: Pending) -> None:
        if last.state == "pruned":
            self.search.tell(entry.trial, state="pruned")
            return
        if last.state != "finished":
            reason = f"{last.title}: {first_line(last.reason)}"
            self.search.tell(entry.trial, state="failed", reason=reason)
            return
        records = [known(self.folders[run]) for run in entry.runs]
        whole: list[Record] = [record for record in records if record is not None]
        values = search.value_of(whole, self.search.objectives)
        values = values if len(whole) == len(records) else tuple(math.nan for _ in values)
        self.search.tell(entry.trial, values)

    def planned(self) -> list[PlannedRun]:
        """The runs of all trials there are, whichever worker began them."""
        found = []
        for trial in self.search.trials():
            try:
                runs = self.runs_of(trial)
            except CheckError:
                continue  # it has failed for that
            # the later runs of a trial that was given up are never begun
            found += [
                run
                for run, place in runs
                if trial.number in self.open or status_of(place.folder) is not None
            ]
        return found
