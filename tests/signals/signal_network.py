"""A small network of signals, of positions first and their mean at the end."""

from signal_inputs import SignalSpec
from torch import nn

from tlx.backbones.backbone import Backbone, Features
from tlx.backbones.weights import files as weights
from tlx.methods.stages import Group

MODALITY = "signal"


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.act = nn.GELU()

    def forward(self, states):
        return states + self.act(self.linear(states))


class Mixer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(1, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(3))

    def forward(self, inputs):
        states = self.stem(inputs["signal"].unsqueeze(-1))
        for layer in self.layers:
            states = layer(states)
        real = inputs["real"].unsqueeze(-1)
        return states.masked_fill(~real, 0).sum(1) / real.sum(1)


def features(module, inputs):
    return Features(pooled=module(inputs))


def mixer(*, init: str = "none", width: int = 8, scale: float = 1.0) -> Backbone:
    module = Mixer(width)
    if init != "none":
        weights.load(module, init)
    names = [name for name, _ in module.named_parameters()]
    groups = [Group("stem", tuple(n for n in names if n.startswith("stem.")), 0)]
    for number in range(3):
        own = tuple(n for n in names if n.startswith(f"layers.{number}."))
        groups.append(Group(f"layer{number}", own, number + 1))
    return Backbone(
        module=module,
        features=features,
        groups=tuple(groups),
        fine_groups=tuple(groups),
        head_level=4,
        dims={"pooled": width},
        reads=SignalSpec(scale),
        weights_id="none" if init == "none" else weights.content_id(module),
    )
