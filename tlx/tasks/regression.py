"""One or several real numbers an item, whatever the item is.

Shapes: N items, K quantities, B weightings of the items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.base.cells import Columns
from tlx.data.splits import Batch, Labels
from tlx.data.targets import KINDS, Targets
from tlx.methods import metrics
from tlx.methods.bootstrap import intervals
from tlx.tasks.checks import check_labels
from tlx.tasks.head_losses import Error
from tlx.tasks.heads import linear_head
from tlx.tasks.task import Collected, Losses, PlainTask, Report

KIND = "real"
VIEWS = ("per_class",)
METRICS: dict[str, str] = {"rmse": "min", "mse": "min", "mae": "min", "r2": "max", "loss": "min"}
CRITERIA: dict[str, Callable[..., Tensor]] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
}


def regression(
    labels: Labels, *, criterion: Literal["mse", "mae", "huber"] = "mse"
) -> "Regression":
    """A task of predicting real numbers, on the scale of the data; monitors `rmse`.

    Args:
        labels: of kind `real`.
        criterion: what is minimised, averaged over the quantities; `huber` has its bend at 1.

    Raises:
        ValueError: labels of another kind, or an unknown criterion.
    """
    check_labels(labels, kind=KIND, least=1)
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r}; it is one of {', '.join(CRITERIA)}")
    return Regression(labels=labels, criterion=criterion)


@final
@dataclass(frozen=True)
class Regression(PlainTask):
    """Squared, absolute or Huber error; see the protocol Task.

    Attributes:
        labels: the quantities.
        criterion: key of CRITERIA.
        monitor: metric that selection looks at by default.
    """

    exclusive: ClassVar[bool] = False

    labels: Labels
    criterion: str = "mse"
    monitor: str = "rmse"

    @property
    def targets(self) -> Targets:
        """See the protocol Task."""
        return KINDS[KIND](self.labels)

    @property
    def directions(self) -> Mapping[str, str]:
        """METRICS."""
        return METRICS

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A linear head with one output a quantity."""
        return linear_head(backbone, len(self.labels.names), dropout=dropout)

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """The criterion, averaged over the quantities [N], and weights of 1 [N].

        Args:
            outputs: [N, K].
            batch: with `target` [N, K], or [N] where K is 1.
            smoothing: must be 0: there are no classes to spread a target over.
        """
        if smoothing:
            raise ValueError(
                f"smoothing={smoothing} means nothing in regression; "
                "take label_smoothing out of regularization"
            )
        target_NK = self._target(batch)
        if target_NK.shape != outputs.shape:
            raise ValueError(f"target {tuple(target_NK.shape)}, outputs {tuple(outputs.shape)}")
        loss_N = self._criterion(outputs.float(), target_NK.float())
        return {"loss": (loss_N, self.weights(batch)["loss"])}

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """`predicted` and `target`, [N, K] each."""
        return {
            "predicted": outputs.detach().float().cpu(),
            "target": self._target(batch).detach().float().cpu(),
        }

    def metrics(self, collected: Collected) -> dict[str, float]:
        """All figures of METRICS, averaged over the quantities (rmse: root of their mean mse)."""
        figures = self._figures(collected, metrics.ones(len(collected["target"])))
        return {name: float(value[0]) for name, value in figures.items()}

    def report(self, collected: Collected) -> Report:
        """Final figures with bootstrap intervals, and `mse`, `mae`, `r2` of each quantity."""
        n = len(collected["target"])
        weights_1N = metrics.ones(n)
        lines = []
        for index, name in enumerate(self.labels.names):
            predicted_N = collected["predicted"][:, index]
            target_N = collected["target"][:, index]
            error_N = predicted_N.double() - target_N.double()
            lines.append(
                {
                    "name": name,
                    "mse": float(metrics.weighted_mean(error_N.square(), weights_1N)),
                    "mae": float(metrics.weighted_mean(error_N.abs(), weights_1N)),
                    "r2": float(metrics.r2(predicted_N, target_N, weights_BN=weights_1N)),
                }
            )
        return {
            "n": n,
            "metrics": intervals(lambda weights_BN: self._figures(collected, weights_BN), n),
            "per_class": lines,
            "invalid": int(collected["predicted"].isnan().any(1).sum()),
        }

    def columns(self, collected: Collected) -> Columns:
        """`label` and `prediction`: name of the quantity -> number."""
        named = {"label": collected["target"], "prediction": collected["predicted"]}
        return {
            key: [dict(zip(self.labels.names, row, strict=True)) for row in values_NK.tolist()]
            for key, values_NK in named.items()
        }

    def solver(self) -> Error:
        """See the protocol Task."""
        return Error(self.criterion)

    def _target(self, batch: Batch) -> Tensor:
        target: Tensor = batch["target"]
        return target[:, None] if target.ndim == 1 else target

    def _criterion(self, predicted_NK: Tensor, target_NK: Tensor) -> Tensor:
        return CRITERIA[self.criterion](predicted_NK, target_NK, reduction="none").mean(1)

    def _figures(self, collected: Collected, weights_BN: Tensor) -> dict[str, Tensor]:
        predicted_NK, target_NK = collected["predicted"].double(), collected["target"].double()
        error_NK = predicted_NK - target_NK
        mse = metrics.weighted_mean(error_NK.square().mean(1), weights_BN)
        quantities = zip(predicted_NK.unbind(1), target_NK.unbind(1), strict=True)
        r2 = torch.stack([metrics.r2(p, t, weights_BN=weights_BN) for p, t in quantities])
        return {
            "rmse": mse.sqrt(),
            "mse": mse,
            "mae": metrics.weighted_mean(error_NK.abs().mean(1), weights_BN),
            "r2": r2.mean(0),
            "loss": metrics.weighted_mean(self._criterion(predicted_NK, target_NK), weights_BN),
        }
