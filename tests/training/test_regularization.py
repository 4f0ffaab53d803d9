"""Options that read inputs: R-Drop by direct computation, NEFTune against transformers' own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.integrations.neftune import activate_neftune

import tiny as made
from tiny import ALL, tiny
from tlx.backbones.backbone import Features
from tlx.backbones.text.noise import add_noise
from tlx.backbones.text.tfidf import tfidf
from tlx.backbones.timm.networks import timm
from tlx.data.splits import Labels
from tlx.methods import freezing
from tlx.methods.step import Step
from tlx.tasks.classification import classification
from tlx.tasks.multi_label import multi_label_classification
from tlx.tasks.task import Network
from tlx.training import regularization
from tlx.training.effects import Regularization, Setting


class Pooled(nn.Module):
    """A linear head on pooled features, or on tokens."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, features):
        return self.linear(features.pooled if features.pooled is not None else features.tokens)


def features(module, inputs):
    return Features(pooled=module(inputs))


def test_r_drop_runs_the_network_once_more():
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)), Pooled(8), features)
    inputs = torch.randn(6, 4)
    option = regularization.r_drop(alpha=0.7)
    torch.manual_seed(1)
    seen, outputs = network.with_features(inputs)
    step = Step({"input": inputs}, seen, outputs, network, frozenset())
    penalty = option.parts[0].of
    found = penalty(step)
    torch.manual_seed(1)
    first, second = network(inputs).softmax(1), network(inputs).softmax(1)
    one = F.kl_div(second.log(), first, reduction="batchmean")
    other = F.kl_div(first.log(), second, reduction="batchmean")
    torch.testing.assert_close(found, 0.7 * 0.5 * (one + other))
    assert found > 0
    step = Step({"input": inputs}, seen, network.eval()(inputs), network, frozenset())
    assert penalty(step).item() == 0


def test_r_drop_of_tokens_counts_the_real_ones():
    backbone = tiny("bert", unit="token")
    network = Network(backbone.module, Pooled(16), backbone.features).train()
    inputs = made.batch(backbone.reads, [7, 3])
    option = regularization.r_drop(alpha=1.0)
    torch.manual_seed(1)
    seen, outputs = network.with_features(inputs)
    found = option.parts[0].of(Step({"input": inputs}, seen, outputs, network, frozenset()))
    torch.manual_seed(1)
    mask = inputs["attention_mask"]
    p, q = network(inputs)[mask].softmax(-1), network(inputs)[mask].softmax(-1)
    one, other = F.kl_div(q.log(), p, reduction="sum"), F.kl_div(p.log(), q, reduction="sum")
    torch.testing.assert_close(found, 0.5 * (one + other) / mask.sum())


def network_of(kind, **options):
    torch.manual_seed(0)
    backbone = tiny(kind, dropout=0.0, **options)
    return backbone, Network(backbone.module, Pooled(16), backbone.features).train()


@pytest.mark.parametrize("kind", ALL)
def test_neftune_is_that_of_transformers(kind):
    backbone, network = network_of(kind)
    inputs = made.batch(backbone.reads, [9, 4])
    plain = network(inputs)
    theirs = copy.deepcopy(network)
    add_noise(network, backbone, alpha=5.0)
    activate_neftune(theirs.backbone.model, 5.0)
    torch.manual_seed(3)
    found = network(inputs)
    torch.manual_seed(3)
    torch.testing.assert_close(found, theirs(inputs))
    assert not torch.allclose(found, plain)
    torch.testing.assert_close(network.eval()(inputs), plain)


def test_neftune_reaches_frozen_embeddings_and_copies_look_at_their_own_mode():
    backbone, network = network_of("bert")
    inputs = made.batch(backbone.reads, [9, 4])
    plain = network(inputs)
    add_noise(network, backbone, alpha=5.0)
    freezing.apply(network, {"head.linear.weight"})
    freezing.set_modes(network.train())
    copied = copy.deepcopy(network).eval()
    assert not torch.allclose(network(inputs), plain)
    torch.testing.assert_close(copied(inputs), plain)


def setting(backbone=None, task=None):
    backbone = backbone or tiny("bert")
    task = task or classification(Labels("single", ("a", "b", "c")))
    return Setting(task, backbone, Network(backbone.module, nn.Identity(), features), stages=())


def test_neftune_refuses_what_has_no_token_embeddings():
    options = Regularization({"neftune": regularization.neftune()})
    options.check(setting())
    for backbone in (timm(name="test_vit", init="none"), tfidf(made.reading({}))):
        with pytest.raises(ValueError, match="neftune is noise on token embeddings"):
            options.check(setting(backbone))
        with pytest.raises(ValueError, match="noise on token embeddings"):
            add_noise(backbone.module, backbone, alpha=5.0)


def test_r_drop_is_for_classes_of_which_one_is_right():
    options = Regularization({"r_drop": regularization.r_drop()})
    options.check(setting())
    with pytest.raises(ValueError, match=r"r_drop compares the probabilities .* MultiLabel"):
        options.check(setting(task=multi_label_classification(Labels("multi", ("a", "b")))))


def test_two_options_that_set_the_same_are_named():
    one, other = regularization.drop_path(p=0.1), regularization.drop_path(p=0.2)
    with pytest.raises(ValueError, match="one, other all set drop_path_rate"):
        Regularization({"one": one, "other": other})
    with pytest.raises(ValueError, match="a, b all set decay"):
        Regularization(dict.fromkeys("ab", regularization.weight_decay()))
