"""What a task must be: a loss an item that can be learnt from, and figures of what was said."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tlx.backbones.backbone import Backbone, Features
from tlx.backbones.own import wrapped
from tlx.data.images.spec import ImageSpec
from tlx.data.splits import Batch, Labels
from tlx.tasks.task import Task
from tlx.testing.contract import Contract, seeded

ITEMS, WIDTH = 12, 6


class TaskContract(Contract):
    """Of a task's function: `make(labels)` gives the task.

    Attributes:
        labels: those that it is tried with.
        raw: targets of some items as a source gives them, at least 8.
    """

    labels = Labels("single", ("a", "b"))
    raw: Sequence[object] = tuple(i % 2 for i in range(ITEMS))

    def make(self, labels: Labels) -> Task:
        """The task."""
        raise NotImplementedError

    def backbone(self) -> Backbone:
        """A network whose features the head reads; called with a seed."""
        return wrapped(
            torch.nn.Linear(WIDTH, WIDTH),
            ImageSpec((3, 8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0),
            width=WIDTH,
            parts=[""],
        )

    def inputs(self, items: int) -> object:
        """Its inputs; called with a seed."""
        return torch.randn(items, WIDTH)

    def _tried(self) -> tuple[Task, Tensor, Batch, torch.nn.Module]:
        """Task, outputs, batch and head."""
        task = self.make(self.labels)
        with seeded(0):
            backbone = self.backbone()
            head = task.head(backbone, dropout=0.0)
            inputs = self.inputs(len(self.raw))
        encoded = [task.targets.encode(raw) for raw in self.raw]
        batch: Batch = {
            "input": inputs,
            "target": task.targets.collate(encoded, inputs),
            "index": torch.arange(len(self.raw)),
        }
        features: Features = backbone.features(backbone.module, inputs)
        return task, head(features), batch, head

    def test_its_targets_are_checked(self) -> None:
        """What a source gives fits; an item without a target has a stand-in."""
        task = self.make(self.labels)
        self.assertEqual(task.targets.kind, self.labels.kind)
        for raw in self.raw:
            self.assertIsNone(task.targets.check(raw))

    def test_each_item_has_losses_and_weights(self) -> None:
        """Vectors [N]; the weights are known before any network has seen the batch."""
        task, outputs, batch, _ = self._tried()
        weights = task.weights(batch)
        for name, (loss, weight) in task.losses(outputs, batch).items():
            self.assertEqual(loss.shape, (len(self.raw),), name)
            self.assertTrue(bool(loss.isfinite().all()), f"{name} is not finite")
            self.same(weight.detach(), weights[name], f"`weights` gives others of {name}")

    def test_the_head_learns(self) -> None:
        """A few steps on a batch lower what trains."""
        task, _, batch, head = self._tried()
        with seeded(0):
            backbone = self.backbone()
        trained = [*backbone.module.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(trained, lr=0.05)
        seen = []
        for _ in range(30):
            optimizer.zero_grad()
            features: Features = backbone.features(backbone.module, batch["input"])
            pairs = task.losses(head(features), batch).values()
            terms = [(loss * weight).sum() / weight.sum() for loss, weight in pairs]
            value = torch.stack(terms).sum()
            value.backward()
            optimizer.step()
            seen.append(value.item())
        self.assertLess(seen[-1], seen[0], "its loss has no way down")

    def test_its_figures_are_those_it_names(self) -> None:
        """On validation and at the end, each with a direction; what selection looks at is there."""
        task, outputs, batch, _ = self._tried()
        collected = task.collect(outputs.detach(), batch)
        found = task.metrics(collected)
        self.assertEqual(sorted(found.keys() - task.directions.keys()), [])
        self.assertIn(task.monitor, found)
        self.assertLessEqual(set(task.directions.values()), {"max", "min"})
        report = task.report(collected)
        self.assertEqual(sorted(report["metrics"].keys() - task.directions.keys()), [])
        for name, value in found.items():
            self.assertTrue(math.isfinite(value), f"{name} is {value}")

    def test_it_says_something_of_each_item(self) -> None:
        """Columns of the predictions file, a cell an item, in their order."""
        task, outputs, batch, _ = self._tried()
        columns = task.columns(task.collect(outputs.detach(), batch))
        self.assertTrue(columns, "it says nothing of an item")
        for name, column in columns.items():
            self.assertEqual(sum(1 for _ in column), len(self.raw), f"column {name!r}")
