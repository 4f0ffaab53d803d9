"""What becomes of images before the network."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tlx.data.augment import IN_STEP, Augmentation, check_kinds
from tlx.data.images.read import EXTENSIONS, MAX_PIXELS, load_image
from tlx.data.images.spec import ImageSpec
from tlx.data.inputs import Spec
from tlx.data.scan import to_predict
from tlx.data.splits import Sample, Split, Splits

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "random": Image.Resampling.BILINEAR,  # as timm evaluates networks trained with either
}


KINDS = ("geometry", "sample", "tensor")
"""Of augmentations, in the order in which they act."""


@final
@dataclass(frozen=True)
class ImageInputs:
    """Images as tensors; see the protocol Inputs.

    Attributes:
        label_changing: names of augmentations that change this data's labels (`horizontal_flip`).
    """

    label_changing: frozenset[str] = frozenset()

    @property
    def modality(self) -> str:
        """See Inputs."""
        return ImageSpec.modality

    def learn(self, spec: ImageSpec, corpus: Callable[[], Iterable[str]]) -> ImageSpec:
        """See Inputs."""
        return spec

    def fit(self, spec: ImageSpec, splits: Splits) -> Splits:
        """See Inputs."""
        return splits

    def encoder(
        self, spec: Spec, augmentations: Sequence[Augmentation], *, train: bool
    ) -> "ImageEncoder":
        """See `image_encoder`."""
        changing = self.label_changing
        return image_encoder(spec, augmentations, train=train, label_changing=changing)

    @staticmethod  # depends on nothing of the data, which stored activations are known by
    def collate(spec: ImageSpec, inputs: Sequence[Tensor]) -> Tensor:
        """Stacks them."""
        return torch.stack(list(inputs))

    def padding(self, spec: ImageSpec) -> None:
        """None: all have one size."""

    def example(self, spec: ImageSpec, *, items: int, device: torch.device) -> Tensor:
        """Zeros [N, C, H, W]."""
        return torch.zeros(items, *spec.size, device=device)

    def read(
        self,
        spec: ImageSpec,
        given: Iterable[str | Path],
        *,
        dataset: Mapping[str, object],
        folder: Path,
    ) -> Split:
        """Files, folders of them and tables of paths."""
        from tlx.data.tables.given import paths_of

        paths = paths_of(given, dataset, endings=EXTENSIONS, argument="image_column")
        return to_predict(paths, load_image)

    def shown(self, raw: Image.Image) -> Image.Image:
        """The image itself."""
        return raw

    def columns(self, raw: Image.Image) -> Mapping[str, str]:
        """None."""
        return {}

    def corpus(self, split: Split) -> Iterable[str]:
        """None."""
        return ()


IMAGES = ImageInputs()


@final
@dataclass(frozen=True)
class ImageEncoder:
    """Raw sample to tensors: fit to the network's size, augment, normalise.

    Attributes:
        fit: image to image of the network's size.
        mode: `RGB` or `L`.
        sample: augmentations of images.
        tensor: augmentations of normalised tensors.
        scale: [C, 1, 1], what a byte is multiplied with.
        shift: [C, 1, 1], what is added then.
        random: whether an augmentation draws.
    """

    fit: Callable[[Image.Image], Image.Image]
    mode: str
    sample: tuple[Callable[[Image.Image], Image.Image], ...]
    tensor: tuple[Callable[[Tensor], Tensor], ...]
    scale: Tensor
    shift: Tensor
    random: bool

    def __call__(self, sample: Sample) -> Sample:
        """The sample with input [C, H, W] float32."""
        image: Image.Image = sample["input"]
        if image.mode != self.mode:
            image = image.convert(self.mode)
        image = self.fit(image)
        for augment in self.sample:
            image = augment(image)
        array = np.array(image)
        pixels = torch.from_numpy(array if array.ndim == 3 else array[:, :, None])
        tensor = pixels.permute(2, 0, 1).float().mul_(self.scale).add_(self.shift).contiguous()
        for change in self.tensor:
            tensor = change(tensor)
        return {**sample, "input": tensor}

    def facts(self) -> Mapping[str, object]:
        """All of its parts."""
        return vars(self)


def image_encoder(
    spec: Spec,
    augmentations: Sequence[Augmentation],
    *,
    train: bool,
    label_changing: frozenset[str] = frozenset(),
) -> ImageEncoder:
    """The function from raw to encoded samples for a backbone's input.

    Evaluation, and training without a geometry: scaled by 1/crop_pct and cropped at the centre,
    as timm does. Order: geometry, sample, normalise, tensor.

    Args:
        spec: what the network reads.
        augmentations: applied in training only.
        train: whether this is for training.
        label_changing: augmentations that change this data's labels.

    Raises:
        ValueError: the backbone takes no images, or two augmentations replace the geometry.
    """
    if not isinstance(spec, ImageSpec):
        raise ValueError(f"this data holds images, the backbone takes {spec.modality!r}")
    channels, height, width = spec.size
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise ValueError(f"backbone.in_chans={channels}; images have 3 (RGB) or 1 (grey)")
    check_kinds(augmentations, (*KINDS, *IN_STEP), of="images")
    used = tuple(augmentations) if train else ()
    geometries = [a for a in used if a.kind == "geometry"]
    if len(geometries) > 1:
        names = ", ".join(a.name for a in geometries)
        raise ValueError(f"augmentation: {names} each replace how images are cropped; keep one")
    size = (height, width)
    interpolation = RESAMPLING[spec.interpolation]
    fit: Callable[[Image.Image], Image.Image] = Centre(
        size, interpolation, spec.crop_pct, spec.crop_mode, _fill(spec)
    )
    if geometries:
        fit = geometries[0].make(size, interpolation, label_changing)
    std = torch.tensor(spec.std, dtype=torch.float32).view(-1, 1, 1)
    mean = torch.tensor(spec.mean, dtype=torch.float32).view(-1, 1, 1)
    return ImageEncoder(
        fit=fit,
        mode=modes[channels],
        sample=tuple(a.make for a in used if a.kind == "sample"),
        tensor=tuple(a.make for a in used if a.kind == "tensor"),
        scale=1 / (255 * std),
        shift=-mean / std,
        random=any(not a.deterministic for a in used),
    )


def _fill(spec: ImageSpec) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in spec.mean)


@final
@dataclass(frozen=True)
class Centre:
    """Scales an image and crops its centre, as timm's evaluation transforms do.

    Attributes:
        size: (height, width) of the result.
        interpolation: of the scaling.
        crop_pct: share of the scaled image's edge that is kept.
        mode: `center` fills the frame, `squash` ignores the aspect ratio, `border` pads.
        fill: colour of the border.
    """

    size: tuple[int, int]
    interpolation: Image.Resampling
    crop_pct: float
    mode: str
    fill: tuple[int, ...]

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at `size`."""
        scaled = self._scaled(image.width, image.height)
        height, width = self.size
        if math.prod(scaled) > MAX_PIXELS:  # of a strip, of which hardly anything is kept
            corner = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
            return part_of_scaled(image, scaled, corner, (width, height), self.interpolation)
        if scaled != image.size:
            image = image.resize(scaled, self.interpolation)
        if image.size == (width, height):
            return image
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        if left >= 0 and top >= 0:
            return image.crop((left, top, left + width, top + height))
        fill = self.fill if self.mode == "border" else (0,) * len(self.fill)
        frame = Image.new(image.mode, (width, height), fill if len(fill) > 1 else fill[0])
        frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return frame

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) before the crop."""
        high, wide = (math.floor(edge / self.crop_pct) for edge in self.size)
        if self.mode == "squash":
            return wide, high
        if self.mode == "center" and high == wide:
            if width <= height:
                return wide, int(wide * height / width)
            return int(high * width / height), high
        ratios = (height / high, width / wide)
        ratio = max(ratios) if self.mode == "border" else min(ratios)
        return max(round(width / ratio), 1), max(round(height / ratio), 1)


def part_of_scaled(
    image: Image.Image,
    scaled: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
    interpolation: Image.Resampling,
) -> Image.Image:
    """A part of an image's scaled version, which is never made: cropped before it is scaled.

    Its values are those of the image scaled in width and then in height, but for the last digit of
    a few (and for ties of `nearest`): Pillow's boxes are in single precision.

    Args:
        image: to be scaled.
        scaled: (width, height) of its scaled version.
        corner: (left, top) of the part in it.
        size: (width, height) of the part.
        interpolation: of the scaling.
    """
    spans, starts, ends = [], [], []
    for whole, full, first, length in zip(image.size, scaled, corner, size, strict=True):
        ratio = whole / full
        start, end = first * ratio, (first + length) * ratio
        # filters reach 3 pixels of the smaller of both images, and read what is outside the part
        reach = math.ceil(3 * max(ratio, 1)) + 1
        low, high = max(math.floor(start) - reach, 0), min(math.ceil(end) + reach, whole)
        spans.append((low, high))
        starts.append(start - low)
        ends.append(min(end - low, high - low))
    (left, right), (top, bottom) = spans
    near = image.crop((left, top, right, bottom))
    # one after the other: what Pillow does first would depend on how much is cropped
    wide = near.resize((size[0], near.height), interpolation, (starts[0], 0, ends[0], near.height))
    return wide.resize(size, interpolation, (0, starts[1], size[0], ends[1]))
