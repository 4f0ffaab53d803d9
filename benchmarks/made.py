"""A run over tensors in memory, trained by tlx's own loop: what the benchmarks time."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tlx.backbones.backbone import Features
from tlx.config.schema import Trainer
from tlx.data.splits import Labels, Sample, Splits
from tlx.data.text import inputs as tokens
from tlx.frozen.store import Store
from tlx.methods.order import Order
from tlx.methods.schedules import constant
from tlx.methods.stages import Group, Layout, Stage, spans
from tlx.tasks.classification import classification
from tlx.tasks.heads import LinearHead
from tlx.tasks.task import Network
from tlx.training.engine.course import Course, Pace, Selection
from tlx.training.engine.fit import Conductor, fit
from tlx.training.engine.module import Recipe, TransferModule
from tlx.training.engine.trainer import make_trainer
from tlx.training.loaders import Encoded, EvalBatches, RankShare, StepBatches, loader
from tlx.training.logs.progress import Display
from tlx.training.reuse.source import Reuse, Wishes
from tlx.training.reuse.transform import Transform


class Tensors:
    """A split in memory, of tensors or of texts as tensors."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        """Keeps both."""
        self.inputs = inputs
        self.targets = targets
        self.ids = [str(i) for i in range(len(inputs))]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        """One item."""
        return {"id": self.ids[index], "input": self.inputs[index], "target": self.targets[index]}


@dataclass(frozen=True)
class Ready:
    """Inputs that are encoded already; as much of `tlx.data.splits.Inputs` as a loop asks for."""

    encode: Callable[[Sample], Sample]
    join: Callable[[Sequence[Any]], Any]
    modality: str = "made"


def collate(inputs: Sequence[Tensor]) -> Tensor:
    """Stacks them."""
    return torch.stack(list(inputs))


def same(sample: Sample) -> Sample:
    """The sample itself."""
    return sample


def splits(inputs: Tensor, targets: Tensor, classes: int) -> Splits:
    """The same tensors as train, val (a few) and test."""
    few = Tensors(inputs[:8], targets[:8].tolist())
    return Splits(
        train=Tensors(inputs, targets.tolist()),
        val=few,
        test=few,
        labels=Labels("single", tuple(str(c) for c in range(classes))),
        inputs=Ready(same, collate),  # type: ignore[arg-type]
        fingerprint="made",
    )


def texts(ids_NT: Tensor, targets: Tensor, classes: int) -> Splits:
    """The same for texts of T tokens: encoded and padded as those of a run are."""
    inputs = [{"input_ids": ids_T, "token_type_ids": torch.zeros_like(ids_T)} for ids_T in ids_NT]
    found, few = Tensors(inputs, targets.tolist()), Tensors(inputs[:8], targets[:8].tolist())
    return Splits(
        train=found,
        val=few,
        test=few,
        labels=Labels("single", tuple(str(c) for c in range(classes))),
        inputs=Ready(same, partial(tokens.collate, pad_id=0, left=False)),  # type: ignore[arg-type]
        fingerprint="made",
    )


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock(pl.Callback):
    """Seconds a step, from the end of step `skip` to the end of the last."""

    def __init__(self, *, skip: int, total: int) -> None:
        """Starts without a reading."""
        self.skip = skip
        self.total = total
        self.steps = 0
        self.first = self.last = 0.0

    def on_train_batch_end(self, *args: Any) -> None:
        """Reads the clock."""
        self.steps += 1
        if self.steps == self.skip:
            self.first = _now()
        if self.steps == self.total:
            self.last = _now()

    def seconds(self) -> float:
        """Seconds a step."""
        return (self.last - self.first) / (self.steps - self.skip)


def tlx_step_s(
    trunk: nn.Module,
    width: int,
    data: Splits,
    *,
    optimizer: Callable[[Any], Optimizer],
    steps: int,
    batch_size: int,
    trained: str | tuple[str, ...] = "",
    loggers: tuple[Any, ...] = (),
    log_every: int = 50,
    precision: str = "32",
    accelerator: str = "cpu",
    workers: int = 0,
    skip: int = 5,
    pin: bool = False,
    stored: bool = False,
    whole: bool = False,
) -> float:
    """Seconds a step of tlx's own training loop on a trunk with a linear head.

    Args:
        trained: beginnings of the names of parameters that train.
        skip: steps that are left out.
        stored: train from activations, stored in a fresh folder.
        whole: the seconds of the whole fit instead, with extraction, validation and checkpoints.
    """
    task = classification(data.labels)
    head = LinearHead(width, len(data.labels.names))
    network = Network(trunk, head, lambda module, x: Features(pooled=module(x)))
    names = [name for name, _ in network.named_parameters()]
    trunk_names = tuple(n for n in names if n.startswith("backbone."))
    head_names = tuple(n for n in names if n.startswith("head."))
    groups = (Group("trunk", trunk_names, 0), Group("head", head_names, 1))
    layout = Layout(groups=groups, fine_groups=groups)
    stage = Stage("all", {name: 1.0 for name in names if name.startswith(trained)})
    recipe = Recipe(
        network=network,
        task=task,
        layout=layout,
        optimizer=optimizer,
        schedule=constant(),
        lr=1e-3,
    )
    module = TransferModule(recipe, total_steps=steps)
    clock = Clock(skip=skip, total=steps)
    share = RankShare()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            Trainer(accelerator=accelerator, precision=precision, deterministic=False),
            folder=Path(folder),
            loggers=loggers,
            callbacks=[clock],
        )
        order = Order(len(data.train), batch_size=batch_size, seed=0)
        batches = StepBatches(order, accumulate=1, share=share)
        evaluated = EvalBatches(items=len(data.val), batch_size=8, share=share)
        ready: Any = data.inputs
        encode = ready.encode
        transform = Transform(encode, None, {})
        reuse = Reuse(
            trainer,
            module,
            splits=data,
            training=transform,
            evaluation=transform,
            wishes=Wishes(Store(Path(folder) / "store")),
            loading={"workers": 0, "pin": False},
            batch_size=batch_size,
            collate=ready.join,
        )
        started = _now()
        course = Course(
            spans((stage,), total_steps=steps, steps_per_epoch=len(data.train) // batch_size),
            pace=Pace(steps, len(data.train) // batch_size, batch_size, steps, log_every=log_every),
            selection=Selection("accuracy", "max", final="last"),
        )
        conductor = Conductor(
            module,
            course,
            train_loader=loader(
                Encoded(data.train, encode, targets=task.targets, seed=None),
                batches,
                collate=ready.join,
                workers=workers,
                pin=pin,
            ),
            val_loader=loader(
                Encoded(data.val, encode, targets=task.targets, seed=None),
                evaluated,
                collate=ready.join,
                workers=0,
                pin=pin,
            ),
            folder=Path(folder) / "checkpoints",
            identity={"run": "benchmark"},
            display=Display(total_steps=steps, stages=["all"], metric="accuracy", silent=True),
            reuse=reuse if stored else None,
        )
        fit(trainer, conductor)
        wall_s = _now() - started
    return wall_s if whole else clock.seconds()
