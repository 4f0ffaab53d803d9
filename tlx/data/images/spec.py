"""What a network of images reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, final

from tlx.data.inputs import plain_of, replaced


@final
@dataclass(frozen=True)
class ImageSpec:
    """See the protocol Spec.

    Attributes:
        size: (channels, height, width).
        mean: that images from 0 to 1 are normalised by, of each channel.
        std: likewise.
        interpolation: of scaling, by name.
        crop_pct: share of the scaled image's edge that the crop of evaluation keeps.
        crop_mode: of that crop: `center`, `squash` or `border`.
    """

    modality: ClassVar[str] = "image"
    made_by: ClassVar[str] = "tlx.data.images.inputs.IMAGES"

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    def plain(self) -> dict[str, object]:
        """See the protocol Spec."""
        return plain_of(self)

    def kept(self, plain: Mapping[str, object]) -> Self:
        """See the protocol Spec."""
        return replaced(self, plain)
