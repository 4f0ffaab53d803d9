"""What is added to the loss: a function from a training step to a number."""

from typing import Annotated

from torch import Tensor

from tlx.base.ranges import Range
from tlx.methods.step import Step
from tlx.training.effects import Effects, Penalty


def feature_norm(*, strength: Annotated[float, Range(least=0)] = 0.01) -> Effects:
    """Keeps features small: half their mean square.

    Args:
        strength: of the penalty.
    """

    def penalty(step: Step) -> Tensor:
        square: Tensor = step.features.pooled.float().square().mean()
        return 0.5 * strength * square

    return Effects(Penalty(penalty))
