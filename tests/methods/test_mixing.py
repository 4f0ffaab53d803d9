"""Mixing against timm's formula, with randomness from the given generator alone."""

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.data.mixup import cutmix_bbox_and_lam

from tlx.methods import mixing

CLASSES = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=6):
    drawn = generator(3)
    targets = torch.randint(CLASSES, (n,), generator=drawn)
    return torch.randn(n, 3, 16, 16, generator=drawn), targets


def one_hot(targets):
    return torch.nn.functional.one_hot(targets, CLASSES).float()


def timms(inputs, targets, monkeypatch, **keywords):
    """Timm's result and ratio; it pairs each item with its mirror in the batch."""
    maker = Mixup(label_smoothing=0.0, num_classes=CLASSES, **keywords)
    np.random.seed(4)
    draw, seen = maker._params_per_batch, []
    monkeypatch.setattr(maker, "_params_per_batch", lambda: seen.append(draw()) or seen[0])
    mixed, soft = maker(inputs.clone(), targets)
    return mixed, soft, seen[0][0]


def test_blending_is_timms_mixup(monkeypatch):
    inputs, targets = batch()
    mixed, soft, ratio = timms(inputs, targets, monkeypatch, mixup_alpha=1.0)
    assert 0 < ratio < 1
    torch.testing.assert_close(mixing.blend(inputs, inputs.flip(0), ratio), mixed)
    torch.testing.assert_close(
        mixing.blend(one_hot(targets), one_hot(targets.flip(0)), ratio), soft
    )


@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_timms(seed, monkeypatch):
    ratio = mixing.drawn_ratio(1.0, generator(seed))
    box = mixing.drawn_box(16, 12, ratio, generator(seed))
    drawn = generator(seed)
    centre = [int(torch.randint(high, (1,), generator=drawn)) for high in (16, 12)]
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: centre.pop(0))
    theirs, kept = cutmix_bbox_and_lam((6, 3, 16, 12), ratio)
    assert box == tuple(int(edge) for edge in theirs)
    assert kept == pytest.approx(1 - (box[1] - box[0]) * (box[3] - box[2]) / (16 * 12))


def test_mixup_is_the_same_blend_of_inputs_and_targets():
    weights = torch.rand(6, 6, generator=generator(1))
    mixed, soft = mixing.mixup(weights, torch.eye(6), alpha=1.0, generator=generator())
    torch.testing.assert_close(mixed, soft @ weights)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    assert not torch.equal(soft, torch.eye(6))


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_pastes_boxes_and_counts_their_area(seed):
    inputs = torch.arange(6.0)[:, None, None, None].expand(6, 1, 9, 7).contiguous()
    before = inputs.clone()
    mixed, soft = mixing.cutmix(inputs, torch.eye(6), alpha=1.0, generator=generator(seed))
    assert torch.equal(inputs, before)
    shares = torch.stack([(mixed == item).float().mean((1, 2, 3)) for item in range(6)], dim=1)
    torch.testing.assert_close(soft, shares)


@pytest.mark.parametrize("method", [mixing.mixup, mixing.cutmix])
class TestBoth:
    def test_draws_from_the_generator_only(self, method):
        inputs, targets = batch()
        state = torch.get_rng_state()
        first = method(inputs, one_hot(targets), alpha=0.4, generator=generator(7))
        torch.manual_seed(1)
        again = method(inputs, one_hot(targets), alpha=0.4, generator=generator(7))
        other = method(inputs, one_hot(targets), alpha=0.4, generator=generator(8))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[0], other[0])
        torch.manual_seed(1)
        expected = torch.get_rng_state()
        method(inputs, one_hot(targets), alpha=0.4, generator=generator(7))
        assert torch.equal(torch.get_rng_state(), expected)
        torch.set_rng_state(state)

    def test_equal_items_stay_equal(self, method):
        inputs = torch.full((4, 1, 8, 8), 0.5)
        targets = torch.full((4, 2), 0.5)
        mixed, soft = method(inputs, targets, alpha=1.0, generator=generator(2))
        assert torch.equal(soft, targets)
        torch.testing.assert_close(mixed, inputs)

    def test_refuses_what_has_no_average(self, method):
        inputs, targets = batch()
        with pytest.raises(ValueError, match=r"targets are torch\.int64"):
            method(inputs, targets, alpha=1.0, generator=generator())
        with pytest.raises(ValueError, match="alpha=0"):
            method(inputs, one_hot(targets), alpha=0, generator=generator())
        with pytest.raises(ValueError, match="6 inputs and 5 targets"):
            method(inputs, one_hot(targets)[:5], alpha=1.0, generator=generator())


def test_cutmix_needs_images():
    with pytest.raises(ValueError, match=r"\[N, C, H, W\]"):
        mixing.cutmix(torch.zeros(2, 3), torch.eye(2), alpha=1.0, generator=generator())


def test_ratios_have_the_mean_and_spread_of_beta():
    drawn = generator()
    ratios = np.array([mixing.drawn_ratio(0.4, drawn) for _ in range(4000)])
    assert ratios.mean() == pytest.approx(0.5, abs=0.03)
    assert ratios.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.06)
