"""A finished run predicts files and texts."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tlx.base import cores, sealed
from tlx.base.cells import rows
from tlx.data.splits import Sample
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
    ) -> list[dict[str, Any]]:
        """One row an item: its path (and line), and what the task says of it.

        Args:
            inputs: files, or folders whose visible files are taken in order of their names, read
                as the run's training data was. Of a network of images: tables of paths too. Of a
                network of texts: files with a text in each line (of a run of `text_folder`, with
                one text), tables, and of words files of columns; what names no file is a text
                itself.
            batch_size: items that go through the network at once.

        Raises:
            ValueError: files that cannot be read, all of them listed; no files at all; a network
                that predicts nothing of a text as a whole or of its words.
        """
        spec = self.model.backbone.input_spec
        if spec.get("kind") == "text":
            return self._predict_texts(inputs, batch_size)
        from tlx.data.images.given import images

        paths = images(inputs, self.run.plain["dataset"])
        batches = _batches(paths, spec, self.model.task.targets, batch_size)
        collected = outputs(self.model.network, batches, Collector(self.model.task))
        found = _of_new_items(self.model.task, collected)
        return [{"path": str(path), **row} for path, row in zip(paths, found, strict=True)]

    def _predict_texts(self, inputs: Iterable[str | Path], batch_size: int) -> list[dict[str, Any]]:
        from tlx.data.text import inputs as tokens
        from tlx.data.text.given import texts
        from tlx.data.text.texts import text_pool

        labels, spec = self.model.task.labels, self.model.backbone.input_spec
        targets = self.model.task.targets
        words = labels.kind == "tags"
        known = self._words() if words else ()
        given = texts(inputs, self.run.plain["dataset"], words=words, known=known)
        nothing = [targets.nothing(each.content) for each in given]
        raw = text_pool([each.place for each in given], [each.content for each in given], nothing)
        made, collate = tokens.encoded(raw, spec)
        samples = [
            {**sample, "target": targets.encode(sample["target"]), "index": place}
            for place, sample in enumerate(made)
        ]
        in_batch = Collate(collate, targets)
        batches = (
            in_batch(samples[at : at + batch_size]) for at in range(0, len(samples), batch_size)
        )
        collected = outputs(self.model.network, batches, Collector(self.model.task))
        return [
            {"path": each.place, **_shown(each.content), **row}
            for each, row in zip(given, _of_new_items(self.model.task, collected), strict=True)
        ]

    def _words(self) -> list[str]:
        """Words of the run's data, as its predictions have them; none where they were deleted."""
        from tlx.data.text import columns

        place = self.folder / "predictions" / "test.conll"
        sealed.check(place)
        held = columns.read(place, columns.Format(separator="blank"))
        return [word for sentence in held.sentences for word in sentence.words]


def _shown(content: Any) -> dict[str, str]:
    """A text as a row has it: words with blanks between, of a pair both."""
    if isinstance(content, tuple):
        return {"text": content[0], "pair": content[1]}
    return {"text": content if isinstance(content, str) else " ".join(content)}


def _of_new_items(task: Task, collected: Collected) -> list[dict[str, Any]]:
    """What the task says of items without labels, item by item."""
    columns = task.columns(collected).items()
    return rows({key: column for key, column in columns if key not in OF_TRUTH})


def _batches(
    paths: list[Path], spec: Mapping[str, Any], targets: Targets, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Encoded batches, a few images in memory at a time; what cannot be read is told at the end."""
    from tlx.data.images.inputs import collate, image_encoder
    from tlx.data.images.read import BadImage, load_image

    encode, bad, in_batch = image_encoder(spec, [], False), [], Collate(collate, targets)
    for at in range(0, len(paths), batch_size):
        samples: list[Sample] = []
        for path in paths[at : at + batch_size]:
            try:
                sample = {"id": str(path), "input": load_image(path), "index": at + len(samples)}
            except BadImage as error:
                bad.append(f"{path}: {error}")
                continue
            if not bad:
                target = targets.encode(targets.nothing(sample["input"]))
                samples.append({**encode(sample), "target": target})
        if not bad:
            yield in_batch(samples)
    if bad:
        raise ValueError(f"{len(bad)} files cannot be read:\n  " + "\n  ".join(bad))
