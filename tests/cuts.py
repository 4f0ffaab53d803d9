"""A network that is cut, held against the whole of it."""

import copy
import random

import numpy as np
import torch

from tlx.backbones.backbone import Features
from tlx.frozen import nested
from tlx.methods import freezing


def names_from(network, *parts):
    return {n for n, _ in network.named_parameters() if n.startswith(parts)}


def enter(network, trains, **modes):
    freezing.apply(network, trains)
    network.train()
    freezing.set_modes(network, **modes)


def near(found, expected):
    """Equal up to rounding of the size of the largest value."""
    assert (found is None) == (expected is None)
    if found is not None:
        found, expected = found.detach(), expected.detach()
        scale = expected.float().abs().max().item() if expected.numel() else 0.0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


def step(network, run, seed=3):
    """Outputs, and gradients and buffers after them, in the modes that the network is in."""
    network.zero_grad()
    torch.manual_seed(seed)
    features, outputs = run()
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))
    (outputs * weights).sum().backward()
    gradients = {n: p.grad for n, p in network.named_parameters()}
    assert {n for n, g in gradients.items() if g is not None} <= {
        n for n, p in network.named_parameters() if p.requires_grad
    }
    return features, outputs, gradients, dict(network.named_buffers())


def same(network, cut, inputs):
    """The suffix of stored activations against a copy of the whole network, in train mode."""
    twin = copy.deepcopy(network)
    stored = cut.prefix(inputs)
    assert stored.ndim == len(cut.shape) + 1
    assert stored.dtype == cut.dtype
    assert not stored.requires_grad
    kept, before = stored.clone(), copy.deepcopy(inputs)
    given = inputs if cut.needs_inputs else None
    for _ in range(2):
        one = step(network, lambda: cut.suffix(stored, inputs=given))
        other = step(twin, lambda: twin.with_features(inputs))
    assert torch.equal(stored, kept)
    for mine, whole in zip(nested.tensors(inputs), nested.tensors(before), strict=True):
        assert torch.equal(mine, whole)
    for mine, whole in zip(one[:2], other[:2], strict=True):
        for key in ("pooled", "tokens", "mask"):
            if isinstance(mine, Features):
                near(getattr(mine, key), getattr(whole, key))
            else:
                near(mine, whole)
    trained = [n for n, p in network.named_parameters() if p.requires_grad]
    assert any(other[2][name].abs().max() > 0 for name in trained if name.startswith("head"))
    for name in trained:
        near(one[2][name], other[2][name])
    for name, buffer in other[3].items():
        near(one[3][name], buffer)


def state(network):
    """All that a call could leave behind."""
    return (
        {n: t.clone() for n, t in [*network.named_parameters(), *network.named_buffers()]},
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
        [
            (len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
            for m in network.modules()
        ],
        (torch.get_rng_state(), random.getstate(), repr(np.random.get_state())),
    )


def unchanged(network, before):
    now = state(network)
    assert now[0].keys() == before[0].keys()
    assert all(torch.equal(now[0][name], before[0][name]) for name in now[0])
    assert now[1:4] == before[1:4]
    assert torch.equal(now[4][0], before[4][0])
    assert now[4][1:] == before[4][1:]
