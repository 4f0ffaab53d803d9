"""Language modelling: the next token, or tokens that were masked.

Shapes: N windows, T tokens, V entries of the vocabulary, B weightings of the windows.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast, final

import torch.nn.functional as F
from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.base.cells import Columns
from tlx.base.ranges import Range
from tlx.data.inputs import Spec
from tlx.data.splits import IGNORED, Batch, Labels, Split
from tlx.data.targets import TextTargets
from tlx.data.text.inputs import WindowedText
from tlx.data.text.spec import TextSpec
from tlx.methods import metrics
from tlx.methods.bootstrap import intervals
from tlx.methods.shares import Share
from tlx.tasks.checks import check_labels, check_smoothing
from tlx.tasks.heads import LanguageHead
from tlx.tasks.samples import samples
from tlx.tasks.task import Collected, Losses, PlainTask, Report

KIND = "text"
VIEWS = ("samples",)
METRICS: dict[str, str] = {
    "perplexity": "min",
    "word_perplexity": "min",
    "bits_per_character": "min",
    "accuracy": "max",
    "loss": "min",
}
OF_TOKENS = ("perplexity", "accuracy", "loss")
"""Figures that mean something for masked tokens too."""


def language_modeling(
    labels: Labels,
    *,
    objective: Literal["causal", "masked"] = "causal",
    block: Annotated[int, Range(least=2)] = 128,
    stride: Annotated[int | None, Range(least=1)] = None,
    mask_rate: Annotated[float, Range(above=0, below=1)] = 0.15,
) -> "LanguageModeling":
    """A task of predicting tokens of the text itself; monitors `perplexity`.

    Args:
        labels: of kind `text`.
        objective: `causal` predicts each token from those before it, `masked` those that were
            hidden from all others.
        block: tokens of a window.
        stride: tokens by which evaluation moves on from window to window; each token is counted
            once, with at least `block - stride` before it, but at the text's beginning. None: half
            a block. Of `causal` alone.
        mask_rate: share of tokens that are hidden. Of `masked` alone.

    Raises:
        ValueError: labels of another kind, or numbers out of range.

    Source: of masking, Devlin et al. 2019, "BERT", section 3.1.
    """
    check_labels(labels, kind=KIND, least=0)
    if block < 2 or not 1 <= (block if stride is None else stride) <= block:
        raise ValueError(
            f"task.block={block}, task.stride={stride}; give a block of 2 or more, and a stride of "
            "1 to a block"
        )
    if not 0 < mask_rate < 1:
        raise ValueError(f"task.mask_rate={mask_rate}; give a share between 0 and 1, as 0.15")
    if objective not in ("causal", "masked"):
        raise ValueError(f"task.objective={objective!r}; give causal or masked")
    return LanguageModeling(
        labels=labels,
        objective=objective,
        block=block,
        stride=max(block // 2, 1) if stride is None else stride,
        mask_rate=mask_rate,
    )


@final
@dataclass(frozen=True)
class LanguageModeling(PlainTask):
    """Softmax cross-entropy over the vocabulary, token by token; see the protocol Task.

    Attributes:
        labels: of kind `text`.
        objective: `causal` or `masked`.
        block: tokens of a window.
        stride: of evaluation.
        mask_rate: share of tokens that are hidden.
        monitor: metric that selection looks at by default.
    """

    exclusive: ClassVar[bool] = True

    labels: Labels
    objective: str
    block: int
    stride: int
    mask_rate: float
    monitor: str = "perplexity"

    @property
    def targets(self) -> TextTargets:
        """See the protocol Task."""
        return TextTargets(self.labels)

    @property
    def reads(self) -> str:
        """One vector a token."""
        return "token"

    @property
    def input_spec(self) -> Mapping[str, object]:
        """What it reads, and how windows are made."""
        shared = {"unit": self.reads, "objective": self.objective, "block": self.block}
        if self.objective == "masked":
            return {**shared, "mask_rate": self.mask_rate}
        return {**shared, "stride": self.stride, "begins": True}

    @property
    def directions(self) -> Mapping[str, str]:
        """METRICS; for masked tokens those of tokens alone."""
        masked = self.objective == "masked"
        return {name: way for name, way in METRICS.items() if not masked or name in OF_TOKENS}

    def head(self, backbone: Backbone, *, dropout: float) -> nn.Module:
        """The backbone's own language-model head.

        Raises:
            ValueError: it has none, or one of the other objective.
        """
        if backbone.lm_head is None:
            raise ValueError(
                "the backbone has no language-model head; choose a backbone that is a language "
                "model, as gpt2 or bert_base (tlx list backbone)"
            )
        causal = isinstance(backbone.reads, TextSpec) and backbone.reads.causal
        own = "causal" if causal else "masked"
        if own != self.objective:
            other = {"causal": "language_modeling", "masked": "masked_language_modeling"}[own]
            raise ValueError(
                f"the backbone is a {own} language model, and task.objective is {self.objective}; "
                f"choose task={other}, or another backbone"
            )
        return LanguageHead(backbone.lm_head(), dropout=dropout)

    def losses(self, outputs: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Losses:
        """Mean cross-entropy of a window's tokens [N], and how many there are [N].

        Their weighted mean is that over all tokens.

        Args:
            outputs: logits [N, T, V].
            batch: with `target`, whose `labels` [N, T] are -100 where nothing is asked.
            smoothing: share of the target spread evenly over the vocabulary.
        """
        check_smoothing(smoothing)
        labels_NT = batch["target"]["labels"]
        nll_NT = F.cross_entropy(
            outputs.float().flatten(0, 1),
            labels_NT.flatten(),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
            reduction="none",
        ).view_as(labels_NT)
        count_N = self.weights(batch)["loss"]
        return {"loss": (nll_NT.sum(1) / count_N.clamp(min=1), count_N)}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """How many tokens of each window are asked [N]."""
        labels_NT: Tensor = batch["target"]["labels"]
        return {"loss": (labels_NT != IGNORED).sum(1).float()}

    def places(self, batch: Batch) -> Tensor:
        """One for each token."""
        count: Tensor = batch["input"]["attention_mask"].bool().sum()
        return count

    def collect(self, outputs: Tensor, batch: Batch) -> Collected:
        """`loss`, `tokens`, `right`, `words`, `characters`, `spelled` of each window [N].

        `spelled`: nats of the characters that no token tells (`tlx.methods.spelling`).
        """
        labels_NT = batch["target"]["labels"]
        loss_N, count_N = self.losses(outputs, batch)["loss"]
        right_N = ((outputs.argmax(2) == labels_NT) & (labels_NT != IGNORED)).sum(1)
        return {
            "loss": loss_N,
            "tokens": count_N,
            "right": right_N,
            "words": batch["target"]["words"],
            "characters": batch["target"]["characters"],
            "spelled": batch["target"]["spelled"],
        }

    def metrics(self, collected: Collected) -> dict[str, float]:
        """All figures of `directions`."""
        figures = self._figures(collected, metrics.ones(len(collected["loss"])))
        return {name: float(value[0]) for name, value in figures.items()}

    def report(self, collected: Collected) -> Report:
        """Final figures with intervals over windows."""
        n = len(collected["loss"])
        return {
            "n": n,
            "metrics": intervals(
                lambda weights_BN: self._figures(collected, weights_BN),
                n,
                shares={"accuracy": Share()},
            ),
            "invalid": int(collected["loss"].isnan().sum()),
        }

    def columns(self, collected: Collected) -> Columns:
        """`loss` (nats a token), `tokens`, `words`, `characters` and `spelled` of each window."""
        keys = ("loss", "tokens", "words", "characters", "spelled")
        return {key: collected[key].tolist() for key in keys}

    def generated(
        self, network: nn.Module, split: Split, spec: Spec, *, seed: int
    ) -> Mapping[str, str]:
        """`samples.json`: how a causal model goes on from a few texts."""
        if self.objective != "causal":
            return {}
        written = samples(network, cast(WindowedText, split), cast(TextSpec, spec), seed=seed)
        text = json.dumps(written, indent=1, ensure_ascii=False)
        return {"samples.json": f"{text}\n"} if written else {}

    def _figures(self, collected: Collected, weights_BN: Tensor) -> dict[str, Tensor]:
        weights_BN = weights_BN.double()
        tokens_N = collected["tokens"].double()
        nats_B = weights_BN @ (collected["loss"].double() * tokens_N)
        loss_B = nats_B / (weights_BN @ tokens_N)

        # a token for what is unknown does not tell the text: its characters are charged
        told_B = nats_B + weights_BN @ collected["spelled"].double()

        def each(key: str) -> Tensor:
            return told_B / (weights_BN @ collected[key].double())

        figures = {
            "perplexity": loss_B.exp(),
            "word_perplexity": each("words").exp(),
            "bits_per_character": each("characters") / math.log(2),
            "accuracy": (weights_BN @ collected["right"].double()) / (weights_BN @ tokens_N),
            "loss": loss_B,
        }
        return {name: figures[name] for name in self.directions}
