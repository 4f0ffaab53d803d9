"""Penalties: their value by hand, their gradient by autograd, zero where they should be."""

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from tlx.methods.penalties import l2_sp, r_drop


def weights(seed=0):
    torch.manual_seed(seed)
    trunk = {"a": torch.randn(3, 2), "b": torch.randn(2)}
    return {n: t.requires_grad_() for n, t in trunk.items()}, [torch.randn(4).requires_grad_()]


def copies(trunk):
    return {name: tensor.detach().clone() for name, tensor in trunk.items()}


def test_zero_with_zero_gradient_at_the_anchor():
    trunk, head = weights()
    value = l2_sp(trunk, copies(trunk), head, alpha=0.5, beta=0.0)
    value.backward()
    assert value.item() == 0
    assert all(torch.equal(t.grad, torch.zeros_like(t)) for t in trunk.values())


def test_gradient_is_alpha_times_the_distance_and_beta_times_the_head():
    trunk, head = weights()
    anchor = copies(weights(1)[0])
    l2_sp(trunk, anchor, head, alpha=0.3, beta=0.02).backward()
    for name, tensor in trunk.items():
        torch.testing.assert_close(tensor.grad, 0.3 * (tensor.detach() - anchor[name]))
        assert anchor[name].grad is None
    torch.testing.assert_close(head[0].grad, 0.02 * head[0].detach())


def test_a_step_of_sgd_is_weight_decay_towards_the_anchor():
    """On the head it is torch's own weight decay."""
    trunk, head = weights()
    twin = head[0].detach().clone().requires_grad_()
    ours = torch.optim.SGD(head, lr=0.1)
    theirs = torch.optim.SGD([twin], lr=0.1, weight_decay=0.2)
    l2_sp(trunk, copies(trunk), head, alpha=1.0, beta=0.2).backward()
    twin.grad = torch.zeros_like(twin)
    ours.step()
    theirs.step()
    torch.testing.assert_close(head[0], twin)


def test_parts_may_be_empty_and_the_anchor_larger():
    trunk, head = weights()
    assert l2_sp({}, {}, [], alpha=1.0, beta=1.0).item() == 0
    assert l2_sp({}, copies(trunk), head, alpha=1.0, beta=1.0).item() > 0
    only = l2_sp({"a": trunk["a"]}, copies(trunk), [], alpha=1.0, beta=1.0)
    assert only.item() == 0


def test_half_precision_does_not_overflow():
    trunk = {"a": torch.full((10,), 200.0, dtype=torch.float16)}
    anchor = {"a": torch.full((10,), -100.0, dtype=torch.float16)}
    assert l2_sp(trunk, anchor, [], alpha=1.0, beta=0.0).item() == pytest.approx(450000)


def test_refuses_a_parameter_without_a_start():
    trunk, head = weights()
    with pytest.raises(ValueError, match="'b' has no starting value"):
        l2_sp(trunk, {"a": trunk["a"]}, head, alpha=1.0, beta=1.0)


def test_r_drop_is_the_mean_of_both_divergences():
    torch.manual_seed(0)
    first, second = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (Categorical(logits=logits) for logits in (first, second))
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean() / 2
    torch.testing.assert_close(r_drop(first, second, alpha=0.7), 0.7 * expected)
    assert r_drop(first, first, alpha=0.7).item() == 0


def test_r_drop_counts_the_rows_of_the_mask():
    torch.manual_seed(0)
    first, second = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, True, True, False]])
    out = r_drop(first, second, alpha=1.0, mask=mask)
    torch.testing.assert_close(out, r_drop(first[mask], second[mask], alpha=1.0))
