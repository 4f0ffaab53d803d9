"""One class an item, whatever the item is.

Shapes: N items, C classes, B weightings of the items; `...` are runs judged on the same items, or
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.base.cells import Columns, Named, Ranked
from tlx.base.ranges import Range
from tlx.base.shown import Making, Matrix
from tlx.data.splits import Batch, Labels
from tlx.data.targets import ClassTargets
from tlx.methods import calibration, metrics
from tlx.methods.bootstrap import Intervals, intervals_each
from tlx.methods.metrics import Counts
from tlx.methods.shares import Share
from tlx.tasks.checks import check_labels, check_smoothing, check_weights, some_labels
from tlx.tasks.head_losses import CrossEntropy
from tlx.tasks.heads import linear_head
from tlx.tasks.task import Collected, Losses, PlainTask, Report

KIND = "single"
VIEWS = ("per_class", "confusion", "calibration", "errors")
METRICS: dict[str, str] = {
    "accuracy": "max",
    "balanced_accuracy": "max",
    "macro_f1": "max",
    "top5": "max",
    "loss": "min",
    "ece": "min",
    "brier": "min",
}
LARGEST_CONFUSION = 200
EVERY_PROBABILITY = 20


def classification(
    labels: Labels, *, class_weights: Annotated[list[float] | None, Range(least=0)] = None
) -> "Classification":
    """A task of choosing one class; monitors `accuracy`.

    Args:
        labels: of kind `single`.
        class_weights: weight of an item's loss by its class, in the order of the names.

    Raises:
        ValueError: labels of another kind, or weights that do not fit them.
    """
    check_labels(labels, kind=KIND, least=2)
    return Classification(
        labels=labels, class_weights=check_weights("class_weights", class_weights, labels)
    )


def stand_in(*, class_weights: list[float] | None = None) -> Labels:
    """Labels for a network that is made without data: as many as are weighed."""
    return some_labels(KIND, len(class_weights or ()))


@final
@dataclass(frozen=True)
class Classification(PlainTask):
    """Softmax cross-entropy over the classes of `labels`; see the protocol Task.

    Attributes:
        labels: the classes.
        class_weights: weight of an item's loss by its class, or None.
        monitor: metric that selection looks at by default.
    """

    exclusive: ClassVar[bool] = True

    labels: Labels
    class_weights: tuple[float, ...] | None = None
    monitor: str = "accuracy"

    @property
    def targets(self) -> ClassTargets:
        """See the protocol Task."""
        return ClassTargets(self.labels)

    @property
    def directions(self) -> Mapping[str, str]:
        """METRICS, without `top5` where five classes or fewer make it pointless."""
        few = len(self.labels.names) <= 5
        return {name: way for name, way in METRICS.items() if not (few and name == "top5")}

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A linear head with one logit a class."""
        return linear_head(backbone, len(self.labels.names), dropout=dropout)

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """Cross-entropy [N] and weights [N].

        A soft target weighs as the average of its classes. Unlike torch's, class weights never
        reach the smoothed share of a target: it is the item that is weighted.

        Args:
            outputs: logits [N, C].
            batch: with `target` [N] int64, or [N, C] of probabilities.
            smoothing: share of the target spread evenly over all classes.
        """
        check_smoothing(smoothing)
        target = batch["target"]
        log_NC = outputs.float().log_softmax(1)
        soft = target.is_floating_point()
        nll = F.nll_loss  # deterministic on every device, unlike the gradient of `gather`
        loss_N = -(target * log_NC).sum(1) if soft else nll(log_NC, target, reduction="none")
        if smoothing:
            loss_N = (1 - smoothing) * loss_N - smoothing * log_NC.mean(1)
        return {"loss": (loss_N, self._weight(batch))}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """Of each item [N], by its class."""
        return {"loss": self._weight(batch)}

    def _weight(self, batch: Batch) -> Tensor:
        target: Tensor = batch["target"]
        if self.class_weights is None:
            return torch.ones(len(target), device=target.device)
        weights_C = torch.tensor(self.class_weights, device=target.device)
        if target.is_floating_point():
            return target.to(weights_C.dtype) @ weights_C
        return weights_C[target]

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """`logits` [N, C] and `target` [N]; a soft target counts as its likeliest class."""
        target = batch["target"]
        if target.is_floating_point():
            target = target.argmax(1)
        return {"logits": outputs.detach().float().cpu(), "target": target.detach().cpu()}

    def metrics(self, collected: Collected) -> dict[str, float]:
        """All figures of `directions`."""
        return self.metrics_each(_of_one(collected))[0]

    def metrics_each(self, collected: Collected) -> list[dict[str, float]]:
        """What `metrics` gives for each of G runs that were judged on the same items."""
        items = self._items(collected)
        figures = self._figures(items, metrics.ones(len(items.target_N)))
        columns = [values[:, 0].tolist() for values in figures.values()]
        return [dict(zip(figures, row, strict=True)) for row in zip(*columns, strict=True)]

    def report(self, collected: Collected) -> Report:
        """Final figures with bootstrap intervals, by class, calibration, confusion.

        An item whose logits hold a NaN has no prediction: it counts as wrong and is in no column
        of the confusion matrix, which is left out (None) above 200 classes.
        """
        return self.report_each(_of_one(collected))[0]

    def report_each(self, collected: Collected) -> list[Report]:
        """What `report` gives for each of G runs that were judged on the same items."""
        items = self._items(collected)
        n = len(items.target_N)
        counts = self._counts(items, metrics.ones(n))
        found = intervals_each(
            lambda weights_BN: self._figures(items, weights_BN), n, shares=_shares(counts)
        )
        return [
            self._report(
                items.of(run),
                figures,
                Counts(counts.hits[run], counts.predicted[run], counts.support),
            )
            for run, figures in enumerate(found)
        ]

    def _report(self, items: "_Items", figures: Intervals, counts: Counts) -> Report:
        names, predicted_N = self.labels.names, items.predicted_N
        matrix = None
        if len(names) <= LARGEST_CONFUSION:
            matrix = metrics.confusion(predicted_N, items.target_N, classes=len(names)).tolist()
        return {
            "n": len(items.target_N),
            "metrics": figures,
            "per_class": per_class(names, counts),
            "confusion": matrix,
            "calibration": {
                "definition": calibration.DEFINITION,
                "ece": figures["ece"]["value"],
                "nll": figures["loss"]["value"],
                "brier": figures["brier"]["value"],
                "bins": calibration.reliability(items.scores.confidence, items.correct_N),
            },
            "invalid": int((predicted_N < 0).sum()),
        }

    def columns(self, collected: Collected) -> Columns:
        """`label`, `prediction`, `probabilities` (the five highest above 20 classes)."""
        names, logits_NC = self.labels.names, collected["logits"]
        return {
            "label": Named(names, collected["target"].tolist()),
            "prediction": Named(names, _predicted(logits_NC).tolist()),
            "probabilities": likeliest(names, logits_NC.softmax(1)),
        }

    def shown(self, report: Report) -> Mapping[str, Making]:
        """The confusion of classes, where there are not too many."""
        counts = report["confusion"]
        return {} if counts is None else {"confusion": partial(Matrix, self.labels.names, counts)}

    def solver(self) -> CrossEntropy:
        """See the protocol Task."""
        return CrossEntropy(self.class_weights)

    def each(self) -> "Classification":
        """Itself."""
        return self

    def _items(self, collected: Collected) -> "_Items":
        logits_NC, target_N = collected["logits"], collected["target"]
        predicted_N = _predicted(logits_NC)
        return _Items(
            target_N=target_N,
            predicted_N=predicted_N,
            correct_N=predicted_N == target_N,
            scores=calibration.scores(logits_NC, target_N),
            top_N=metrics.in_top(logits_NC, target_N, k=5) if "top5" in self.directions else None,
        )

    def _counts(self, items: "_Items", weights_BN: Tensor) -> Counts:
        return metrics.class_counts(
            items.predicted_N, items.target_N, classes=len(self.labels.names), weights_BN=weights_BN
        )

    def _figures(self, items: "_Items", weights_BN: Tensor) -> dict[str, Tensor]:
        """Each figure's values [..., B]."""
        counts = self._counts(items, weights_BN)
        each = {"accuracy": items.correct_N, "loss": items.scores.nll, "brier": items.scores.brier}
        if items.top_N is not None:
            each["top5"] = items.top_N
        means = metrics.weighted_mean(
            torch.stack([value.double() for value in each.values()]), weights_BN
        )
        found = dict(zip(each, means, strict=True))
        figures = {
            "accuracy": found.pop("accuracy"),
            "balanced_accuracy": metrics.balanced_accuracy(counts),
            "macro_f1": metrics.macro_f1(counts),
            "loss": found.pop("loss"),
            "ece": calibration.expected_calibration_error(
                items.scores.confidence, items.correct_N, weights_BN=weights_BN
            ),
        }
        return figures | found


@dataclass(frozen=True)
class _Items:
    """What the figures need of each item: targets [N], all else [..., N]."""

    target_N: Tensor
    predicted_N: Tensor
    correct_N: Tensor
    scores: calibration.Scores
    top_N: Tensor | None

    def of(self, run: int) -> "_Items":
        """Those of one of G runs."""
        scores = self.scores
        return _Items(
            target_N=self.target_N,
            predicted_N=self.predicted_N[run],
            correct_N=self.correct_N[run],
            scores=calibration.Scores(scores.nll[run], scores.brier[run], scores.confidence[run]),
            top_N=None if self.top_N is None else self.top_N[run],
        )


def _of_one(collected: Collected) -> Collected:
    """What was collected of one run as of a group of runs."""
    return {**collected, "logits": collected["logits"][None]}


def likeliest(names: tuple[str, ...], shares_NC: Tensor) -> Ranked:
    """The probabilities of an item's likeliest classes, of all where there are few."""
    shown = len(names) if len(names) <= EVERY_PROBABILITY else 5
    values, classes = shares_NC.topk(shown, dim=1)
    return Ranked(names, classes.T.tolist(), values.T.tolist())


def per_class(names: tuple[str, ...], counts: Counts) -> list[dict[str, object]]:
    """`name`, `precision`, `recall`, `f1`, `support` of each class, from counts [1, C]."""
    columns = zip(
        names,
        metrics.precision(counts)[0].tolist(),
        metrics.recall(counts)[0].tolist(),
        metrics.f1(counts)[0].tolist(),
        counts.support[0].tolist(),
        strict=True,
    )
    return [
        {"name": name, "precision": p, "recall": r, "f1": f, "support": int(s)}
        for name, p, r, f, s in columns
    ]


def _shares(counts: Counts) -> dict[str, Share]:
    """What the figures are whose values have ends; counts [G, 1, C]."""
    support_C = counts.support[0]
    return {
        "accuracy": Share(counted=True),
        "top5": Share(counted=True),
        "balanced_accuracy": Share(of=metrics.recall(counts)[:, 0], items=support_C),
        "macro_f1": Share(of=metrics.f1(counts)[:, 0], items=support_C),
        "ece": Share(),
        "brier": Share(most=2.0),
    }


def _predicted(logits_NC: Tensor) -> Tensor:
    """Likeliest class [..., N], -1 where a logit is NaN (argmax would name the NaN's class)."""
    return logits_NC.argmax(-1).masked_fill(logits_NC.isnan().any(-1), -1)
