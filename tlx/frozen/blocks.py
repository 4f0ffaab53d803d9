"""Some heads of a stack: forward, gradient and update, in buffers made beforehand.

Shapes: g runs of a block, B items of a batch, D features, C outputs, R rows: g times C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.frozen.rules import UpdateRule
from tlx.tasks.head_losses import HeadLoss


@final
@dataclass(frozen=True)
class Block:
    """Some runs of a stack, as views; so few that what a step touches stays in the cache."""

    span: slice
    layers: list[tuple[Tensor, Tensor]]
    slots: list[list[Tensor]]
    grads: list[Tensor]
    outputs: list[Tensor]
    errors: list[Tensor]
    smoothing_g: Tensor | None
    norm_g: Tensor | None
    decays: bool

    def gradient(self, inputs: Tensor, targets: Tensor, *, loss: HeadLoss) -> Tensor:
        """Loss [g]; writes the gradient of every parameter (a mutator)."""
        forward(self.layers, inputs, self.outputs)
        loss_g = loss.gradient(
            self.outputs[-1], targets, smoothing_g=self.smoothing_g, out=self.errors[-1]
        )
        for depth in reversed(range(len(self.layers))):
            error_gCB = self.errors[depth]
            below = inputs if depth == 0 else self.outputs[depth - 1].transpose(1, 2)
            grad_gCD, grad_gC = self.grads[2 * depth : 2 * depth + 2]
            if below.ndim == 2:  # features that all runs share: one product for all of them
                torch.mm(error_gCB.flatten(0, 1), below, out=grad_gCD.flatten(0, 1))
            else:
                torch.bmm(error_gCB, below, out=grad_gCD)
            torch.sum(error_gCB, 2, out=grad_gC)
            if depth:
                weight_gCD, active = self.layers[depth][0], self.outputs[depth - 1] > 0
                torch.bmm(weight_gCD.transpose(1, 2), error_gCB, out=self.errors[depth - 1])
                # the ReLU between, whose output is 0 just where it passes nothing on
                self.errors[depth - 1].masked_fill_(~active, 0)
        return loss_g

    def clip(self) -> None:
        """Scales gradients down to the runs' norms (a mutator), as `clip_grad_norm_`."""
        if self.norm_g is None:
            return
        norms = [torch.linalg.vector_norm(each.flatten(1), dim=1) for each in self.grads]
        total_g = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factor_g = (self.norm_g / (total_g + 1e-6)).clamp(max=1)
        # a run without clipping, whose own norm may be infinite
        factor_g = torch.where(self.norm_g.isinf(), 1, factor_g)
        for each in self.grads:
            each.flatten(1).mul_(factor_g[:, None])

    def update(self, rule: UpdateRule, factors: Sequence[Tensor]) -> None:
        """Moves every parameter (a mutator)."""
        values = [each for layer in self.layers for each in layer]
        for each, grad, slots in zip(values, self.grads, self.slots, strict=True):
            rule.update(
                each.flatten(1),
                grad.flatten(1),
                slots=[slot.flatten(1) for slot in slots],
                factors=factors,
                decays=self.decays and each.ndim == 3,
            )


def forward(layers: Sequence[tuple[Tensor, Tensor]], inputs: Tensor, out: Sequence[Tensor]) -> None:
    """Writes each layer's outputs [g, C, B] to `out`, those between layers after the ReLU."""
    below = inputs
    for depth, ((weight_gCD, bias_gC), out_gCB) in enumerate(zip(layers, out, strict=True)):
        if depth:
            below = out[depth - 1].relu_().transpose(1, 2)
        if below.ndim == 2:  # all runs in one product
            weight_RD, bias_R1 = weight_gCD.flatten(0, 1), bias_gC.flatten()[:, None]
            torch.addmm(bias_R1, weight_RD, below.T, out=out_gCB.flatten(0, 1))
        else:
            torch.baddbmm(bias_gC[:, :, None], weight_gCD, below.transpose(1, 2), out=out_gCB)
