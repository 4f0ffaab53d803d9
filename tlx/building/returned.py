"""What functions of options give back, checked where it enters: a user's own may be wrong."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch

from tlx.backbones.backbone import POOLED
from tlx.config.run import Option
from tlx.data.splits import inputs_of
from tlx.frozen.restoring import restored
from tlx.methods import stages as staging
from tlx.methods.stages import Layout, Stage
from tlx.tasks.model import Model

T = TypeVar("T")


def of_kind(value: object, kind: type[T], option: Option, *, group: str, fix: str) -> T:
    """What an option's function gave, if it is of the kind that its group gives.

    Raises:
        ValueError: it is not; with what to do.
    """
    if isinstance(value, kind):
        return value
    raise ValueError(
        f"{group}: {option.target} gives {type(value).__name__}, not {kind.__name__}: {fix}"
    )


def as_stages(value: object, layout: Layout, option: Option) -> tuple[Stage, ...]:
    """The stages that a freeze strategy gave.

    Raises:
        ValueError: they are no stages, or name what the network has not.
    """
    place = f"freeze_strategy: {option.target}"
    found = tuple(value) if isinstance(value, Iterable) else ()
    if not isinstance(value, Iterable) or not all(isinstance(stage, Stage) for stage in found):
        raise ValueError(f"{place} gives {type(value).__name__}; give a tuple of Stage")
    for stage in found:
        if not isinstance(stage.trains, Mapping):
            raise ValueError(
                f"{place}: stage {stage.name!r} trains {type(stage.trains).__name__}; give a "
                "mapping, name of a parameter to scale of its learning rate"
            )
    try:
        staging.check(found, layout)
    except ValueError as error:
        groups = ", ".join(group.name for group in layout.groups)
        raise ValueError(f"{place}: {error}; layout.groups are {groups}") from None
    return found


def check_features(made: Model, option: Option) -> None:
    """Passes a network of one's own that reads what it says it reads, and is as wide as it says.

    Tried on two items of zeros; tlx's own networks are not tried again.

    Raises:
        ValueError: it is not so.
    """
    backbone = made.backbone
    if option.target.startswith("tlx.") or POOLED not in backbone.dims:
        return
    module, place = backbone.module, f"backbone: {option.target}"
    inputs = inputs_of(backbone.reads).example(backbone.reads, items=2, device=torch.device("cpu"))
    try:
        with torch.no_grad(), restored(module):
            pooled = backbone.features(module.eval(), inputs).pooled
    except RuntimeError as error:
        raise ValueError(
            f"{place} says that it reads {backbone.reads}, and cannot: {error}"
        ) from error
    width = backbone.dims[POOLED]
    if pooled is not None and pooled.shape != (2, width):
        raise ValueError(
            f"{place} gives features {list(pooled.shape)} of two items, and says that they are "
            f"{width} wide: mend width=, or the network"
        )
