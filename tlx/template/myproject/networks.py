"""The network: any `nn.Module`, wrapped into what tlx fine-tunes."""

from typing import Annotated

from torch import Tensor, nn

from tlx.backbones.backbone import Backbone
from tlx.backbones.own import wrapped
from tlx.base.ranges import Range
from tlx.data.images.spec import ImageSpec

MODALITY = "image"
READS = ImageSpec(size=(1, 16, 16), mean=(0.2,), std=(0.3,), interpolation="bilinear", crop_pct=1.0)


class SmallNet(nn.Module):
    """Three convolutions, and the mean of the last one's maps."""

    def __init__(self, width: int) -> None:
        """Draws random weights.

        Args:
            width: of the features.
        """
        super().__init__()
        self.stem = _layer(1, width // 4)
        self.blocks = nn.Sequential(_layer(width // 4, width // 2), _layer(width // 2, width))

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, width] of images [N, 1, H, W]."""
        maps: Tensor = self.blocks(self.stem(images))
        return maps.mean(dim=(2, 3))


def small(*, init: str = "none", width: Annotated[int, Range(least=4)] = 32) -> Backbone:
    """SmallNet without its head.

    Args:
        init: `none`, or a file of weights, such as those of a run.
        width: of the features.
    """
    return wrapped(SmallNet(width), READS, width=width, init=init)


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))
