"""What trains when: a function from a network's layout to stages."""

from typing import Annotated

from tlx.base.ranges import Range
from tlx.methods.stages import Layout, Stage


def upper(
    layout: Layout, *, share: Annotated[float, Range(above=0, most=1)] = 0.5
) -> tuple[Stage, ...]:
    """The upper layer groups, and the head.

    Args:
        layout: of the network's parameters.
        share: of the groups below the head, at least one of them.
    """
    below = layout.groups[:-1]
    count = max(round(share * len(below)), 1)
    trained = [*below[-count:], layout.head]
    return (Stage("upper", {name: 1.0 for group in trained for name in group.parameters}),)
