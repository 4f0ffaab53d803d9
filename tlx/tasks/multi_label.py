"""Any number of labels an item, whatever the item is.

Shapes: N items, C labels, B weightings of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.base.cells import Columns
from tlx.base.ranges import Range
from tlx.data.splits import Batch, Labels
from tlx.data.targets import KINDS, Targets
from tlx.methods import metrics
from tlx.methods.bootstrap import intervals
from tlx.methods.shares import Share
from tlx.tasks.checks import check_labels, check_smoothing, check_weights, some_labels
from tlx.tasks.classification import likeliest, per_class
from tlx.tasks.head_losses import BinaryCrossEntropy
from tlx.tasks.heads import linear_head
from tlx.tasks.task import Collected, Losses, PlainTask, Report

KIND = "multi"
VIEWS = ("per_class",)
METRICS: dict[str, str] = {"map": "max", "micro_f1": "max", "macro_f1": "max", "loss": "min"}


def multi_label_classification(
    labels: Labels, *, positive_weights: Annotated[list[float] | None, Range(least=0)] = None
) -> "MultiLabel":
    """A task of deciding each label by itself; monitors `map`, the mean average precision.

    Args:
        labels: of kind `multi`.
        positive_weights: weight of each label's loss where it is present, in the order of names.

    Raises:
        ValueError: labels of another kind, or weights that do not fit them.
    """
    check_labels(labels, kind=KIND, least=1)
    return MultiLabel(
        labels=labels, positive_weights=check_weights("positive_weights", positive_weights, labels)
    )


def stand_in(*, positive_weights: list[float] | None = None) -> Labels:
    """Labels for a network that is made without data: as many as are weighed."""
    return some_labels(KIND, len(positive_weights or ()))


@final
@dataclass(frozen=True)
class MultiLabel(PlainTask):
    """Binary cross-entropy, averaged over the labels; see the protocol Task.

    Attributes:
        labels: their names.
        positive_weights: weight of each label's loss where it is present, or None.
        monitor: metric that selection looks at by default.
    """

    exclusive: ClassVar[bool] = False

    labels: Labels
    positive_weights: tuple[float, ...] | None = None
    monitor: str = "map"

    @property
    def targets(self) -> Targets:
        """See the protocol Task."""
        return KINDS[KIND](self.labels)

    @property
    def directions(self) -> Mapping[str, str]:
        """METRICS."""
        return METRICS

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A linear head with one logit a label."""
        return linear_head(backbone, len(self.labels.names), dropout=dropout)

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """Mean binary cross-entropy over the labels [N], and weights of 1 [N].

        Args:
            outputs: logits [N, C].
            batch: with `target` [N, C], between 0 and 1.
            smoothing: how far targets move towards 1/2.
        """
        check_smoothing(smoothing)
        logits_NC, target_NC = outputs.float(), batch["target"].float()
        if target_NC.shape != logits_NC.shape:
            raise ValueError(f"target {tuple(target_NC.shape)}, outputs {tuple(logits_NC.shape)}")
        target_NC = target_NC * (1 - smoothing) + smoothing / 2
        weights_C = None
        if self.positive_weights is not None:
            weights_C = logits_NC.new_tensor(self.positive_weights)
        loss_N = F.binary_cross_entropy_with_logits(
            logits_NC, target_NC, pos_weight=weights_C, reduction="none"
        ).mean(1)
        return {"loss": (loss_N, self.weights(batch)["loss"])}

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """`logits` and `target`, [N, C] each; a soft target counts as present from 1/2 up."""
        target_NC = (batch["target"].detach() >= 0.5).long()
        return {"logits": outputs.detach().float().cpu(), "target": target_NC.cpu()}

    def metrics(self, collected: Collected) -> dict[str, float]:
        """All figures of METRICS; the threshold of F1 is 1/2."""
        figures = self._figures(collected, metrics.ones(len(collected["target"])))
        return {name: float(value[0]) for name, value in figures.items()}

    def report(self, collected: Collected) -> Report:
        """Final figures with bootstrap intervals, and by label (with `average_precision`).

        A NaN logit predicts nothing and ranks last.
        """
        names, n = self.labels.names, len(collected["target"])
        weights_1N = metrics.ones(n)
        counts = metrics.label_counts(
            _present(collected["logits"]), collected["target"], weights_BN=weights_1N
        )
        precision_1C = _average_precisions(collected, weights_1N)
        classes = per_class(names, counts)
        present_C = (_present(collected["logits"]) | collected["target"].bool()).sum(0)
        shares = {
            "map": Share(of=precision_1C, items=counts.support),
            "micro_f1": Share(),
            # of a label that is never there all items say so
            "macro_f1": Share(
                of=metrics.f1(counts), items=present_C.masked_fill(present_C == 0, n)
            ),
        }
        return {
            "n": n,
            "metrics": intervals(
                lambda weights_BN: self._figures(collected, weights_BN), n, shares=shares
            ),
            "per_class": [
                {**line, "average_precision": value}
                for line, value in zip(classes, precision_1C[0].tolist(), strict=True)
            ],
            "invalid": int(collected["logits"].isnan().any(1).sum()),
        }

    def columns(self, collected: Collected) -> Columns:
        """`label` and `prediction` (lists of names), `probabilities` (top five above 20 labels)."""
        names, logits_NC = self.labels.names, collected["logits"]
        return {
            "label": _named(names, collected["target"]),
            "prediction": _named(names, _present(logits_NC)),
            "probabilities": likeliest(names, logits_NC.sigmoid()),
        }

    def solver(self) -> BinaryCrossEntropy:
        """See the protocol Task."""
        return BinaryCrossEntropy(self.positive_weights)

    def _figures(self, collected: Collected, weights_BN: Tensor) -> dict[str, Tensor]:
        logits_NC, target_NC = collected["logits"], collected["target"]
        counts = metrics.label_counts(_present(logits_NC), target_NC, weights_BN=weights_BN)
        loss_N = F.binary_cross_entropy_with_logits(
            logits_NC.double(), target_NC.double(), reduction="none"
        ).mean(1)
        return {
            "map": _average_precisions(collected, weights_BN).nanmean(1),
            "micro_f1": metrics.micro_f1(counts),
            "macro_f1": metrics.macro_f1(counts, every_class=True),
            "loss": metrics.weighted_mean(loss_N, weights_BN),
        }


def _named(names: tuple[str, ...], there_NC: Tensor) -> list[list[str]]:
    return [[names[c] for c in there_C.nonzero()[:, 0].tolist()] for there_C in there_NC]


def _present(logits_NC: Tensor) -> Tensor:
    return logits_NC > 0  # a probability above 1/2; NaN compares as False


def _average_precisions(collected: Collected, weights_BN: Tensor) -> Tensor:
    """[B, C], NaN for labels that no item has."""
    scores_NC = collected["logits"].nan_to_num(nan=-torch.inf)
    columns = zip(scores_NC.unbind(1), collected["target"].unbind(1), strict=True)
    return torch.stack(
        [
            metrics.average_precision(scores_N, target_N, weights_BN=weights_BN)
            for scores_N, target_N in columns
        ],
        dim=1,
    )
