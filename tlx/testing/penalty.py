"""What a penalty must be: a number of each step, whose gradient reaches weights."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tlx.backbones.backbone import Features
from tlx.methods.step import Step
from tlx.testing.contract import Contract, seeded
from tlx.training.effects import Effects, Penalty

ITEMS, INPUTS, WIDTH, CLASSES = 8, 6, 5, 3


class MadeNetwork(nn.Module):
    """Two layers with dropout between them, and a head; parameters are named as a run's are."""

    def __init__(self) -> None:
        """Draws its weights."""
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Tanh(), nn.Dropout(0.2))
        self.head = nn.Linear(WIDTH, CLASSES)

    def with_features(self, inputs: Tensor) -> tuple[Features, Tensor]:
        """Features and logits of [N, 6]."""
        features = Features(pooled=self.backbone(inputs))
        return features, self.head(features.pooled)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of [N, 6]."""
        return self.with_features(inputs)[1]


def step() -> Step:
    """A step of training a made network, whose weights have moved from their start."""
    network = MadeNetwork()
    anchor = {n: p.detach().clone() for n, p in network.named_parameters() if n[:4] != "head"}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch: dict[str, Any] = {
        "input": torch.randn(ITEMS, INPUTS),
        "target": torch.arange(ITEMS) % CLASSES,
        "index": torch.arange(ITEMS),
    }
    features, outputs = network.with_features(batch["input"])
    names = frozenset(name for name, _ in network.named_parameters())
    return Step(batch, features, outputs, network, names, anchor, global_step=3)


class PenaltyContract(Contract):
    """Of a regularization option with a penalty: `make()` gives its effects.

    What needs another network or task overrides `step`.
    """

    def make(self) -> Effects:
        """The effects, with a strength that can be seen."""
        raise NotImplementedError

    def step(self) -> Step:
        """A step of training, on which it is tried; called with a seed."""
        return step()

    def _penalties(self) -> list[Penalty]:
        parts = [part for part in self.make().parts if isinstance(part, Penalty)]
        self.assertTrue(parts, "it has no Penalty among its effects")
        return parts

    def _value(self, penalty: Penalty, *, seed: int = 0) -> tuple[Tensor, Step]:
        with seeded(seed):
            seen = self.step()
            if not penalty.reads_anchor:  # a run keeps no starting weights for it either
                seen = replace(seen, anchor={})
            return penalty.of(seen), seen

    def test_it_is_a_finite_number(self) -> None:
        """A tensor without dimensions."""
        for penalty in self._penalties():
            value, _ = self._value(penalty)
            self.assertEqual(value.shape, (), "a penalty is one number: take the mean over items")
            self.assertTrue(math.isfinite(value.item()), f"the penalty is {value.item()}")

    def test_it_changes_what_trains(self) -> None:
        """Its gradient is not zero everywhere: else it does nothing."""
        for penalty in self._penalties():
            value, seen = self._value(penalty)
            self.assertTrue(value.requires_grad, "it has no gradient: it is computed of no weights")
            trained = {n: p for n, p in seen.network.named_parameters() if n in seen.trainable}
            found = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
            moved = [n for n, g in zip(trained, found, strict=True) if g is not None and g.any()]
            self.assertTrue(moved, "its gradient is zero for every parameter: it does nothing")

    def test_it_leaves_the_step_as_it_was(self) -> None:
        """Weights and batch are others' too."""
        for penalty in self._penalties():
            with seeded(0):
                before = self.step()
            _, seen = self._value(penalty)
            weights, still = seen.network.state_dict(), before.network.state_dict()
            self.same(weights, still, "it changed weights or statistics")
            self.same(dict(seen.batch), dict(before.batch), "it changed the batch")

    def test_it_draws_as_it_is_seeded(self) -> None:
        """Equal draws give equal numbers: a run that goes on repeats none by chance."""
        for penalty in self._penalties():
            first, second = self._value(penalty)[0], self._value(penalty)[0]
            self.same(first.detach(), second.detach(), "two values of one step differ")
