"""One class a word: named entities, parts of speech, kinds of source code.

Shapes: N items, W words, C tags, K kinds of entities, B weightings of the items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.base.cells import Columns
from tlx.base.ranges import Range
from tlx.data.splits import IGNORED, Batch, Labels, Split
from tlx.data.targets import WordTargets
from tlx.data.text import columns
from tlx.methods import entities, metrics
from tlx.methods.bootstrap import Metric, intervals
from tlx.methods.metrics import Counts
from tlx.methods.shares import Share
from tlx.tasks.checks import check_labels, check_smoothing
from tlx.tasks.classification import per_class
from tlx.tasks.heads import TokenHead
from tlx.tasks.task import Collected, Losses, PlainTask, Report

KIND = "tags"
VIEWS = ("per_class", "entities")
METRICS: dict[str, str] = {
    "f1": "max",
    "precision": "max",
    "recall": "max",
    "macro_f1": "max",
    "accuracy": "max",
    "loss": "min",
}


def token_classification(
    labels: Labels, *, outside_weight: Annotated[float, Range(above=0)] = 1.0
) -> "TokenClassification":
    """A task of one tag a word; monitors `f1`, over entities.

    Args:
        labels: of kind `tags`, in IOB2: `O`, `B-…`, `I-…`.
        outside_weight: weight of the loss of words outside entities, which are most.

    Raises:
        ValueError: labels of another kind, or a weight that is not above 0.
    """
    check_labels(labels, kind=KIND, least=2)
    if not outside_weight > 0:
        raise ValueError(f"task.outside_weight={outside_weight}; give a number above 0")
    return TokenClassification(labels=labels, outside_weight=outside_weight)


def stand_in(**arguments: object) -> Labels:
    """Tags for a network that is made without data."""
    return Labels(KIND, ("O", "B-0"))


@final
@dataclass(frozen=True)
class TokenClassification(PlainTask):
    """Softmax cross-entropy over the tags of each word; see the protocol Task.

    A word's vector is that of its first sub-word; words that truncation cut off count as predicted
    to be outside any entity, and not in the loss.

    Attributes:
        labels: the tags.
        outside_weight: weight of words outside entities.
        monitor: metric that selection looks at by default.
    """

    exclusive: ClassVar[bool] = True

    labels: Labels
    outside_weight: float = 1.0
    monitor: str = "f1"

    @property
    def targets(self) -> WordTargets:
        """See the protocol Task."""
        return WordTargets(self.labels)

    @property
    def reads(self) -> str:
        """One vector a word."""
        return "word"

    @property
    def input_spec(self) -> Mapping[str, object]:
        """What it reads."""
        return {"unit": self.reads}

    @property
    def directions(self) -> Mapping[str, str]:
        """METRICS."""
        return METRICS

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """A linear head with one logit a tag, for each word."""
        return TokenHead(backbone.dims["tokens"], len(self.labels.names), dropout=dropout)

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """Mean cross-entropy of an item's words [N], and the weight of its words [N].

        Their weighted mean is that over all words.

        Args:
            outputs: logits [N, W, C].
            batch: with `target` [N, W], -100 where there is no word, or [N, W, C] of
                probabilities, 0 where there is none; and `input` whose `words` are -1 where one
                was cut off.
            smoothing: share of the target spread evenly over all tags.
        """
        check_smoothing(smoothing)
        log_NWC = outputs.float().log_softmax(2)
        soft_NWC = self.targets.soft(batch["target"])
        nll_NW = -(soft_NWC * log_NWC).sum(2)
        if smoothing:
            nll_NW = (1 - smoothing) * nll_NW - smoothing * log_NWC.mean(2)
        weight_NW = self._weight_of_words(batch, soft_NWC)
        weight_N = weight_NW.sum(1)
        return {"loss": ((nll_NW * weight_NW).sum(1) / weight_N.clamp(min=1e-9), weight_N)}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """The weight of each item's words [N]."""
        weight_NW = self._weight_of_words(batch, self.targets.soft(batch["target"]))
        return {"loss": weight_NW.sum(1)}

    def places(self, batch: Batch) -> Tensor:
        """One for each word that was not cut off."""
        count: Tensor = (batch["input"]["words"] >= 0).sum()
        return count

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """`predicted` and `target` [N, W], -100 where there is no word; `loss` and `weight` [N]."""
        target = batch["target"]
        loss_N, weight_N = self.losses(outputs, batch)["loss"]
        if target.is_floating_point():
            target = target.argmax(2).masked_fill(target.sum(2) == 0, IGNORED)
        predicted_NW = outputs.argmax(2)
        if isinstance(batch.get("input"), Mapping):
            predicted_NW = predicted_NW.masked_fill(batch["input"]["words"] < 0, self._outside)
        return {
            "predicted": predicted_NW.masked_fill(target == IGNORED, IGNORED),
            "target": target,
            "loss": loss_N,
            "weight": weight_N,
        }

    def metrics(self, collected: Collected) -> dict[str, float]:
        """All figures of METRICS; F1, precision and recall over entities, of all kinds together."""
        figures = self._figures(collected)(metrics.ones(len(collected["target"])))
        return {name: float(value[0]) for name, value in figures.items()}

    def report(self, collected: Collected) -> Report:
        """Final figures with intervals over sentences, and those of each kind of entity."""
        n = len(collected["target"])
        names = entities.kinds(self.labels.names)
        each = self._counts(collected)
        counts = entities.weighted(each, metrics.ones(n))
        return {
            "n": n,
            "metrics": intervals(self._figures(collected), n, shares=_shares(each, counts)),
            "per_class": per_class(names, counts),
            "invalid": int(collected["loss"].isnan().sum()),
        }

    def columns(self, collected: Collected) -> Columns:
        """`label` and `prediction`: the tags of an item's words, with blanks between."""
        target, predicted = self._tags(collected)
        return {"label": list(map(" ".join, target)), "prediction": list(map(" ".join, predicted))}

    def files(self, collected: Collected, raw: Split) -> Mapping[str, str]:
        """`.conll`: a word a line with its tag and the predicted one, as scorers read it."""
        words = (raw[index]["input"] for index in range(len(raw)))
        return {".conll": columns.text(zip(words, *self._tags(collected), strict=True))}

    @property
    def _outside(self) -> int:
        return self.labels.names.index("O")

    def _weight_of_words(self, batch: Batch, soft_NWC: Tensor) -> Tensor:
        """Of each word [N, W]; 0 where there is none, or where it was cut off."""
        weight_NW = soft_NWC.sum(2) - (1 - self.outside_weight) * soft_NWC[..., self._outside]
        if isinstance(batch.get("input"), Mapping):
            weight_NW = weight_NW * (batch["input"]["words"] >= 0)
        return weight_NW

    def _tags(self, collected: Collected) -> tuple[list[list[str]], list[list[str]]]:
        """The words' tags, target and predicted."""
        names = self.labels.names
        words = (collected["target"] != IGNORED).sum(1).tolist()
        target, predicted = (
            [
                [names[tag] for tag in row[:count]]
                for row, count in zip(collected[key].tolist(), words, strict=True)
            ]
            for key in ("target", "predicted")
        )
        return target, predicted

    def _counts(self, collected: Collected) -> tuple[Tensor, Tensor, Tensor]:
        target, predicted = self._tags(collected)
        return entities.counted(predicted, target, names=entities.kinds(self.labels.names))

    def _figures(self, collected: Collected) -> Metric:
        counts = self._counts(collected)
        there_NW = collected["target"] != IGNORED
        right_N = ((collected["predicted"] == collected["target"]) & there_NW).sum(1).double()
        words_N = there_NW.sum(1).double()
        loss_N, weight_N = collected["loss"].double(), collected["weight"].double()

        def figures(weights_BN: Tensor) -> dict[str, Tensor]:
            every = entities.weighted(counts, weights_BN)
            one = entities.micro(every)
            weights_BN = weights_BN.double()
            return {
                "f1": metrics.f1(one)[:, 0],
                "precision": metrics.precision(one)[:, 0],
                "recall": metrics.recall(one)[:, 0],
                "macro_f1": metrics.macro_f1(every),
                "accuracy": (weights_BN @ right_N) / (weights_BN @ words_N),
                "loss": (weights_BN @ (loss_N * weight_N)) / (weights_BN @ weight_N),
            }

        return figures


def _shares(each: tuple[Tensor, Tensor, Tensor], counts: Counts) -> dict[str, Share]:
    """What the figures of entities are whose values have ends: sentences speak for them."""
    _, predicted_NK, there_NK = (part > 0 for part in each)

    def items(has_NK: Tensor) -> Tensor:
        return has_NK.any(1).sum()[None]

    one = entities.micro(counts)
    return {
        "f1": Share(of=metrics.f1(one), items=items(predicted_NK | there_NK)),
        "precision": Share(of=metrics.precision(one), items=items(predicted_NK)),
        "recall": Share(of=metrics.recall(one), items=items(there_NK)),
        "macro_f1": Share(of=metrics.f1(counts), items=(predicted_NK | there_NK).sum(0)),
        "accuracy": Share(),
    }
