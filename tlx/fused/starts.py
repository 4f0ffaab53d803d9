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
    node, recipe = member.given.config["optimizer"], member.plan.recipe
    kind: Any = OPTIMIZERS[node["_target_"]]
    if kind is Sgd:
        momentum = node["momentum"]
        optimizer: Any = Sgd(momentum=momentum, nesterov=node["nesterov"] and momentum > 0)
    else:
        optimizer = AdamW(betas=tuple(node["betas"]), eps=node["eps"])
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
        key = json.dumps(member.given.config["schedule"], sort_keys=True, default=str)
        if key not in known:
            schedule = member.plan.recipe.schedule
            known[key] = [schedule.factor(step, steps) for step in range(steps)]
        rows.append(known[key])
    return torch.tensor(rows, dtype=torch.float64)
