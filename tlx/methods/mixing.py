"""Mixing of training samples within a batch, with soft targets.

Everything random comes from the generator that is given, which lives on the CPU.
Shapes: N items; targets [N, ...] are averaged like inputs, so class targets must be one-hot.
"""

import math
import random

import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""Rows top to bottom and columns left to right: (top, bottom, left, right), ends excluded."""


def mixup(
    inputs: Tensor, targets: Tensor, *, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Each item blended with a random partner, at one ratio for the batch.

    Args:
        inputs: [N, ...], floating point.
        targets: [N, ...], floating point.
        alpha: the ratio is drawn from Beta(alpha, alpha); above 0.
        generator: of the ratio and the partners.

    Raises:
        ValueError: an argument is out of range, or of a kind that has no average.

    Source: Zhang et al. 2018, "mixup", 1710.09412, section 2.

    >>> x, y = torch.eye(4), torch.eye(4)
    >>> mixed, soft = mixup(x, y, alpha=0.2, generator=torch.Generator().manual_seed(0))
    >>> torch.equal(mixed, soft), bool((soft.sum(1) - 1).abs().max() < 1e-6)
    (True, True)
    """
    _check("mixup", inputs, targets, alpha)
    ratio = drawn_ratio(alpha, generator)
    partners_N = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    return blend(inputs, inputs[partners_N], ratio), blend(targets, targets[partners_N], ratio)


def cutmix(
    inputs: Tensor, targets: Tensor, *, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Each image with a box of a random partner pasted in; targets follow the pasted area.

    Args:
        inputs: images [N, C, H, W], floating point.
        targets: [N, ...], floating point.
        alpha: the kept share is drawn from Beta(alpha, alpha); above 0.
        generator: of the share, the box and the partners.

    Raises:
        ValueError: an argument is out of range, or of a kind that has no average.

    Source: Yun et al. 2019, "CutMix", 1905.04899, algorithm 1; a box that leaves the image is
    clipped, and targets follow what is left of it.

    >>> x, y = torch.zeros(2, 1, 8, 8), torch.eye(2)
    >>> x[1] = 1.0
    >>> mixed, soft = cutmix(x, y, alpha=1.0, generator=torch.Generator().manual_seed(1))
    >>> torch.allclose(mixed.mean((1, 2, 3)), soft[:, 1])
    True
    """
    _check("cutmix", inputs, targets, alpha)
    if inputs.ndim != 4:
        raise ValueError(f"cutmix: inputs of shape {tuple(inputs.shape)}; give [N, C, H, W]")
    height, width = inputs.shape[-2:]
    box = drawn_box(height, width, drawn_ratio(alpha, generator), generator)
    partners_N = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    top, bottom, left, right = box
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = inputs[partners_N][..., top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, blend(targets, targets[partners_N], kept)


def blend(own: Tensor, other: Tensor, ratio: float) -> Tensor:
    """Ratio times own plus the rest times other.

    >>> blend(torch.tensor([1.0]), torch.tensor([0.0]), 0.75)
    tensor([0.7500])
    """
    return own * ratio + other * (1 - ratio)


def drawn_ratio(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), in [0, 1].

    Torch's own Beta takes no generator; one of Python's, seeded by ours, draws instead.

    >>> 0 <= drawn_ratio(0.2, torch.Generator().manual_seed(0)) <= 1
    True
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return random.Random(seed).betavariate(alpha, alpha)


def drawn_box(height: int, width: int, ratio: float, generator: torch.Generator) -> Box:
    """A box of 1 - ratio of the area, with its centre anywhere, clipped to the image.

    >>> drawn_box(8, 8, 1.0, torch.Generator().manual_seed(0))[:2]
    (4, 4)
    """
    side = math.sqrt(1 - ratio)
    rows, columns = int(height * side), int(width * side)
    row = int(torch.randint(height, (1,), generator=generator))
    column = int(torch.randint(width, (1,), generator=generator))
    top, left = row - rows // 2, column - columns // 2
    return max(top, 0), min(top + rows, height), max(left, 0), min(left + columns, width)


def _check(method: str, inputs: Tensor, targets: Tensor, alpha: float) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"{method}: alpha={alpha}; give a number above 0")
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not tensor.is_floating_point():
            raise ValueError(
                f"{method}: {name} are {tensor.dtype}, which has no average; give floating point "
                "(class targets as one-hot rows)"
            )
    if len(inputs) != len(targets):
        raise ValueError(f"{method}: {len(inputs)} inputs and {len(targets)} targets")
