"""What a penalty sees of one training step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Referred:
    """What a frozen network gave for a batch; of what was not asked for, None.

    Attributes:
        features: of its backbone.
        outputs: of its head.
    """

    features: Any
    outputs: Tensor | None


@dataclass(frozen=True)
class Step:
    """One training step, after the forward pass.

    Attributes:
        batch: the encoded batch, as the loss saw it.
        features: what the backbone gave.
        outputs: what the head gave.
        network: the network in training, parameters named `backbone.*` and `head.*`.
        trainable: names of the parameters that train in this stage.
        anchor: starting weights by parameter name, the head excluded; empty unless asked for.
        reference: of the option's own frozen network; None where it has none.
        global_step: optimizer steps done before this one.
    """

    batch: Mapping[str, Any]
    features: Any
    outputs: Tensor
    network: nn.Module
    trainable: frozenset[str]
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    reference: Referred | None = None
    global_step: int = 0
