"""The average: equal to torch's, exact on constants, undone by swapping twice."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tlx.methods.averaging import Average, warmed_decay


def warmed(network, *, decay):
    return Average(network, keeps=partial(warmed_decay, decay=decay))


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(network, *, frozen=(), steps=5, each=lambda: None):
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        each()


def states(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_equals_torchs_ema_once_the_decay_is_reached():
    network = make()
    average = warmed(network, decay=0.9)
    average.updates = 10**6
    reference = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    reference.n_averaged.fill_(1)  # it holds the start already, as ours does

    def each():
        average.update(network)
        reference.update_parameters(network)

    train(network, each=each)
    average.swap(network)
    for name, tensor in reference.module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        torch.testing.assert_close(network.state_dict()[name], tensor)


def test_the_decay_warms_up():
    assert [warmed_decay(t, decay=0.999) for t in (0, 1)] == [1 / 10, 2 / 11]
    assert warmed_decay(10**6, decay=0.999) == 0.999
    network = make()
    average = warmed(network, decay=0.999)
    start = states(network)
    with torch.no_grad():
        network[0].weight.add_(1)
    average.update(network)
    average.swap(network)
    torch.testing.assert_close(network[0].weight, start["0.weight"] + 0.9)


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_what_never_changes_stays_to_the_bit(decay):
    network = make()
    start = states(network)
    average = warmed(network, decay=decay)
    frozen = {"0.weight", "0.bias"}
    train(network, frozen=frozen, steps=50, each=lambda: average.update(network))
    average.swap(network)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, start[name]) == (name in frozen), name


def test_pitfall_11_swapping_twice_brings_the_trained_weights_back():
    network = make()
    average = warmed(network, decay=0.9)
    train(network, each=lambda: average.update(network))
    trained = states(network)
    average.swap(network)
    assert not same(states(network), trained)
    average.swap(network)
    assert same(states(network), trained)


def test_tied_weights_swap_once():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    average = warmed(network, decay=0.5)
    before = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.add_(1)
    average.swap(network)
    assert torch.equal(network[0].weight, before)


def test_a_restart_goes_on_to_the_bit(tmp_path):
    network = make()
    average = warmed(network, decay=0.9)
    train(network, each=lambda: average.update(network))
    torch.save(average.state(), tmp_path / "average.pt")
    twin = copy.deepcopy(network)
    state = torch.load(tmp_path / "average.pt", weights_only=True)
    again = Average.load(state, keeps=average.keeps)
    for net, rule in ((network, average), (twin, again)):
        torch.manual_seed(5)
        train(net, each=lambda net=net, rule=rule: rule.update(net))
        rule.swap(net)
    assert same(states(network), states(twin))


def test_integer_buffers_are_the_latest():
    network = make()
    average = warmed(network, decay=0.9)
    train(network, steps=7, each=lambda: average.update(network))
    average.swap(network)
    assert network[1].num_batches_tracked == 7


def test_refused():
    with pytest.raises(ValueError, match=r"differ, first in '0\.bias'"):
        warmed(nn.Sequential(nn.Linear(3, 4, bias=False)), decay=0.5).update(
            nn.Sequential(nn.Linear(3, 4))
        )
