"""A run as objects: what is planned before anything is trained, and what one process works with."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, final

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from tlx.config.run import Run
from tlx.config.schema import Trainer
from tlx.data.augment import IN_STEP, Augmentation
from tlx.data.inputs import Spec
from tlx.data.splits import Batch, Encode, Split, Splits
from tlx.frozen.store import Store
from tlx.methods.order import Order
from tlx.methods.stages import Span
from tlx.tasks.model import Model
from tlx.tasks.task import Collected
from tlx.training.collect import Collector
from tlx.training.effects import Callbacks, Clipping, Regularization
from tlx.training.engine.course import Course, Pace, Progress, Selection
from tlx.training.engine.memory import AtOnce
from tlx.training.engine.module import Recipe, TransferModule
from tlx.training.engine.patience import Patience
from tlx.training.engine.trainer import make_trainer
from tlx.training.loaders import (
    Encoded,
    EvalBatches,
    Loading,
    MakeInputs,
    RankShare,
    StepBatches,
    loader,
)
from tlx.training.logs.progress import Display
from tlx.training.logs.run_logger import RunLogger
from tlx.training.outputs import outputs
from tlx.training.reuse.references import References
from tlx.training.reuse.source import Reuse, Wishes
from tlx.training.reuse.transform import draws, transform

STORE = ".cache"
"""Folder of the store of activations, in the folder of runs."""


class Procedure(Protocol):
    """How a run comes from its starting weights to its final ones."""

    def describe(self, session: "Session") -> str:
        """What is printed of it before it begins."""
        ...

    def run(self, session: "Session") -> Progress:
        """Leaves the final weights in the plan's network (a mutator); how far it came."""
        ...

    def collect(self, session: "Session", split: Split) -> Collected | None:
        """Outputs of a whole split, on rank 0; by the weights as they are now."""
        ...


@final
@dataclass(frozen=True)
class Plan:
    """A run before anything is trained: all that its config asks for, as objects.

    Attributes:
        run: its config.
        model: network, task and layout, with the starting weights.
        splits: its data, ready for the backbone.
        spans: stages with their places in the budget.
        pace: when to validate, save and log.
        selection: what validation decides.
        recipe: how the network is trained.
        effects: of the regularization.
        augmentations: in the order of the config.
        procedure: what makes the final weights.
        references: frozen networks that penalties compare with.
    """

    run: Run
    model: Model
    splits: Splits
    spans: tuple[Span, ...]
    pace: Pace
    selection: Selection
    recipe: Recipe
    effects: Regularization
    augmentations: tuple[Augmentation, ...]
    procedure: Procedure
    references: References | None = None

    @property
    def evaluated(self) -> dict[str, Split]:
        """Splits that final figures are of, by name."""
        return {"val": self.splits.val, "test": self.splits.test, **self.splits.extra}

    @property
    def course(self) -> Course:
        """A course that has not begun."""
        return Course(self.spans, pace=self.pace, selection=self.selection)

    @property
    def order(self) -> Order:
        """The order in which the run trains on its data."""
        train, order_seed = self.splits.train, self.run.order_seed
        return Order(
            len(train),
            batch_size=self.pace.batch_size,
            seed=self.run.seed if order_seed is None else order_seed,
            lengths=lengths_of(self.splits, train, self.model.backbone.reads),
        )

    def identity(self, name: str) -> dict[str, str]:
        """What a checkpoint of the run of this name must agree on."""
        return {
            "run": name,
            "data": self.splits.fingerprint,
            "weights": self.model.backbone.weights_id,
            **({} if self.references is None else self.references.identity()),
        }

    def train_loader(self, share: RankShare) -> "DataLoader[Batch]":
        """The training loader of one rank."""
        encode = self._encoder()
        batches = StepBatches(self.order, accumulate=self.run.trainer.accumulate, share=share)
        dataset = Encoded(
            self.splits.train,
            encode,
            targets=self.model.task.targets,
            seed=self.run.seed if draws(encode) else None,
        )
        return loader(dataset, batches, collate=self._collate, **loading_of(self.run.trainer))

    def eval_loader(self, split: Split, share: RankShare) -> "DataLoader[Batch]":
        """The loader of one rank over an evaluation split (or train, without augmentation)."""
        return encoded_loader(self.run.trainer, self.splits, self.model, split, share)

    def reuse(self, trainer: pl.Trainer, module: TransferModule) -> Reuse | None:
        """Training from stored activations, as the config wishes; None where it wants none."""
        run, frozen, reads = self.run, self.run.frozen, self.model.backbone.reads
        if run.cache == "off" and not frozen.views:
            return None
        encode, plain = self._encoder(), self.splits.inputs.encoder(reads, (), train=False)
        seed = run.seed if draws(encode) else None
        folder = Path(run.cache_dir or Path(run.runs_dir) / STORE)
        budget = None if run.cache_gb is None else int(run.cache_gb * 1e9)
        kind = frozen.stored_as
        return Reuse(
            trainer,
            module,
            splits=self.splits,
            training=transform(encode, seed=seed, collate=self._collate),
            evaluation=transform(plain, seed=None, collate=self._collate),
            wishes=Wishes(
                store=None if run.cache == "off" else Store(folder, budget_bytes=budget),
                views=0 if seed is None else frozen.views,  # what draws nothing has one view
                dtype=None if kind == "same" else getattr(torch, kind),
                facts={
                    "precision": run.trainer.precision,
                    "channels_last": run.trainer.channels_last,
                    "device": trainer.strategy.root_device.type,
                },
            ),
            loading=loading_of(run.trainer),
            batch_size=run.trainer.eval_batch_size,
            reads_inputs=any(part.reads_inputs for _, part in self.effects),
            collate=self._collate,
            padding=self.splits.inputs.padding(reads),
        )

    def _encoder(self) -> Encode:
        """The encoder of training, with what augments an item by itself."""
        augments = [each for each in self.augmentations if each.kind not in IN_STEP]
        return self.splits.inputs.encoder(self.model.backbone.reads, augments, train=True)

    @property
    def _collate(self) -> MakeInputs:
        """Makes the inputs of a batch."""
        return partial(self.splits.inputs.collate, self.model.backbone.reads)


@final
@dataclass(frozen=True)
class Session:
    """What one process has of a run that it works on.

    Trainer, module and stored activations are made when a procedure first asks for them: one that
    trains nothing never does.

    Attributes:
        folder: of the run.
        plan: of it.
        share: this process's, of every batch.
        loggers: of the run; on rank 0.
        progress: file that tells others how far it is.
    """

    folder: Path
    plan: Plan
    share: RankShare
    loggers: tuple[RunLogger, ...] = ()
    progress: Path | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree on."""
        return self.plan.identity(self.folder.name)

    @cached_property
    def at_once(self) -> AtOnce:
        """How many items of an evaluation batch are computed at once."""
        return AtOnce(halves=self.plan.run.trainer.on_oom == "halve")

    @cached_property
    def display(self) -> Display:
        """Of progress."""
        return Display(
            total_steps=self.plan.pace.total_steps,
            stages=[span.stage.name for span in self.plan.spans],
            metric=self.plan.selection.metric,
            silent=self.share.rank != 0,
            file=self.progress,
        )

    @cached_property
    def trainer(self) -> pl.Trainer:
        """The Lightning Trainer."""
        node = self.plan.run.trainer
        parts = self.plan.effects.of(Callbacks).values()
        callbacks = [each for part in parts for each in part.callbacks]
        if node.devices * node.nodes > 1:
            callbacks.append(Patience(node.timeout_minutes))
        return make_trainer(
            node,
            folder=self.folder,
            grad_clip=self.plan.effects.value(Clipping, None),
            loggers=self.loggers,
            callbacks=callbacks,
        )

    @cached_property
    def module(self) -> TransferModule:
        """What the trainer trains."""
        module = TransferModule(
            self.plan.recipe,
            total_steps=self.plan.pace.total_steps,
            references=self.plan.references,
        )
        module.at_once = self.at_once
        return module

    @cached_property
    def reuse(self) -> Reuse | None:
        """Training from stored activations; None where the config wants none at all."""
        reuse = self.plan.reuse(self.trainer, self.module)
        if reuse is not None:
            reuse.say = self.display.line
        return reuse

    @property
    def device(self) -> torch.device:
        """Where the network computes in this process."""
        if self.plan.run.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())

    @property
    def recalibrate(self) -> Callable[[], Iterator[object]] | None:
        """Gives inputs to measure batch norm on anew, where the config wants that."""
        return self._inputs if self.plan.run.frozen.norm_stats == "recalibrate" else None

    def _inputs(self) -> Iterator[object]:
        """All inputs of training, on every rank."""
        for batch in self.plan.eval_loader(self.plan.splits.train, RankShare()):
            yield batch["input"]


def by_trainer(session: Session, split: Split) -> Collected | None:
    """Outputs of a split by the session's trainer, from stored activations where they are right."""
    data = session.plan.eval_loader(split, session.share)
    if session.reuse is not None:
        data = session.reuse.evaluation_loader(split, data)
    module = session.module
    module.collector = Collector(session.plan.model.task)
    session.trainer.validate(module, data, verbose=False)
    return module.collector.finish()


def without_trainer(session: Session, split: Split) -> Collected | None:
    """Outputs of a split by the network alone, for procedures that train nothing."""
    if session.share.rank != 0:
        return None
    plan = session.plan
    data, collector = plan.eval_loader(split, RankShare()), Collector(plan.model.task)
    network = plan.model.network.eval()
    return outputs(network, data, collector, device=session.device, at_once=session.at_once)


def lengths_of(data: Splits, split: Split, reads: Spec) -> Sequence[int] | None:
    """Lengths by which a split's batches are made; None where they are not."""
    padding = data.inputs.padding(reads)
    return padding.lengths(split) if padding is not None and padding.buckets else None


def encoded_loader(
    trainer: Trainer, data: Splits, model: Model, split: Split, share: RankShare
) -> "DataLoader[Batch]":
    """A loader over a split in order, without augmentation."""
    reads, batch = model.backbone.reads, math.ceil(trainer.eval_batch_size / share.world)
    lengths = lengths_of(data, split, reads)
    batches = EvalBatches(items=len(split), batch_size=batch, share=share, lengths=lengths)
    encode = data.inputs.encoder(reads, (), train=False)
    dataset = Encoded(split, encode, targets=model.task.targets, seed=None)
    collate = partial(data.inputs.collate, reads)
    return loader(dataset, batches, collate=collate, **loading_of(trainer))


def loading_of(trainer: Trainer) -> Loading:
    """How the loaders of a run load."""
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    return {"workers": trainer.workers, "pin": on_gpu}
