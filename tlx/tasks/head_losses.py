"""What tasks' losses are for a stack of heads: values and gradients, written by hand.

Shapes: g runs, C outputs, B items of a batch.
"""

from dataclasses import dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor


class HeadLoss(Protocol):
    """A task's loss as mean over the batch, and its gradient with respect to the outputs."""

    def gradient(
        self, outputs_gCB: Tensor, targets: Tensor, *, smoothing_g: Tensor | None, out: Tensor
    ) -> Tensor:
        """Loss of each run [g]; writes the gradient to `out` [g, C, B].

        Args:
            outputs_gCB: may be overwritten.
            targets: as the task's, with a first dimension of g, or of 1 where all runs share them.
            smoothing_g: label smoothing, or None where no run has any.
            out: none of the other arguments.
        """
        ...


@final
@dataclass(frozen=True)
class CrossEntropy:
    """That of `tasks.classification`, targets [., B] int64.

    Attributes:
        class_weights: weight of an item's loss by its class, or None.
    """

    class_weights: tuple[float, ...] | None = None

    def gradient(
        self, outputs_gCB: Tensor, targets: Tensor, *, smoothing_g: Tensor | None, out: Tensor
    ) -> Tensor:
        """See the protocol HeadLoss."""
        runs, classes, items = outputs_gCB.shape
        index_g1B = targets[:, None].expand(runs, 1, items)
        share: Tensor | float = 1 / items
        if self.class_weights is not None:
            weight = outputs_gCB.new_tensor(self.class_weights)[targets]
            # where no item weighs anything there is nothing to learn, and no 0 / 0
            share = (weight / weight.sum(1, keepdim=True).clamp(min=1e-30))[:, None]
        torch.log_softmax(outputs_gCB, 1, out=out)
        log_g1B = out.gather(1, index_g1B)
        loss_g1B, target_g1B = -log_g1B, log_g1B.exp() - 1
        if smoothing_g is None:
            out.exp_()
        else:
            smoothing_g11 = smoothing_g[:, None, None]
            loss_g1B *= 1 - smoothing_g11
            loss_g1B -= smoothing_g11 * out.mean(1, keepdim=True)
            target_g1B += smoothing_g11 * (1 - 1 / classes)
            out.exp_().sub_(smoothing_g11 / classes)
        out.mul_(share).scatter_(1, index_g1B, target_g1B * share)
        return (loss_g1B * share).sum((1, 2))


@final
@dataclass(frozen=True)
class BinaryCrossEntropy:
    """That of `tasks.multi_label`, targets [., B, C].

    Attributes:
        positive_weights: weight of each label's loss where it is present, or None.
    """

    positive_weights: tuple[float, ...] | None = None

    def gradient(
        self, outputs_gCB: Tensor, targets: Tensor, *, smoothing_g: Tensor | None, out: Tensor
    ) -> Tensor:
        """See the protocol HeadLoss."""
        target = targets.transpose(1, 2).to(outputs_gCB.dtype)
        if smoothing_g is not None:
            target = target + smoothing_g[:, None, None] * (0.5 - target)
        target = target.expand_as(outputs_gCB)
        torch.sigmoid(outputs_gCB, out=out)
        weights_C1 = None
        if self.positive_weights is None:
            out.sub_(target)
        else:
            weights_C1 = outputs_gCB.new_tensor(self.positive_weights)[:, None]
            out.mul_(1 + (weights_C1 - 1) * target).sub_(weights_C1 * target)
        out.div_(outputs_gCB[0].numel())
        return F.binary_cross_entropy_with_logits(
            outputs_gCB, target, pos_weight=weights_C1, reduction="none"
        ).mean((1, 2))


@final
@dataclass(frozen=True)
class Error:
    """That of `tasks.regression`, targets [., B, C], or [., B] where C is 1.

    Attributes:
        criterion: `mse`, `mae` or `huber`.
    """

    criterion: str = "mse"

    def gradient(
        self, outputs_gCB: Tensor, targets: Tensor, *, smoothing_g: Tensor | None, out: Tensor
    ) -> Tensor:
        """See the protocol HeadLoss."""
        if smoothing_g is not None:
            raise ValueError("smoothing means nothing in regression; give 0")
        target = targets[:, None] if targets.ndim == 2 else targets.transpose(1, 2)
        torch.sub(outputs_gCB, target, out=out)
        share = 1 / outputs_gCB[0].numel()
        if self.criterion == "mse":
            loss_g = out.square().sum((1, 2))
            out.mul_(2)
        elif self.criterion == "mae":
            loss_g = out.abs().sum((1, 2))
            out.sign_()
        else:
            loss_g = F.huber_loss(out, torch.zeros_like(out), reduction="none").sum((1, 2))
            out.clamp_(-1, 1)
        out.mul_(share)
        return loss_g * share
