"""What a task is: head, loss, metrics and predictions. And the network: backbone plus head."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone, Features
from tlx.data.splits import Batch, Labels
from tlx.data.targets import Targets

Collected = dict[str, Tensor]
"""Per-item tensors on the CPU, first dimension N, in the order of the split.

Further dimensions may differ from batch to batch (words of a sentence): they are padded to the
longest, with -100, or NaN where numbers are real.
"""


WHOLE_ITEMS = "pooled"
"""Features that are one vector an item."""


class Task(Protocol):
    """What is asked of items: targets, head, loss, metrics, rows. Made for one dataset's labels.

    Its module says in literals, which are read without importing anything: `KIND`, that of the
    labels, and `METRICS`, every metric that it may give -> `max` or `min`. Where two names of
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
    def input_spec(self) -> Mapping[str, Any]:
        """What the task adds to the backbone's input spec."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether outputs are logits of classes of which one is right: softmax is for them."""
        ...

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A fresh head: a module from Features to outputs."""
        ...

    def loss(
        self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Loss per item [N] and its weight [N]; takes soft targets and label smoothing too."""
        ...

    def weight(self, batch: Batch) -> Tensor:
        """The weights [N] that `loss` gives, from a batch that no network has seen.

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

    def report(self, collected: Collected) -> dict[str, Any]:
        """Final figures, plain: the keys of a split in the record.

        `n`, `metrics` (name -> {value, low, high, n}), `per_class`, `confusion`, `calibration`
        and `invalid`.
        """
        ...

    def rows(self, collected: Collected) -> Iterator[dict[str, Any]]:
        """Lines of the predictions file, in the order of the items, without the id."""
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
