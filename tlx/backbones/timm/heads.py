"""A linear head in the form that a network of timm has for its classifier, or its classifiers."""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
TOLERANCE = 1e-4
"""Of the largest output: rounding of a norm that does nothing, and of a mean of two classifiers."""


class NoPlace(ValueError):
    """A network of timm has no place for a linear head on its pooled features."""


def placed(full: nn.Module, own: Collection[str], *, weight: Tensor, bias: Tensor) -> State:
    """What a network with classifiers holds beside its trunk, when all of them are this head.

    Distilled networks give the mean of two classifiers (DeiT, LeViT, EfficientFormer): that of two
    equal ones is theirs, and a linear one's of the mean of two tokens is the mean of its outputs.
    Some have a norm before their classifier (LeViT, RepViT): it gets the statistics and weights
    with which it does nothing.

    Args:
        full: the network with classifiers.
        own: names of the trunk's state.
        weight: of the head, [outputs, features].
        bias: of the head, [outputs].

    Raises:
        NoPlace: it has anything else beside its trunk.
    """
    beside = [name for name in full.state_dict() if name not in own]
    owners = dict.fromkeys(name.rpartition(".")[0] for name in beside)
    state: State = {}
    linear = 0
    for owner in owners:
        module = full.get_submodule(owner)
        if _is_linear(module) and module.bias is not None:
            linear += 1
            state[f"{owner}.weight"] = weight.reshape(
                *weight.shape, *module.get_parameter("weight").shape[2:]
            )
            state[f"{owner}.bias"] = bias
        elif isinstance(module, nn.BatchNorm1d) and module.running_var is not None:
            state |= {f"{owner}.{name}": tensor for name, tensor in _nothing(module, weight.device)}
        else:
            raise NoPlace(
                f"beside its trunk it has {owner or beside[0]!r} ({type(module).__name__}), which "
                "is no linear classifier"
            )
    if not linear or state.keys() != set(beside):
        raise NoPlace(f"beside its trunk it has {', '.join(beside) or 'nothing'}")
    return state


def lacking(full: nn.Module, own: Collection[str], *, width: int) -> str:
    """Why a linear head on its features cannot be exported; empty where it can, for all is known.

    Args:
        full: the network with classifiers of two outputs, on the meta device.
        own: names of the trunk's state.
        width: of the pooled features.
    """
    weight, bias = (torch.empty(shape, device="meta") for shape in ((2, width), (2,)))
    target = full.state_dict()
    try:
        state = placed(full, own, weight=weight, bias=bias)
    except NoPlace as error:
        return str(error)
    wrong = [name for name in state if target[name].shape != state[name].shape]
    wrong += [name for name in own if name not in target]
    return f"it differs in {', '.join(wrong[:5])}" if wrong else ""


def is_plain(state: Mapping[str, Tensor]) -> bool:
    """Whether a head is in one place alone, so that there is nothing to try."""
    return len(state) == 2


def check_outputs(full: nn.Module, trunk: nn.Module, images: Tensor, head: nn.Module) -> None:
    """Raises NoPlace where a network with classifiers gives other outputs than trunk and head."""
    with torch.no_grad():
        found, wanted = full.eval()(images), head(trunk.eval()(images))
    if not isinstance(found, Tensor) or found.shape != wanted.shape:
        raise NoPlace("its classifiers give no outputs of the run's shape")
    if (found - wanted).abs().max() > TOLERANCE * wanted.abs().max():
        raise NoPlace("its classifiers read something else than its pooled features")


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _nothing(norm: nn.BatchNorm1d, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """The state with which a batch norm in eval mode gives what it is given."""
    values = {"running_mean": 0.0, "running_var": 1 - norm.eps, "weight": 1.0, "bias": 0.0}
    for name, tensor in norm.state_dict().items():
        yield name, torch.full_like(tensor, values.get(name, 0), device=device)
