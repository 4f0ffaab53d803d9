"""What a stack's heads start from: weights, optimizers, schedules."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tlx.frozen.heads import Start
from tlx.frozen.rules import AdamW, Sgd
from tlx.fused.members import OPTIMIZERS, Member
from tlx.training.effects import Clipping, Decay, Smoothing


def start_of(member: Member) -> Start:
    """Where the run's head starts, and how it trains."""
    option, recipe = member.given.run.optimizer, member.plan.recipe
    arguments = option.arguments
    kind: Any = OPTIMIZERS[option.target]
    if kind is Sgd:
        momentum = arguments["momentum"]
        optimizer: Any = Sgd(momentum=momentum, nesterov=arguments["nesterov"] and momentum > 0)
    else:
        optimizer = AdamW(betas=tuple(arguments["betas"]), eps=arguments["eps"])
    device = member.data.features["train"].device
    return Start(
        parameters={n: p.detach().to(device) for n, p in member.head.named_parameters()},
        optimizer=optimizer,
        lr=recipe.lr,
        weight_decay=recipe.effects.value(Decay, 0.0),
        smoothing=recipe.effects.value(Smoothing, 0.0),
        max_norm=recipe.effects.value(Clipping, math.inf),
    )


def factors_of(members: Sequence[Member], steps: int) -> Tensor:
    """Learning-rate factors [G, steps], computed once for each schedule."""
    known: dict[str, list[float]] = {}
    rows = []
    for member in members:
        key = json.dumps(member.given.run.plain["schedule"], sort_keys=True, default=str)
        if key not in known:
            schedule = member.plan.recipe.schedule
            known[key] = [schedule.factor(step, steps) for step in range(steps)]
        rows.append(known[key])
    return torch.tensor(rows, dtype=torch.float64)
