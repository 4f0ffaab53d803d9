"""What a task is: head, loss, metrics and predictions. And the network: backbone plus head."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone, Features
from tlx.data.splits import Batch, Labels

Collected = dict[str, Tensor]
"""Per-item tensors on the CPU, first dimension N, in the order of the split.

Further dimensions may differ from batch to batch (words of a sentence): they are padded to the
longest, with -100, or NaN where numbers are real.
"""


class Task(Protocol):
    """Head, loss, metrics, rows. A task is made for the labels of one dataset.

    Its module names every metric it may give in a literal `METRICS`, name -> `max` or `min`,
    which config checks read without importing anything.
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
    def input_spec(self) -> Mapping[str, Any]:
        """What the task adds to the backbone's input spec; `unit` says what it reads.

        `pooled` (one vector an item, as without it), `word` or `token`.
        """
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

    def soften(self, batch: Batch) -> Batch:
        """The same batch with targets that can be averaged (one-hot), for mixing."""
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
        self._features = features

    def features(self, inputs: Any) -> Features:
        """The backbone's features of a batch of inputs."""
        return self._features(self.backbone, inputs)

    def with_features(self, inputs: Any) -> tuple[Features, Tensor]:
        """The backbone's features and the head's outputs."""
        features = self.features(inputs)
        return features, self.head(features)

    def forward(self, inputs: Any) -> Tensor:
        """The head's outputs."""
        return self.with_features(inputs)[1]
