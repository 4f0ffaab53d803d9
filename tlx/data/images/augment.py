"""Augmentations of images; the kinds are in `tlx.data.augment`.

Samples draw from torch's global generator, which the loader seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, final

import torch
from PIL import Image
from torch import Tensor

from tlx.base.ranges import Range
from tlx.data.augment import Augmentation
from tlx.data.splits import Batch
from tlx.methods import mixing

MODALITY = "image"


def standard(
    *,
    min_area: Annotated[float, Range(above=0, most=1)] = 0.35,
    max_area: Annotated[float, Range(above=0, most=1)] = 1.0,
    max_stretch: Annotated[float, Range(least=1)] = 1.3333,
    horizontal_flip: bool | None = None,
    vertical_flip: bool = False,
) -> Augmentation:
    """A random crop at a random size and aspect ratio, and a flip where it keeps the label.

    Args:
        min_area: least share of the image's area that is cropped.
        max_area: greatest share.
        max_stretch: greatest aspect ratio of the crop, or one over it.
        horizontal_flip: None follows the data, which says whether a mirror changes its labels.
        vertical_flip: flips upside down as well; for images from above.

    Raises:
        ValueError: an argument is out of range.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", 1409.4842, section 6; there
        min_area is 0.08, which is for training from scratch.
    """
    if not 0 < min_area <= max_area <= 1:
        raise ValueError(
            f"standard: min_area={min_area}, max_area={max_area}; give "
            "0 < min_area <= max_area <= 1"
        )
    if max_stretch < 1:
        raise ValueError(f"standard: max_stretch={max_stretch}; give 1 or more")
    make = partial(
        _RandomCrop,
        area=(min_area, max_area),
        stretch=max_stretch,
        horizontal_flip=horizontal_flip,
        vertical_flip=vertical_flip,
    )
    return Augmentation("standard", "geometry", make)


@final
@dataclass(frozen=True)
class _RandomCrop:
    size: tuple[int, int]
    interpolation: Image.Resampling
    label_changing: frozenset[str] = frozenset()
    area: tuple[float, float] = (0.35, 1.0)
    stretch: float = 1.3333
    horizontal_flip: bool | None = None
    vertical_flip: bool = False

    def __call__(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import RandomResizedCrop

        ratio = (1 / self.stretch, self.stretch)
        top, left, height, width = RandomResizedCrop.get_params(image, list(self.area), list(ratio))
        image = image.crop((left, top, left + width, top + height))
        image = image.resize(self.size[::-1], self.interpolation)
        # both are drawn whether used or not, so that a flip that is off moves no other draw
        mirrored, turned = torch.rand(2).lt(0.5).tolist()
        mirror = self.horizontal_flip
        if mirror is None:
            mirror = "horizontal_flip" not in self.label_changing
        if mirror and mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.vertical_flip and turned:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return image


def randaugment(
    *,
    num_ops: Annotated[int, Range(least=1, most=16)] = 2,
    magnitude: Annotated[int, Range(least=0, most=30)] = 9,
    fill: Annotated[int, Range(least=0, most=255)] = 0,
) -> Augmentation:
    """Some random changes of shape and colour, all at one strength.

    Args:
        num_ops: changes an image.
        magnitude: their strength, 0 to 30.
        fill: grey, 0 to 255, of what rotation and shear lay bare.

    Raises:
        ValueError: an argument is out of range.

    Source: Cubuk et al. 2020, "RandAugment", 1909.13719.
    """
    _whole("randaugment", "num_ops", num_ops, 1, 16)
    _whole("randaugment", "magnitude", magnitude, 0, 30)
    return _of_torchvision(
        "randaugment", "RandAugment", fill=fill, num_ops=num_ops, magnitude=magnitude
    )


def trivialaugment(*, fill: Annotated[int, Range(least=0, most=255)] = 0) -> Augmentation:
    """One random change of shape or colour at a random strength: strong, and nothing to tune.

    Args:
        fill: grey, 0 to 255, of what rotation and shear lay bare.

    Raises:
        ValueError: an argument is out of range.

    Source: Müller and Hutter 2021, "TrivialAugment", 2103.10158.
    """
    return _of_torchvision("trivialaugment", "TrivialAugmentWide", fill=fill)


def augmix(
    *,
    severity: Annotated[int, Range(least=1, most=10)] = 3,
    mixture_width: Annotated[int, Range(least=1, most=16)] = 3,
    chain_depth: Annotated[int, Range(least=-1, most=16)] = -1,
    alpha: float = 1.0,
    fill: Annotated[int, Range(least=0, most=255)] = 0,
) -> Augmentation:
    """Several chains of mild changes, blended with the image: for robustness to corruptions.

    Without the paper's consistency loss.

    Args:
        severity: strength of each change, 1 to 10.
        mixture_width: chains.
        chain_depth: changes in a chain; -1 draws 1 to 3.
        alpha: of the Beta and Dirichlet distributions of the blend.
        fill: grey, 0 to 255, of what rotation and shear lay bare.

    Raises:
        ValueError: an argument is out of range.

    Source: Hendrycks et al. 2020, "AugMix", 1912.02781, algorithm 1.
    """
    _whole("augmix", "severity", severity, 1, 10)
    _whole("augmix", "mixture_width", mixture_width, 1, 16)
    _whole("augmix", "chain_depth", chain_depth, -1, 16)
    if chain_depth == 0 or alpha <= 0:
        raise ValueError(
            f"augmix: chain_depth={chain_depth}, alpha={alpha}; give a depth of -1 or 1 and more, "
            "and an alpha above 0"
        )
    return _of_torchvision(
        "augmix",
        "AugMix",
        fill=fill,
        severity=severity,
        mixture_width=mixture_width,
        chain_depth=chain_depth,
        alpha=alpha,
    )


def color(
    *,
    brightness: Annotated[float, Range(least=0)] = 0.4,
    contrast: Annotated[float, Range(least=0)] = 0.4,
    saturation: Annotated[float, Range(least=0)] = 0.4,
    hue: Annotated[float, Range(least=0, most=0.5)] = 0.0,
) -> Augmentation:
    """Random brightness, contrast, saturation and hue: where colour does not carry the label.

    Args:
        brightness: factors are drawn from 1 ± this, never below 0.
        contrast: likewise.
        saturation: likewise.
        hue: turns of the colour circle are drawn from ± this, at most 0.5.

    Raises:
        ValueError: an argument is out of range.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, value in {**strengths, "hue": hue}.items():
        highest = 0.5 if name == "hue" else float("inf")
        if not 0 <= value <= highest:
            raise ValueError(f"color: {name}={value}; give 0 to {highest}")
    from torchvision.transforms import ColorJitter

    return Augmentation("color", "sample", ColorJitter(**strengths, hue=hue))


def random_erasing(
    *,
    p: float = 0.25,
    min_area: Annotated[float, Range(above=0, most=1)] = 0.02,
    max_area: Annotated[float, Range(above=0, most=1)] = 0.33,
    value: Literal["mean", "noise"] = "mean",
) -> Augmentation:
    """Blanks a random rectangle: against leaning on one part of the image.

    Args:
        p: probability for an image.
        min_area: least share of the image.
        max_area: greatest share.
        value: the network's mean (0 after normalisation), or noise.

    Raises:
        ValueError: an argument is out of range.

    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", 1708.04896.
    """
    if not 0 <= p <= 1 or not 0 < min_area <= max_area <= 1:
        raise ValueError(
            f"random_erasing: p={p}, min_area={min_area}, max_area={max_area}; give 0 <= p <= 1 "
            "and 0 < min_area <= max_area <= 1"
        )
    if value not in ("mean", "noise"):
        raise ValueError(f"random_erasing: value={value!r}; give mean or noise")
    from torchvision.transforms import RandomErasing

    erase = RandomErasing(p, (min_area, max_area), value="random" if value == "noise" else 0)
    return Augmentation("random_erasing", "tensor", erase)


def mixup(*, alpha: float = 0.2) -> Augmentation:
    """Blends each image and its target with another of the batch.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).

    Raises:
        ValueError: alpha is not above 0.

    Source: Zhang et al. 2018, "mixup", 1710.09412.
    """
    return _mixing("mixup", mixing.mixup, alpha)


def cutmix(*, alpha: float = 1.0) -> Augmentation:
    """Pastes a box of another image of the batch; the target follows the area.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).

    Raises:
        ValueError: alpha is not above 0.

    Source: Yun et al. 2019, "CutMix", 1905.04899.
    """
    return _mixing("cutmix", mixing.cutmix, alpha)


def _mixing(name: str, method: Callable[..., tuple[Tensor, Tensor]], alpha: float) -> Augmentation:
    if not alpha > 0:
        raise ValueError(f"{name}: alpha={alpha}; give a number above 0")
    return Augmentation(name, "batch", partial(_mixed, method=method, alpha=alpha))


def _mixed(
    batch: Batch,
    generator: torch.Generator,
    *,
    method: Callable[..., tuple[Tensor, Tensor]],
    alpha: float,
) -> Batch:
    inputs, targets = method(batch["input"], batch["target"], alpha=alpha, generator=generator)
    return {**batch, "input": inputs, "target": targets}


def _of_torchvision(option: str, transform: str, *, fill: int, **arguments: object) -> Augmentation:
    _whole(option, "fill", fill, 0, 255)
    from torchvision import transforms

    made = getattr(transforms, transform)(
        **arguments, interpolation=transforms.InterpolationMode.BILINEAR, fill=fill
    )
    return Augmentation(option, "sample", made)


def _whole(option: str, name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{option}: {name}={value}; give {low} to {high}")
