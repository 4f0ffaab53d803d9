"""What a task is: head, loss, metrics and predictions. And the network: backbone plus head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone, Features
from tlx.base.cells import Columns
from tlx.base.shown import Making
from tlx.data.inputs import Spec
from tlx.data.splits import Batch, Labels, Split
from tlx.data.targets import Targets
from tlx.methods.bootstrap import Intervals
from tlx.tasks.head_losses import HeadLoss

Collected = dict[str, Tensor]
"""Per-item tensors on the CPU, first dimension N, in the order of the split.

Further dimensions may differ from batch to batch (words of a sentence): they are padded to the
longest, with -100, or NaN where numbers are real.
"""


OF_TRUTH = ("label", "target", "correct")
"""Columns that new items lack."""

WHOLE_ITEMS = "pooled"
"""Features that are one vector an item."""


Losses = Mapping[str, tuple[Tensor, Tensor]]
"""Name -> loss per item [N] and its weight [N]."""


class Report(TypedDict):
    """The keys of a split in the record.

    `metrics` are name -> {value, low, high, n}; all others are there where there are such things.
    `views` are name -> what views of the task's own need.
    """

    n: int
    metrics: Intervals
    per_class: NotRequired[Sequence[Mapping[str, object]]]
    confusion: NotRequired[Sequence[Sequence[int]] | None]
    calibration: NotRequired[Mapping[str, object]]
    invalid: NotRequired[int]
    views: NotRequired[Mapping[str, object]]


class Task(Protocol):
    """What is asked of items: targets, head, loss, metrics, files. Made for one dataset's labels.

    Its module says in literals, which are read without importing anything: `KIND`, that of the
    labels; `METRICS`, every metric that it may give -> `max` or `min`; and `VIEWS`, what a report
    shows of it (`tlx.report.view`). Where two names of
    classes do not do for a network that is made without data, its function `stand_in` takes the
    task's own arguments and gives labels that do.
    """

    @property
    def labels(self) -> Labels:
        """What the targets are."""
        ...

    @property
    def monitor(self) -> str:
        """Metric that selection looks at by default, `accuracy`."""
        ...

    @property
    def directions(self) -> Mapping[str, str]:
        """Every metric that `metrics` gives for these labels -> `max` or `min`."""
        ...

    @property
    def targets(self) -> Targets:
        """How targets get from the data into batches."""
        ...

    @property
    def reads(self) -> str:
        """The features that the head reads: of whole items (`pooled`), or one a `word`, ...."""
        ...

    @property
    def input_spec(self) -> Mapping[str, object]:
        """What the task adds to the backbone's input spec."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether outputs are logits of classes of which one is right: softmax is for them."""
        ...

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A fresh head: a module from Features to outputs."""
        ...

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """Each loss of the task by its name; what trains is the sum of their weighted means.

        A task with one loss calls it `loss`. Takes soft targets and label smoothing too.
        """
        ...

    def weights(self, batch: Batch) -> Mapping[str, Tensor]:
        """The weights [N] that `losses` gives, from a batch that no network has seen.

        They are linear in soft targets, so that mixing a batch leaves their sum as it is.
        """
        ...

    def places(self, batch: Batch) -> Tensor:
        """How many rows of outputs a batch that no network has seen will have, padding aside."""
        ...

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """What metrics, rows and intervals need of each item."""
        ...

    def metrics(self, collected: Collected) -> dict[str, float]:
        """Fast figures for validation."""
        ...

    def report(self, collected: Collected) -> Report:
        """Final figures, plain."""
        ...

    def columns(self, collected: Collected) -> Columns:
        """What the predictions file says of each item, without its id.

        Those of OF_TRUTH are of what is true, and left out where that is not known.
        """
        ...

    def shown(self, report: Report) -> Mapping[str, Making]:
        """What loggers show of a split's report beside its figures, by name."""
        ...

    def solver(self) -> HeadLoss | None:
        """The loss for heads that are trained side by side, or solved; None: neither can be."""
        ...

    def each(self) -> "Together | None":
        """Figures of several runs at once; None: run by run."""
        ...

    def files(self, collected: Collected, raw: Split) -> Mapping[str, str]:
        """Texts of further files of a split's predictions, by the endings of their names.

        Args:
            collected: of the split.
            raw: the split as its source gave it.
        """
        ...

    def generated(
        self, network: nn.Module, split: Split, spec: Spec, *, seed: int
    ) -> Mapping[str, str]:
        """Texts of files, by name, of what the network makes of a split by itself.

        All ranks compute it.

        Args:
            network: from inputs to outputs; may be set to evaluation (a mutator).
            split: ready for the network.
            spec: what the network reads.
            seed: of what is drawn.
        """
        ...


class PlainTask:
    """A parent for tasks: what most of them answer alike, of items that all weigh the same."""

    @property
    def reads(self) -> str:
        """One vector an item."""
        return WHOLE_ITEMS

    @property
    def input_spec(self) -> Mapping[str, object]:
        """Nothing of its own."""
        return {}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """Ones [N]."""
        return {"loss": torch.ones(len(batch["target"]), device=batch["target"].device)}

    def places(self, batch: Batch) -> Tensor:
        """One for each item."""
        return torch.tensor(len(batch["index"]))

    def shown(self, report: Report) -> Mapping[str, Making]:
        """Nothing."""
        return {}

    def solver(self) -> HeadLoss | None:
        """None."""
        return None

    def each(self) -> "Together | None":
        """Run by run."""
        return None

    def files(self, collected: Collected, raw: Split) -> Mapping[str, str]:
        """None."""
        return {}

    def generated(
        self, network: nn.Module, split: Split, spec: Spec, *, seed: int
    ) -> Mapping[str, str]:
        """None."""
        return {}


class Together(Protocol):
    """Figures of G runs that were judged on the same items: what is collected is [G, N, ...]."""

    def metrics_each(self, collected: Collected) -> list[dict[str, float]]:
        """What the task's `metrics` gives for each."""
        ...

    def report_each(self, collected: Collected) -> list[Report]:
        """What the task's `report` gives for each."""
        ...


class Network(nn.Module):
    """Backbone and head as one module; parameters are named `backbone.*` and `head.*`."""

    def __init__(
        self, module: nn.Module, head: nn.Module, features: Callable[..., Features]
    ) -> None:
        """Keeps both modules and the backbone's features function."""
        super().__init__()
        self.backbone = module
        self.head = head
        self.take_features = features

    def features(self, inputs: Any) -> Features:
        """The backbone's features of a batch of inputs."""
        return self.take_features(self.backbone, inputs)

    def with_features(self, inputs: Any) -> tuple[Features, Tensor]:
        """The backbone's features and the head's outputs."""
        features = self.features(inputs)
        return features, self.head(features)

    def forward(self, inputs: Any) -> Tensor:
        """The head's outputs."""
        return self.with_features(inputs)[1]
