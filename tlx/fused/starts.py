"""What a stack's heads start from: weights, optimizers, schedules."""

import importlib
import json
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tlx.config.solving import stacks_as
from tlx.frozen.heads import Start
from tlx.frozen.rules import AdamW, Sgd
from tlx.fused.members import Member
from tlx.training.effects import Clipping, Decay, Smoothing


def start_of(member: Member) -> Start:
    """Where the run's head starts, and how it trains."""
    option, recipe = member.entrant.run.optimizer, member.plan.recipe
    module, _, maker = str(stacks_as(option.target)).rpartition(".")
    make: Callable[..., Sgd | AdamW] = getattr(importlib.import_module(module), maker)
    device = member.data.features["train"].device
    return Start(
        parameters={n: p.detach().to(device) for n, p in member.head.named_parameters()},
        optimizer=make(**option.arguments),
        lr=recipe.lr,
        weight_decay=recipe.effects.value(Decay, 0.0),
        smoothing=recipe.effects.value(Smoothing, 0.0),
        max_norm=recipe.effects.value(Clipping, math.inf),
    )


def factors_of(members: Sequence[Member], steps: int) -> Tensor:
    """Learning-rate factors [G, steps], computed once for each schedule."""
    factors: dict[str, list[float]] = {}
    rows = []
    for member in members:
        key = json.dumps(member.entrant.run.plain["schedule"], sort_keys=True, default=str)
        if key not in factors:
            schedule = member.plan.recipe.schedule
            factors[key] = [schedule.factor(step, steps) for step in range(steps)]
        rows.append(factors[key])
    return torch.tensor(rows, dtype=torch.float64)
