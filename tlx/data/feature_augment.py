"""Augmentations of features, just before the head: of any data."""

from functools import partial

from tlx.data.augment import Augmentation
from tlx.methods import mixing

MODALITY = "any"


def feature_mixup(*, alpha: float = 1.0) -> Augmentation:
    """Blends each item's features and its target with those of another of the batch.

    What lies below may be frozen and stored: nothing is mixed there. Partners are among the items
    that are computed at once: with `trainer.accumulate`, of the same part of the batch.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).

    Raises:
        ValueError: alpha is not above 0.

    Source: Guo et al. 2019, "Augmenting Data with Mixup for Sentence Classification", 1905.08941,
    senMixup; Sun et al. 2020, "Mixup-Transformer", 2010.02394.
    """
    if not alpha > 0:
        raise ValueError(f"feature_mixup: alpha={alpha}; give a number above 0")
    return Augmentation("feature_mixup", "features", partial(mixing.mixup, alpha=alpha))
