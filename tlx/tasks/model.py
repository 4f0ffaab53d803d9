"""A network with its task: what is built, before anything says how it is trained."""

from dataclasses import dataclass
from typing import final

from tlx.backbones.backbone import Backbone
from tlx.methods.stages import Layout
from tlx.tasks.task import Network, Task


@final
@dataclass(frozen=True)
class Model:
    """A network, and what training and export must know about it.

    Attributes:
        backbone: with its weights.
        task: labels, losses, metrics.
        network: backbone and head.
        layout: its parameters in groups, the head last.
        head_level: of the head, where layers are counted.
    """

    backbone: Backbone
    task: Task
    network: Network
    layout: Layout
    head_level: int
