"""Optimizers: one function each, from parameter groups that already carry their learning rates.

`layer_decay`, `layer_decay_groups` and `carry` shape the groups and the state between stages;
`group_scales` and the training loop read them from the same node, the optimizers ignore them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from tlx.frozen.rules import AdamW, Sgd

ParamGroups = list[dict[str, object]]

SOLVES = ("lbfgs",)
"""Those that solve for a linear head instead of stepping towards it."""

STACKS = {"adamw": "adamw_of_a_stack", "sgd": "sgd_of_a_stack"}
"""Those whose steps the heads of many runs can take as one, to what makes a run's part of them."""


def can_fuse(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether torch's fused kernels take all parameters: floating point, on CPU or CUDA."""
    return all(
        p.is_floating_point() and p.device.type in {"cpu", "cuda"}
        for group in groups
        for p in group["params"]
    )


def _fused(groups: ParamGroups, fused: bool | None) -> bool:
    return can_fuse(groups) if fused is None else fused


def adamw(
    param_groups: ParamGroups,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    fused: bool | None = None,
    layer_decay: float = 1.0,
    layer_decay_groups: Literal["fine", "coarse"] = "fine",
    carry: Literal["previous", "all", "none"] = "previous",
) -> Optimizer:
    """Adam with decoupled weight decay.

    Args:
        param_groups: groups with their own `lr` and `weight_decay`.
        lr: base learning rate; groups scale it.
        betas: decay rates of the two moments.
        eps: added to the denominator.
        fused: torch's fused kernel; null: where the parameters allow it.
        layer_decay: factor per layer group from the head down; 1 is off.
        layer_decay_groups: which groups the factor counts.
        carry: whose optimizer state enters the next stage: of what trained in the stage just
            before, of all that ever trained, or none.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """
    return torch.optim.AdamW(
        param_groups, lr=lr, betas=betas, eps=eps, fused=_fused(param_groups, fused)
    )


def adamw_of_a_stack(*, betas: Sequence[float], eps: float, **_: object) -> AdamW:
    """What a run with `adamw` brings into a stack; takes its arguments."""
    first, second = betas
    return AdamW(betas=(first, second), eps=eps)


def adam(
    param_groups: ParamGroups,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    fused: bool | None = None,
    layer_decay: float = 1.0,
    layer_decay_groups: Literal["fine", "coarse"] = "fine",
    carry: Literal["previous", "all", "none"] = "previous",
) -> Optimizer:
    """Adam with weight decay added to the gradient; arguments as for `adamw`.

    Source: Kingma and Ba 2015, algorithm 1.
    """
    return torch.optim.Adam(
        param_groups, lr=lr, betas=betas, eps=eps, fused=_fused(param_groups, fused)
    )


def sgd(
    param_groups: ParamGroups,
    *,
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    layer_decay: float = 1.0,
    layer_decay_groups: Literal["fine", "coarse"] = "fine",
    carry: Literal["previous", "all", "none"] = "previous",
) -> Optimizer:
    """Stochastic gradient descent; `nesterov` needs a positive momentum, as in torch.

    Not fused: torch's kernel (2.15) refuses groups of which only some have momentum yet, as after
    a layer has thawed.

    Source: Sutskever et al. 2013, section 2.
    """
    return torch.optim.SGD(
        param_groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0
    )


def sgd_of_a_stack(*, momentum: float, nesterov: bool, **_: object) -> Sgd:
    """What a run with `sgd` brings into a stack; takes its arguments."""
    return Sgd(momentum=momentum, nesterov=nesterov and momentum > 0)


def lion(
    param_groups: ParamGroups,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    layer_decay: float = 1.0,
    layer_decay_groups: Literal["fine", "coarse"] = "fine",
    carry: Literal["previous", "all", "none"] = "previous",
) -> Optimizer:
    """Lion: the sign of an interpolated momentum; wants 3 to 10 times less lr than AdamW.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.
    """
    from timm.optim import Lion

    optimizer: Optimizer = Lion(param_groups, lr=lr, betas=betas)
    return optimizer


def timm(
    param_groups: ParamGroups,
    *,
    name: str,
    lr: float,
    kwargs: dict[str, Any] | None = None,
    layer_decay: float = 1.0,
    layer_decay_groups: Literal["fine", "coarse"] = "fine",
    carry: Literal["previous", "all", "none"] = "previous",
) -> Optimizer:
    """Any optimizer that timm offers, by its name there (`timm.optim.list_optimizers()`).

    Raises:
        ValueError: timm has no optimizer of that name.
    """
    import difflib

    from timm.optim import create_optimizer_v2, list_optimizers

    known = [str(each) for each in list_optimizers()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise ValueError(f"optimizer.name={name!r} is not in timm; nearest: {', '.join(near)}")
    optimizer: Optimizer = create_optimizer_v2(param_groups, opt=name, lr=lr, **(kwargs or {}))
    return optimizer


MOST_BEYOND = 12
"""Steps of a path of penalties beyond one of its ends: of the default one, six powers of ten."""


@dataclass(frozen=True)
class Lbfgs:
    """How a linear head is solved; see `lbfgs`, and `training.probe`, which does it.

    Attributes:
        penalties: strongest first.
        tolerance: of the solution that is kept.
        path_tolerance: of those on the way.
        patience: penalties without a better validation, after which weaker ones are left out.
        most_iterations: of each.
        extend: whether the path goes on beyond the penalties while its end is the best.
    """

    penalties: tuple[float, ...]
    tolerance: float = 0.01
    path_tolerance: float = 0.5
    patience: int | None = 3
    most_iterations: int = 1000
    extend: bool = True

    @property
    def most_passes(self) -> int:
        """Passes over the training data that it takes at most."""
        if len(self.penalties) == 1:
            return self.most_iterations + 1
        # each at most twice, roughly and to the end, and the best once more
        solutions = 2 * (len(self.penalties) + 2 * MOST_BEYOND * self.extend) + 1
        return solutions * (self.most_iterations + 1)

    def around(self, penalty: float, tried: Iterable[float]) -> tuple[float, ...]:
        """The next stronger and the next weaker penalty.

        Beyond the path's ends they are in steps of its own mean ratio, `MOST_BEYOND` at most.

        Args:
            penalty: of the path, or beyond it.
            tried: those that there are, beside the path.

        >>> [round(p, 4) for p in Lbfgs((1.0, 0.1, 0.01)).around(0.01, ())]
        [0.1, 0.001]
        """
        row = sorted({*self.penalties, *tried}, reverse=True)
        place = row.index(penalty)
        near = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
        if self.extend and penalty in (row[0], row[-1]):
            first, last = self.penalties[0], self.penalties[-1]
            ratio = (last / first) ** (1 / (len(self.penalties) - 1))
            further = penalty / ratio if penalty == row[0] else penalty * ratio
            most = ratio ** -(MOST_BEYOND + 0.5)
            if last / most < further < first * most:
                near.append(further)
        return tuple(near)


def lbfgs(
    *,
    penalties: list[float],
    tolerance: float = 0.01,
    path_tolerance: float = 0.5,
    patience: int | None = 3,
    most_iterations: int = 1000,
    extend: bool = True,
) -> Lbfgs:
    """Solves a linear head on frozen features instead of training it, penalty by penalty.

    The trainer's budget and batch size do not apply: it ends when it has converged.

    Args:
        penalties: L2 penalties of the head's weight, of which validation chooses; each solution
            starts from the one for the next stronger penalty.
        tolerance: norm of the gradient over that of the penalty's part in it, which bounds the
            relative error of the weight; of the solution that is kept.
        path_tolerance: the same, of solutions on the way, of which the best on validation and its
            neighbours are then solved to `tolerance` and compared.
        patience: when so many penalties in a row have given neither a better monitored figure nor a
            lower loss on validation, weaker ones are not tried; null: all are.
        most_iterations: of each; where they are not enough, a note says so.
        extend: where the strongest or the weakest of several penalties is the best, the path goes
            on beyond it while its end is the best, for 12 steps of its own mean ratio at most.

    Source: Kornblith et al. 2019, "Do Better ImageNet Models Transfer Better?", appendix; the range
    of penalties is ours.
    """
    return Lbfgs(
        tuple(sorted(penalties, reverse=True)),
        tolerance=tolerance,
        path_tolerance=path_tolerance,
        patience=patience,
        most_iterations=most_iterations,
        extend=extend,
    )
