"""Using a finished run: evaluation on other data, prediction, export."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from tlx import build
from tlx.base import cores, durable, sealed
from tlx.base.cells import rows
from tlx.config.check import CheckError, check
from tlx.config.compose import compose
from tlx.config.files import TWO_CLASSES
from tlx.config.identity import normalise
from tlx.config.run import Option, Run
from tlx.data.divide import whole
from tlx.data.relabel import relabelled
from tlx.data.splits import Sample, Splits
from tlx.data.targets import Targets
from tlx.execution import runs
from tlx.execution.finished import load
from tlx.tasks.heads import without_norm
from tlx.tasks.task import OF_TRUTH, Collected, Task
from tlx.training.collect import Collector
from tlx.training.engine.memory import AtOnce
from tlx.training.loaders import Collate, Share

LOG = logging.getLogger(__name__)
ORIGIN = ("root", "path", "name", "revision", "kwargs", "train")
"""Keys of a dataset that say which training data it has."""
LIMITS = ("labels_per_class", "fraction", "protocol")
"""Keys of a dataset that leave a part of its training data, and of validation with it."""
REDIVIDED = ("val_fraction", "test_fraction", "split_seed")
DIVISION = (*LIMITS, *REDIVIDED)
"""Keys of a dataset that say how it is to be divided."""


def outputs(network: torch.nn.Module, batches: Iterable[Any], collector: Collector) -> Collected:
    """Runs a network over encoded batches, on the GPU where there is one.

    A batch that does not fit into its memory is computed in parts.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    at_once = AtOnce()
    with torch.inference_mode():
        for batch in batches:
            for found, part in at_once.outputs(lambda x: network(_to(x, device)), batch):
                collector.add(found, _batch_to(part, device))
    collected = collector.finish()
    assert collected is not None
    return collected


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to(item, device) for key, item in value.items()}
    return value


def _batch_to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: _to(value, device) for key, value in batch.items()}


def evaluate(
    folder: Path, *, overrides: list[str], config_dir: str | None = None
) -> dict[str, dict[str, Any]]:
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
    spec = made.backbone.input_spec
    try:
        data = relabelled(build.ready(data, spec), made.task.labels)
    except ValueError as error:
        raise runs.RunError(f"{folder.name}: {error}") from None
    reports = {}
    splits = {"val": data.val, "test": data.test, **data.extra}
    if not any(len(split) for split in splits.values()):
        raise runs.RunError(f"the data is too small to divide: {', '.join(splits)} hold nothing")
    for name, split in splits.items():
        if not len(split):
            continue
        loader = build.encoded_loader(run, data, made, split, Share())
        reports[name] = made.task.report(outputs(made.network, loader, Collector(made.task)))
    return reports


def _data(folder: Path, run: Run, overrides: list[str], *, config_dir: str | None) -> Splits:
    """The run's own data, divided as it was for training, or other data, all of it.

    Other data was not trained on, so nothing of it is set aside, unless the overrides say how to
    divide it.
    """
    if not overrides:
        return build.splits(run.dataset)
    keys = [text.lstrip("+").partition("=")[0] for text in overrides]
    changed = _on_other_data(run, overrides, config_dir=config_dir)
    if _same(changed, run.dataset):
        if redivided := [key for key in REDIVIDED if f"dataset.{key}" in keys]:
            LOG.warning(
                "dataset.%s divides the data anew: what is judged may have been trained on",
                redivided[0],
            )
        return build.splits(changed)
    if _is_own(folder, run, changed):
        LOG.warning("this is the data that %s was trained on, divided as it was", folder.name)
        changed = _limited(changed, own=run.dataset, keys=keys, same=True)
        return build.splits(changed)
    if _overlaps(changed, run.dataset):
        LOG.warning(
            "this is a part of the data of %s, or holds it: what is judged may have been "
            "trained on",
            folder.name,
        )
    if any(f"dataset.{key}" in keys for key in DIVISION):
        data = build.splits(changed)
    else:
        with whole():
            data = build.splits(changed)
    rest = f"; the {len(data.train)} items of its train are not" if len(data.train) else ""
    judged = {"val": data.val, "test": data.test, **data.extra}
    counts = ", ".join(f"{name} ({len(split)})" for name, split in judged.items() if len(split))
    LOG.warning("of the other data are judged: %s%s", counts, rest)
    return data


def _same(dataset: Option, own: Option) -> bool:
    """Whether training data is taken from the same place."""
    alike = (_place(dataset.get(key)) == _place(own.get(key)) for key in ORIGIN)
    return dataset.target == own.target and all(alike)


def _overlaps(dataset: Option, own: Option) -> bool:
    """Whether one of two data sets lies within the other's folder, or is the same file."""
    here, there = (
        [Path(_place(data.get(key))) for key in ("root", "path") if isinstance(data.get(key), str)]
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
    moved = {key: dataset.get(key) for key in ORIGIN if key in dataset.arguments}
    there = Option(own.target, {**own.arguments, **moved})
    logger = logging.getLogger("tlx.data")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what a mere trial has to say is of no concern
    try:
        fingerprint = build.splits(there).fingerprint
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
    limited = _limited(Option.of(made["dataset"]), own=run.dataset, keys=keys)
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


def _place(value: Any) -> Any:
    return os.path.realpath(os.path.expanduser(value)) if isinstance(value, str) else value


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


def export(folder: Path, *, into: Path, onnx: bool = False, adapter: str = "merge") -> list[Path]:
    """Writes the run's network as its library loads it; returns what was written.

    Args:
        folder: of the run.
        into: folder of the files.
        onnx: write model.onnx too.
        adapter: `merge` adapters into the weights, or write them `alone`, as peft loads them.

    Raises:
        ExportError: there is no such form of the network.
    """
    from tlx.backbones.adapters import peft as adapters
    from tlx.backbones.export.adapters import export_adapters
    from tlx.backbones.export.networks import ExportError
    from tlx.backbones.export.networks import export as write

    _, made = load(folder)
    told: dict[str, Any] = {
        "facts": made.backbone.export,
        "class_names": made.task.labels.names,
        "input_spec": made.backbone.input_spec,
    }
    if adapter == "alone":
        written = export_adapters(without_norm(made.network.state_dict()), into, **told)
    else:
        kind = made.backbone.export.get("adapters", {}).get("kind")
        if kind in adapters.PROMPTS:
            raise ExportError(
                f"the virtual tokens of this run (freeze_strategy={kind}) cannot be merged into "
                "weights; write them for peft: --adapter alone"
            )
        if made.backbone.adapters:
            adapters.merge(made.network)
        written = write(without_norm(made.network.state_dict()), into, **told, onnx=onnx)
    files = sorted(written.iterdir())
    durable.sync(files)  # the libraries sync nothing
    return files
