"""Small runs made of tensors in memory, trained by the real loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone, Features
from tlx.backbones.timm.networks import timm
from tlx.building.networks import layout, with_adapters
from tlx.config.run import Option
from tlx.config.schema import Trainer
from tlx.data.splits import Labels, Sample
from tlx.methods.order import Order
from tlx.methods.schedules import constant
from tlx.methods.stages import Group, Layout, Stage, spans
from tlx.tasks.classification import classification
from tlx.tasks.task import Network
from tlx.training.engine.course import Course, Pace, Progress, Selection
from tlx.training.engine.fit import Conductor, fit
from tlx.training.engine.module import Recipe, TransferModule
from tlx.training.engine.trainer import make_trainer
from tlx.training.loaders import Encoded, EvalBatches, RankShare, StepBatches, loader
from tlx.training.logs.progress import Display

CLASSES = 3
LABELS = Labels("single", tuple(f"class{i}" for i in range(CLASSES)))


class Tensors:
    """A split of tensors in memory."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets.tolist()
        self.ids = [f"item{i}" for i in range(len(inputs))]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        return {"id": self.ids[index], "input": self.inputs[index], "target": self.targets[index]}


class Made:
    """Splits enough for the loaders."""

    @staticmethod
    def collate(inputs: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(inputs))


def tensors(n: int, size: int, *, channels: int = 3, seed: int = 0) -> Tensors:
    """Random images whose mean tells the class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % CLASSES
    noise = torch.randn(n, channels, size, size, generator=generator)
    return Tensors(noise + targets[:, None, None, None].float(), targets)


def network(
    name: str, *, size: int, strategy: dict[str, Any] | None = None, **kwargs: Any
) -> tuple[Network, Layout, int]:
    """A random timm network with a linear head, its layout and the head's level.

    With the adapters that the node of a strategy asks for.
    """
    torch.manual_seed(0)
    backbone = timm(name=name, init="none", image_size=size, **kwargs)
    return headed(backbone, strategy=strategy)


def headed(
    backbone: Backbone, *, strategy: dict[str, Any] | None = None
) -> tuple[Network, Layout, int]:
    """A backbone with a linear head, as `network` gives it."""
    if strategy is not None:
        backbone = with_adapters(backbone, Option.of(strategy), seed=0)
    task = classification(LABELS)
    made = Network(backbone.module, task.head(backbone, dropout=0.0), backbone.features)
    return made, layout(made, backbone), backbone.head_level


def small(*, norm: bool = False) -> tuple[Network, Layout]:
    """A convolution, a second one, a head."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
    trunk = nn.Sequential(*layers, nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Module()
    head.linear = nn.Linear(8, CLASSES)  # type: ignore[assignment]
    head.forward = lambda features: head.linear(features.pooled)  # type: ignore[operator]
    net = Network(trunk, head, lambda module, x: Features(pooled=module(x)))
    names = [n for n, _ in net.named_parameters()]
    first = tuple(n for n in names if n.startswith(("backbone.0", "backbone.1")))
    rest = tuple(n for n in names if n.startswith("backbone") and n not in first)
    tops = tuple(n for n in names if n.startswith("head"))
    groups = (Group("stem", first, 0), Group("top", rest, 1), Group("head", tops, 2))
    return net, Layout(groups=groups, fine_groups=groups)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in net.state_dict().items()}


def adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Moves whatever has a gradient, however small, by about the learning rate."""
    return torch.optim.Adam(groups, lr=0.01, eps=1e-30)


def train(
    net: Network,
    layout: Layout,
    stages: Sequence[Stage],
    data: Tensors,
    folder: Path,
    *,
    steps: int,
    batch_size: int = 4,
    callbacks: Sequence[Any] = (),
    eval_every: int = 1000,
    checkpoint_every: int | None = None,
    final: str = "last",
    **recipe: Any,
) -> tuple[TransferModule, Progress]:
    """Trains through `fit`, as a run does."""
    task = recipe.pop("task", classification(LABELS))
    parts = {"optimizer": adam, "schedule": constant(), "lr": 0.01, **recipe}
    own = ("averaging", "early_stopping", "select_from", "on_oom")
    extra = {name: parts.pop(name) for name in own if name in parts}
    made = Recipe(network=net, task=task, layout=layout, **parts)
    module = TransferModule(made, total_steps=steps)
    share, splits = RankShare(), Made()
    order = Order(len(data), batch_size=batch_size, seed=0)
    batches = StepBatches(order, accumulate=made.accumulate, share=share)
    evaluated = EvalBatches(items=len(data), batch_size=8, share=share)
    dataset = Encoded(data, lambda sample: sample, targets=task.targets, seed=None)
    per_epoch = max(len(data) // batch_size, 1)
    node = Trainer(accelerator="cpu", accumulate=made.accumulate)
    trainer = make_trainer(node, folder=folder, callbacks=callbacks)
    course = Course(
        spans(tuple(stages), total_steps=steps, steps_per_epoch=per_epoch),
        pace=Pace(steps, per_epoch, batch_size, eval_every, checkpoint_every, log_every=5),
        selection=Selection(
            "accuracy",
            "max",
            final=final,
            select_from=extra.get("select_from", "last_stage"),
            early_stopping=extra.get("early_stopping"),
        ),
    )
    conductor = Conductor(
        module,
        course,
        train_loader=loader(dataset, batches, collate=splits.collate, workers=0, pin=False),
        val_loader=loader(dataset, evaluated, collate=splits.collate, workers=0, pin=False),
        folder=folder / "checkpoints",
        identity={"run": "made"},
        display=Display(total_steps=steps, stages=["s"] * 99, metric="accuracy", silent=True),
        averaging=extra.get("averaging"),
        on_oom=extra.get("on_oom", "error"),
    )
    return module, fit(trainer, conductor)
