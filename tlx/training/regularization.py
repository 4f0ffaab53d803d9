"""Regularization options: one function each, returning its effects."""

from functools import partial

from torch import Tensor

from tlx.backbones.backbone import Backbone
from tlx.backbones.text.noise import add_noise, noise_table
from tlx.methods import penalties
from tlx.methods.averaging import warmed_decay
from tlx.methods.step import Step
from tlx.tasks.heads import add_norm
from tlx.tasks.task import Network
from tlx.training.effects import (
    Arguments,
    Averaging,
    Clipping,
    Decay,
    Effects,
    Penalty,
    Setting,
    Smoothing,
    SparedTrunk,
    Stopping,
    Surgery,
)


def weight_decay(*, value: float = 0.05) -> Effects:
    """Weight decay, never on norms, biases or what the network exempts.

    Raises:
        ValueError: `value` is negative.
    """
    return Effects(Decay(_at_least_0("weight_decay.value", value)))


def dropout(*, p: float = 0.1) -> Effects:
    """Dropout of the features just before the head's last layer."""
    return Effects(Arguments(head={"dropout": _probability("dropout", p)}))


def head_norm() -> Effects:
    """Batch norm of the features before the head, without weights of its own.

    Features of any scale and offset then suit the same learning rate.

    Source: Howard and Ruder 2018, "ULMFiT", 1801.06146, section 3.3; He et al. 2022, "Masked
    Autoencoders", 2111.06377, appendix A.1 (linear probing).
    """

    def fits(setting: Setting) -> str | None:
        if setting.norm_stats != "freeze":
            return None
        return (
            "measures statistics, and frozen.norm_stats=freeze lets no norm do so; leave one of "
            "them out"
        )

    def operate(network: Network, backbone: Backbone) -> None:
        add_norm(network.head)

    return Effects(Surgery(operate, fits=fits), Arguments(head={"bias": True}))


def drop_path(*, p: float = 0.1) -> Effects:
    """Stochastic depth in the backbone, growing linearly to `p` at the top block.

    Source: Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3.
    """
    return Effects(Arguments(backbone={"drop_path_rate": _probability("drop_path", p)}))


def label_smoothing(*, eps: float = 0.1) -> Effects:
    """Cross-entropy to (1 - eps) of the label plus eps of the uniform distribution.

    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """
    return Effects(Smoothing(_probability("label_smoothing", eps, name="eps")))


def l2_sp(*, alpha: float = 0.01, beta: float = 0.01) -> Effects:
    """Pulls the trunk to its starting weights; weight decay then rules the head alone.

    Args:
        alpha: strength towards the starting weights, on the trunk.
        beta: strength towards zero, on the head.

    Source: Li et al. 2018, "Explicit Inductive Bias for Transfer Learning", equation 3.
    """
    if alpha < 0 or beta < 0:
        raise ValueError(
            f"regularization.l2_sp: alpha={alpha}, beta={beta}; both must be 0 or more"
        )

    def penalty(step: Step) -> Tensor:
        parameters = dict(step.network.named_parameters())
        trunk = {n: parameters[n] for n in step.anchor if n in step.trainable}
        head = [p for n, p in parameters.items() if n.startswith("head.") and n in step.trainable]
        return penalties.l2_sp(trunk, step.anchor, head, alpha=alpha, beta=beta)

    return Effects(Penalty(penalty, reads_anchor=True), SparedTrunk())


def r_drop(*, alpha: float = 1.0) -> Effects:
    """Pulls two passes with different dropout to the same probabilities; for classes alone.

    Twice the time of a step. Without dropout in the network it is zero. The mean is over items, or
    over the words or tokens of all of them.

    Raises:
        ValueError: `alpha` is negative.

    Source: Liang et al. 2021, "R-Drop", 2106.14448, section 2.
    """
    _at_least_0("r_drop.alpha", alpha)

    def penalty(step: Step) -> Tensor:
        again = step.network(step.batch["input"])
        mask = step.features.mask if step.outputs.ndim > 2 else None
        return penalties.r_drop(step.outputs, again, alpha=alpha, mask=mask)

    def fits(setting: Setting) -> str | None:
        if setting.task.exclusive:
            return None
        return (
            "compares the probabilities of classes of which one is right, and the task "
            f"{type(setting.task).__name__} has none; leave it out"
        )

    return Effects(
        Penalty(penalty, rows=lambda b, task: task.places(b), fits=fits, reads_inputs=True)
    )


def neftune(*, alpha: float = 5.0) -> Effects:
    """Uniform noise on the embeddings of tokens, in training only; for texts alone.

    It shrinks with the longest text of those that are computed at once: with `trainer.accumulate`
    or on several devices, of a part of the batch.

    Raises:
        ValueError: `alpha` is negative.

    Source: Jain et al. 2023, "NEFTune", 2310.05914, algorithm 1.
    """
    _at_least_0("neftune.alpha", alpha)

    def fits(setting: Setting) -> str | None:
        if noise_table(setting.backbone) is not None:
            return None
        return (
            "is noise on token embeddings, and this backbone has none; leave it out, or choose "
            "another backbone"
        )

    return Effects(
        Surgery(
            partial(add_noise, alpha=alpha), fits=fits, reads_inputs=True, of_whole_batches=True
        )
    )


def grad_clip(*, max_norm: float = 1.0) -> Effects:
    """Clips the norm of the whole gradient."""
    if max_norm <= 0:
        raise ValueError(f"regularization.grad_clip.max_norm={max_norm} must be above 0")
    return Effects(Clipping(max_norm))


def early_stopping(*, patience: int = 5, min_delta: float = 0.0) -> Effects:
    """Ends the run when validation has not improved for `patience` validations."""
    if patience < 1:
        raise ValueError(f"regularization.early_stopping.patience={patience} must be 1 or more")
    return Effects(Stopping(patience, min_delta))


def ema(*, decay: float = 0.999, start_fraction: float = 0.0) -> Effects:
    """Exponential moving average of weights and float buffers, with a warmed-up decay.

    Averaged weights are validated, selected and kept. Before the average starts, the raw
    weights are; if it never starts, they stay.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima", and timm's warm-up.
    """
    _probability("ema", decay, name="decay")
    if not 0 <= start_fraction < 1:
        raise ValueError(
            f"regularization.ema.start_fraction={start_fraction}; give a fraction in [0, 1)"
        )
    return Effects(Averaging(partial(warmed_decay, decay=decay), start_fraction))


def _at_least_0(key: str, value: float) -> float:
    if value < 0:
        raise ValueError(f"regularization.{key}={value} is negative; give 0 or more")
    return value


def _probability(option: str, value: float, *, name: str = "p") -> float:
    if not 0 <= value < 1:
        raise ValueError(f"regularization.{option}.{name}={value}; give a value in [0, 1)")
    return value
