"""A task of somebody's own, in one file: whether an item's class is odd."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from tlx.base.shown import Lines
from tlx.report.arms_shown import on_split
from tlx.report.figure import Figure, Variant
from tlx.report.formats import Column, Table
from tlx.tasks.heads import linear_head
from tlx.tasks.task import PlainTask

KIND = "single"
METRICS = {"right": "max", "loss": "min"}
VIEWS = ("parity",)
PART = "Parity"


def parity(labels, *, sharpness: float = 1.0):
    """A task of telling odd classes from even ones; monitors `right`."""
    return Parity(labels, sharpness)


@dataclass(frozen=True)
class Odd:
    """One number an item."""

    kind: ClassVar[str] = KIND
    noun: ClassVar[str] = "classes"
    of_inputs: ClassVar[bool] = False

    def encode(self, raw):
        return torch.tensor([float(raw % 2)])

    def collate(self, targets, inputs):
        return torch.stack(list(targets))

    def nothing(self, item):
        return 0

    def soft(self, target):
        return target

    def written(self, raw):
        return "odd" if raw % 2 else "even"

    def check(self, raw):
        return None


@dataclass(frozen=True)
class Parity(PlainTask):
    labels: object
    sharpness: float
    monitor: str = "right"
    exclusive: bool = False
    directions: ClassVar[dict] = METRICS
    targets: ClassVar[Odd] = Odd()

    def head(self, backbone, *, dropout):
        return linear_head(backbone, 1, dropout=dropout)

    def losses(self, outputs, batch, *, smoothing=0.0):
        loss = F.binary_cross_entropy_with_logits(
            self.sharpness * outputs, batch["target"], reduction="none"
        )
        margin = outputs.square() / 100
        weight = self.weights(batch)["right"]
        return {"right": (loss[:, 0], weight), "size": (margin[:, 0], weight)}

    def weights(self, batch):
        ones = torch.ones(len(batch["target"]), device=batch["target"].device)
        return {"right": ones, "size": ones}

    def collect(self, outputs, batch):
        return {"odd": outputs[:, 0], "target": batch["target"][:, 0]}

    def metrics(self, collected):
        loss = F.binary_cross_entropy_with_logits(collected["odd"], collected["target"])
        right = (collected["odd"] > 0) == (collected["target"] > 0)
        return {"right": float(right.float().mean()), "loss": float(loss)}

    def report(self, collected):
        n = len(collected["odd"])
        values = self.metrics(collected)
        return {
            "n": n,
            "metrics": {k: {"value": v, "low": v, "high": v, "n": n} for k, v in values.items()},
            "views": {"parity": {"odd": int((collected["odd"] > 0).sum())}},
        }

    def columns(self, collected):
        return {"label": collected["target"].tolist(), "odd": collected["odd"].tolist()}

    def files(self, collected, raw):
        return {".odd": "".join(f"{raw.ids[i]}\n" for i in (collected["odd"] > 0).nonzero()[:, 0])}

    def shown(self, report):
        return {"odd": lambda: Lines(["odd"], [[report["views"]["parity"]["odd"]]])}


def tables(study):
    rows = [
        [arm, sum(record.views["parity"]["odd"] for record in on_split(study, arm, study.split))]
        for arm in study.arms
    ]
    columns = [Column(key="arm", label="Arm"), Column(key="odd", label="Odd", kind="count")]
    return [Table(name="parity", title="study: odd ones", columns=columns, rows=rows)]


def figures(study, styles):
    trace = {"type": "bar", "x": list(study.arms), "y": [1 for _ in study.arms]}
    variant = Variant(key=(), traces=[trace], layout={})
    return [Figure(name="parity", title="Odd ones", caption="All.", variants=[variant])]
