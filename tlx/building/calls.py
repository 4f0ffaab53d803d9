"""Options to objects: the only caller of what a config names."""

from collections.abc import Callable
from typing import Any

from tlx.building.returned import of_kind
from tlx.config import calls
from tlx.config.run import Option, Run
from tlx.data.augment import Augmentation
from tlx.data.inputs import Spec
from tlx.data.splits import Splits
from tlx.training.effects import Effects, Regularization


def function_of(option: Option) -> Callable[..., Any]:
    """An option's function.

    Raises:
        ValueError: the target is not allowed, or is not the function that its name says.
    """
    return calls.function_of(option.target)


def instantiate(option: Option, *supplied: object, **override: object) -> Any:
    """Calls an option's function with its arguments, after the supplied positional ones.

    Raises:
        ValueError: as of `function_of`.
    """
    return function_of(option)(*supplied, **{**option.arguments, **override})


def splits(dataset: Option) -> Splits:
    """The data of a run, as it comes from its source."""
    return of_kind(
        instantiate(dataset),
        Splits,
        dataset,
        group="dataset",
        fix="make them by tlx.data.images.own.image_splits, or by divide",
    )


def ready(data: Splits, spec: Spec) -> Splits:
    """The data, ready for what a backbone reads.

    Raises:
        ValueError: the backbone reads something else.
    """
    if spec.modality != data.inputs.modality:
        raise ValueError(
            f"the data is {data.inputs.modality}, the backbone reads {spec.modality}; choose "
            "another backbone, or another dataset (tlx list backbone, tlx list dataset)"
        )
    return data.inputs.fit(spec, data)


def regularization(run: Run) -> Regularization:
    """The effects of all regularization options."""
    return Regularization(
        {
            name: of_kind(
                instantiate(each),
                Effects,
                each,
                group=f"regularization.{name}",
                fix="give Effects(Penalty(of=...)), or other parts",
            )
            for name, each in run.regularization.items()
        }
    )


def augmentations(run: Run) -> tuple[Augmentation, ...]:
    """The augmentations, in the order of the config."""
    return tuple(instantiate(each) for each in run.augmentation.values())
