"""A study that adds seeds itself, one at a time, until its claims are decided or given up."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from tlx.config.design import Cell
from tlx.results import looks
from tlx.results import manifest as manifests
from tlx.results.claims import judge, take
from tlx.results.manifest import Manifest, PlannedRun
from tlx.results.record import Record
from tlx.results.table import chosen, load
from tlx.results.verdict import Verdict
from tlx.sweeps.driver import OVER, Pending

Seeded = tuple[PlannedRun, list[Pending]]
"""A run of an added seed, and the tasks that it takes: what it starts from, and itself."""


@final
class Growing:
    """Feeds a driver with the runs of further seeds.

    Which they are follows from the manifest's looks and the records alone: a driver that was
    killed, or several at once, come to the same runs.
    """

    def __init__(
        self,
        manifest: Manifest,
        cells: Sequence[Cell],
        *,
        folder: Path,
        at_seed: Callable[[Cell, int], Seeded],
        say: Callable[[str], None],
    ) -> None:
        """Nothing is added yet.

        Args:
            manifest: of the study on the seeds that it starts with.
            cells: its runs.
            folder: of the study.
            at_seed: gives a cell's run another seed.
            say: prints a line.
        """
        self.start, self.folder, self.at_seed, self.say = manifest, folder, at_seed, say
        self.cells = {(cell.arm, cell.candidate): cell for cell in cells}
        free = range(manifest.sequential["max_seeds"] - len(manifest.seeds))
        self.order = (*manifest.seeds, *(max(manifest.seeds) + 1 + step for step in free))
        self.seeds_of = dict.fromkeys(manifest.arms, len(manifest.seeds))
        self.added: dict[tuple[str, int], Seeded] = {}
        self.handed: dict[str, Pending] = {}
        self.settled = False

    def hand(self, tasks: Sequence[Pending]) -> None:
        """Takes note of tasks that the driver has been given."""
        self.handed |= {task.run: task for task in tasks}

    def more(self) -> list[Pending]:
        """The runs of the next seeds, once all before are over; none where nothing is open."""
        while not self.settled and all(task.state in OVER for task in self.handed.values()):
            if new := [task for task in self._advance() if task.run not in self.handed]:
                self.hand(new)
                return new
        return []

    def done(self) -> bool:
        """Whether no seed will be added any more."""
        return self.settled

    def manifest(self) -> Manifest:
        """The study with the seeds added so far, and with all that it was looked at with."""
        known = manifests.looks_of(self.folder)
        ordered = [
            n for look in known if set(self.order[: (n := len(look.seeds))]) == {*look.seeds}
        ]
        n = max([*self.seeds_of.values(), *ordered])
        added = sorted(self.added, key=lambda key: self.order.index(key[1]))
        parents = {
            task.run: None
            for _, tasks in self.added.values()
            for task in tasks[:-1]
            if task.run not in self.start.parents
        }
        return replace(
            self.start,
            seeds=self.order[:n],
            runs=(*self.start.runs, *(self.added[key][0] for key in added)),
            parents=(*self.start.parents, *parents),
            looks=known,
        )

    def _advance(self) -> list[Pending]:
        """Judges what is there, and gives each open claim's arms a seed more; their tasks."""
        manifest = self.manifest()
        records = load(self.folder.parent.parent, manifest=manifest).records
        manifest = take(self.folder, manifest, records)
        verdicts = judge(manifest, records)
        choice, tasks = chosen(manifest, records), []
        for arm, n in self._wanted(verdicts, manifest, records).items():
            cell = self.cells[arm, choice[arm]]
            for seed in self.order[self.seeds_of[arm] : n]:
                self.added[arm, seed] = self.at_seed(cell, seed)
                tasks += self.added[arm, seed][1]
            self.seeds_of[arm] = max(n, self.seeds_of[arm])
        manifests.write(self.folder, self.manifest())
        self.settled = not any(verdict.open for verdict in verdicts)
        if self.settled:
            counts = Counter(verdict.status for verdict in verdicts)
            told = ", ".join(f"{n} {status}" for status, n in counts.items())
            self.say(f"no seed is added any more: of {len(verdicts)} claims {told}")
        return tasks

    def _wanted(
        self, verdicts: Sequence[Verdict], manifest: Manifest, records: Mapping[str, Record]
    ) -> dict[str, int]:
        """Arm -> how many seeds open claims want it to have, one more than they have."""
        wanted: dict[str, int] = {}
        for verdict in verdicts:
            if verdict.open:
                both = (verdict.first, verdict.second)
                arms = [arm for arm in both if isinstance(arm, str)]
                n = looks.runs_of(manifest, records, arms=arms).n + 1
                wanted |= {arm: max(n, wanted.get(arm, 0)) for arm in arms}
        return wanted
