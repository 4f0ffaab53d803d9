"""A finished run predicts what it is given."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from tlx.base import cores
from tlx.base.cells import rows
from tlx.data.inputs import Spec
from tlx.data.splits import Inputs, Sample, Split, Unreadable, inputs_of, raw_of
from tlx.data.targets import Targets
from tlx.execution.finished import load
from tlx.tasks.task import OF_TRUTH, Collected, Task
from tlx.training.collect import Collector
from tlx.training.loaders import Collate
from tlx.training.outputs import outputs


class Predictor:
    """A finished run that predicts files."""

    def __init__(self, folder: Path) -> None:
        """Loads the run's network."""
        cores.limit_torch()
        self.folder = folder
        self.run, self.model = load(folder)

    def predict(
        self, inputs: Iterable[str | Path], *, batch_size: int = 64
    ) -> list[dict[str, object]]:
        """One row an item: its path (and line), and what the task says of it.

        Args:
            inputs: files, or folders whose visible files are taken in order of their names, read
                as the run's training data was; what else, the run's `Inputs` say (`read`).
            batch_size: items that go through the network at once.

        Raises:
            ValueError: files that cannot be read, all of them listed; no files at all; a network
                that predicts nothing of an item.
        """
        reads, task = self.model.backbone.reads, self.model.task
        makes = inputs_of(reads)
        split = makes.read(reads, inputs, dataset=self.run.plain["dataset"], folder=self.folder)
        shown: list[Mapping[str, str]] = []
        batches = _batches(split, makes, reads, task.targets, batch_size, shown)
        collected = outputs(self.model.network, batches, Collector(task))
        return [
            {"path": place, **columns, **row}
            for place, columns, row in zip(
                split.ids, shown, _of_new_items(task, collected), strict=True
            )
        ]


def _of_new_items(task: Task, collected: Collected) -> list[dict[str, object]]:
    """What the task says of items without labels, item by item."""
    columns = task.columns(collected).items()
    return rows({key: column for key, column in columns if key not in OF_TRUTH})


def _batches(
    split: Split,
    makes: Inputs[Spec],
    reads: Spec,
    targets: Targets,
    batch_size: int,
    shown: list[Mapping[str, str]],
) -> Iterator[dict[str, object]]:
    """Encoded batches, a few items in memory at a time; what cannot be read is told at the end.

    Args:
        split: fitted, without targets.
        makes: the inputs of a batch.
        reads: what the network takes.
        targets: give one to what has none.
        batch_size: items of a batch.
        shown: takes each item's columns (it is changed).
    """
    raw, bad = raw_of(split), []
    encode = makes.encoder(reads, (), train=False)
    in_batch = Collate(partial(makes.collate, reads), targets)
    for at in range(0, len(split), batch_size):
        samples: list[Sample] = []
        for place in range(at, min(at + batch_size, len(split))):
            try:
                sample = split[place]
            except Unreadable as error:
                bad.append(f"{split.ids[place]}: {error}")
                continue
            if not bad:
                item = sample["input"] if raw is split else raw[place]["input"]
                shown.append(makes.columns(item))
                target = targets.encode(targets.nothing(item))
                samples.append({**encode(sample), "target": target, "index": place})
        if not bad:
            yield in_batch(samples)
    if bad:
        raise ValueError(f"{len(bad)} files cannot be read:\n  " + "\n  ".join(bad))
