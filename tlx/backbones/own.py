"""A backbone of any `nn.Module`: what there is to know of it is read from its parts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tlx.backbones.backbone import Backbone, Features
from tlx.backbones.weights import files as weights
from tlx.data.inputs import Spec
from tlx.methods.stages import Group

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def wrapped(
    module: nn.Module,
    reads: Spec,
    *,
    width: int,
    init: str = "none",
    parts: Sequence[str] | None = None,
    features: Callable[[nn.Module, Any], Features] | None = None,
    neck: Sequence[str] = (),
) -> Backbone:
    """A network of one's own without its head, from which heads are trained.

    Its layer groups are its parts in the order of their registration, stem to top; parameters of
    the module itself go with the first, and norms that stand alone with what is before them. The
    finest groups are, of a part that is a sequence, the members.

    Args:
        module: from inputs [N, ...] to features [N, width], unless `features` takes them from it.
        reads: what it reads: the spec of a modality, `tlx.data.images.spec.ImageSpec` say.
        width: of the pooled features.
        init: `none`: the weights it has are random; `hub`: they are of training somewhere else;
            a file of weights, which it is given (a mutator then).
        parts: names of its parts, where they are not its children.
        features: from module and inputs to its features, where these are not what it returns.
        neck: names of the parts between the last block and the head, a final norm say.

    Raises:
        ValueError: a part that it does not have, or parameters in none; a wrong `init`.
    """
    _start(module, init)
    names = [name for name, _ in module.named_parameters()]
    tops = list(parts) if parts is not None else _children(module)
    coarse = _groups(module, names, tops)
    fine = _groups(module, names, [each for top in tops for each in _members(module, top)])
    above = tuple(n for n in names if any(n.startswith(f"{part}.") for part in neck))
    return Backbone(
        module=module,
        features=features or Pooled(),
        groups=coarse,
        fine_groups=fine,
        head_level=len(fine),
        dims={"pooled": width},
        reads=reads,
        weights_id="none" if init == "none" else weights.content_id(module),
        neck=above,
        embeddings=tuple(
            f"{owner}.weight" if owner else "weight"
            for owner, part in module.named_modules()
            if isinstance(part, nn.Embedding)
        ),
    )


@final
class Pooled:
    """Takes what a module returns for the features of whole items."""

    def __call__(self, module: nn.Module, inputs: object) -> Features:
        """The features of a batch.

        Raises:
            ValueError: the module returns something else than one vector an item.
        """
        outputs = module(inputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"{type(module).__name__} returns {shape}, and features are [N, width]: give "
                "wrapped(..., features=...), a function from module and inputs to Features"
            )
        return Features(pooled=outputs)


def _start(module: nn.Module, init: str) -> None:
    """Gives the module the weights of a file (a mutator)."""
    if init in ("none", "hub"):
        return
    if not Path(init).is_file():
        raise ValueError(f"backbone.init={init!r} is no file; give none, run:ID, experiment:NAME")
    weights.load(module, init)


def _children(module: nn.Module) -> list[str]:
    return [
        name for name, child in module.named_children() if any(True for _ in child.parameters())
    ]


def _members(module: nn.Module, part: str) -> list[str]:
    """The members of a part that is a sequence; else the part itself."""
    whole = module.get_submodule(part)
    within = _children(whole) if isinstance(whole, nn.Sequential | nn.ModuleList) else []
    return [f"{part}.{name}" for name in within] or [part]


def _groups(module: nn.Module, names: Sequence[str], parts: Sequence[str]) -> tuple[Group, ...]:
    """Parts as groups; norms alone go with the part before, direct parameters with the first."""
    members: dict[str, list[str]] = {}
    rest = list(names)
    for part in parts:
        inside = [name for name in rest if name.startswith(f"{part}.")]
        rest = [name for name in rest if name not in inside]
        owners = {module.get_submodule(name.rpartition(".")[0]) for name in inside}
        if members and all(isinstance(owner, NORMS) for owner in owners):
            members[list(members)[-1]] += inside
        else:
            members[part] = inside
    if not members or any("." in name for name in rest):
        left = next((name for name in rest if "." in name), "its parameters")
        raise ValueError(f"wrapped(parts={list(parts)}): {left} is in none of the parts; name all")
    first = next(iter(members))
    members[first] = [*rest, *members[first]]
    return tuple(
        Group(part, tuple(inside), level) for level, (part, inside) in enumerate(members.items())
    )
