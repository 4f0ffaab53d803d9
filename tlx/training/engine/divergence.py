"""Training that has lost its numbers: where it did, and which keys to turn to."""

import itertools
import math
from collections.abc import Mapping
from typing import final

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from tlx.training.engine.module import TransferModule

LOOK_EVERY = 20
"""Steps between looks at losses on a device, which would otherwise wait for each of them."""

REMEDY = "lower optimizer.lr, add regularization=[grad_clip], or use trainer.precision=32"


class Diverged(RuntimeError):
    """The loss, the weights or the optimizer's state are not finite."""


def check_validation(metrics: Mapping[str, float], *, monitored: str, step: int) -> None:
    """Raises Diverged where a validation's loss or monitored figure is not a number."""
    if any(math.isnan(metrics.get(name, 0.0)) for name in ("loss", monitored)):
        raise Diverged(
            f"validation at step {step} gave {metrics}: weights or running statistics are not "
            f"finite; {REMEDY}"
        )


@final
class Losses:
    """The losses of a module's steps, looked at before anything is saved that they have spoilt."""

    def __init__(self, module: TransferModule) -> None:
        """Looks at the module's."""
        self.module = module

    def look(self, trainer: pl.Trainer) -> None:
        """After a step: at once where that waits for no device, else now and then.

        Raises:
            Diverged: a loss is not finite.
        """
        step = self.module.step
        if trainer.world_size == 1 and self.module.device.type == "cpu":
            newest = itertools.takewhile(lambda part: part[0] == step, reversed(self.module.losses))
            if all(math.isfinite(loss.item()) for _, loss in newest):
                return
        elif step % LOOK_EVERY:
            return
        self.check(trainer)

    def check(self, trainer: pl.Trainer) -> None:
        """Passes losses since the last check that are finite; every rank asks at the same step.

        Raises:
            Diverged: one is not; on every rank, with the first such step.
        """
        losses, self.module.losses = self.module.losses, []
        if not losses:
            return
        values = torch.stack([loss for _, loss in losses])
        bad = (~values.isfinite()).nonzero()
        first = int(bad[0]) if len(bad) else -1
        never = 2**62
        step = losses[first][0] if len(bad) else never
        if trainer.world_size > 1:
            everywhere = torch.tensor(step, device=values.device)
            dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
            step = int(everywhere)
        if step == never:
            return
        value, before = values[first].item(), values[:first].tolist()
        found = "on another rank" if math.isfinite(value) else f"{value}"
        was = f", {before[-1]:.4g} just before" if before else ""
        raise Diverged(
            f"the training loss is not finite at step {step} ({found}{was}): "
            f"{_remedy(trainer, step=step, lr=self.module.recipe.lr)}; nothing was saved since"
        )


def _remedy(trainer: pl.Trainer, *, step: int, lr: float) -> str:
    """The keys that are likely to help, likeliest first."""
    half = [] if str(trainer.precision).startswith(("32", "64")) else ["use trainer.precision=32"]
    if step == 1:  # nothing has been learnt yet: no learning rate is to blame
        return " or ".join([*half, "look at the data, and at the weights of backbone.init"])
    clip = ["add regularization=[grad_clip]"] if trainer.gradient_clip_val is None else []
    return ", or ".join([f"lower optimizer.lr={lr:g}, or warm it up", *clip, *half])


def unusual(network: nn.Module) -> frozenset[str]:
    """Names of buffers that hold infinities from the start, as masks do."""
    return frozenset(
        name for name, buffer in network.named_buffers() if not buffer.isfinite().all()
    )
