"""Parts of tlx hold their contracts, and each test of these fails for a part that is wrong."""

import unittest
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import tlx.testing
from tlx.backbones.own import wrapped
from tlx.data.images.digits import digits
from tlx.data.images.inputs import ImageInputs
from tlx.data.images.spec import ImageSpec
from tlx.methods import strategies
from tlx.methods.stages import Stage
from tlx.tasks.classification import classification
from tlx.tasks.multi_label import multi_label_classification as multi_label
from tlx.training import regularization
from tlx.training.effects import Effects, Penalty

READS = ImageSpec(size=(1, 8, 8), mean=(0.5,), std=(0.5,), interpolation="bilinear", crop_pct=1.0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())

    def forward(self, images):
        return self.blocks(self.stem(images)).mean(dim=(2, 3))


class OfDigits(tlx.testing.SourceContract):
    reads = READS
    varied: ClassVar = {"shift": "noise", "labels_per_class": 3, "split_seed": 1}

    def make(self, **changed):
        return digits(**changed)


class OfNet(tlx.testing.BackboneContract):
    def make(self, *, init="none"):
        return wrapped(Net(), READS, width=6, init=init)


class OfGradual(tlx.testing.StrategyContract):
    def make(self, layout):
        return strategies.gradual(layout, every_steps=5)


class OfL2Sp(tlx.testing.PenaltyContract):
    def make(self):
        return regularization.l2_sp()


class OfClassification(tlx.testing.TaskContract):
    def make(self, labels):
        return classification(labels)


class OfMultiLabel(tlx.testing.TaskContract):
    labels = tlx.testing.TaskContract.labels
    labels = replace(labels, kind="multi", names=("a", "b", "c"))
    raw = tuple((float(i % 2), float(i % 3 == 0), 1.0) for i in range(12))

    def make(self, labels):
        return multi_label(labels)


def failures(contract, *names):
    """The tests that fail for a part: of all, or of those that are named, without `test_`."""
    result = unittest.TestResult()
    tests = [contract(f"test_{name}") for name in names]
    suite = (
        unittest.TestSuite(tests)
        if names
        else unittest.defaultTestLoader.loadTestsFromTestCase(contract)
    )
    suite.run(result)
    assert result.testsRun
    wrong = [getattr(test, "test_case", test) for test, _ in (*result.failures, *result.errors)]
    return {test._testMethodName.removeprefix("test_") for test in wrong}


def test_a_contract_itself_is_no_test():
    result = unittest.TestResult()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tlx.testing.StrategyContract)
    suite.run(result)
    assert result.skipped
    assert result.wasSuccessful()
    with pytest.raises(AttributeError, match="there are BackboneContract"):
        tlx.testing.StrategyTest  # noqa: B018


# -- sources --------------------------------------------------------------------------------------


class Renamed:
    """A split that calls its items by other names, or draws their inputs anew."""

    def __init__(self, split, *, ids=None, draws=False):
        self.split, self.ids = split, ids or split.ids
        self.targets, self.keys, self.draws = split.targets, split.keys, draws

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        sample = self.split[index]
        if self.draws:
            angle = torch.randint(1, 359, ()).item()
            sample = {**sample, "input": sample["input"].rotate(angle)}
        return sample


class Silent(ImageInputs):
    """Its encoder says nothing of itself."""

    def encoder(self, spec, augmentations, *, train):
        encode = super().encoder(spec, augmentations, train=train)
        return lambda sample: encode(sample)


class Backwards(ImageInputs):
    """Its batches are in another order than their items."""

    @staticmethod
    def collate(spec, inputs):
        return ImageInputs.collate(spec, inputs[::-1])


COUNT = iter(range(10**6))
SOURCES = {
    "it_is_the_same_each_time": lambda d, c: replace(d, fingerprint=f"{next(COUNT)}"),
    "ids_are_unique": lambda d, c: replace(d, val=d.train),
    "samples_are_what_ids_and_targets_say": lambda d, c: replace(
        d, train=Renamed(d.train, ids=[f"other{i}" for i in range(len(d.train))])
    ),
    "what_an_argument_changes_is_seen": lambda d, c: replace(
        d, train=Renamed(d.train, draws="labels_per_class" in c)
    ),
    "its_encoder_says_what_it_depends_on": lambda d, c: replace(d, inputs=Silent()),
    "a_batch_is_made_of_its_items": lambda d, c: replace(d, inputs=Backwards()),
}


@pytest.mark.parametrize("fault", SOURCES)
def test_a_source_that_is_wrong(fault):
    class Wrong(OfDigits):
        def make(self, **changed):
            return SOURCES[fault](digits(**changed), changed)

    assert failures(Wrong, fault) == {fault}


# -- networks, strategies, penalties --------------------------------------------------------------


class Mixing(Net):
    """What it says of an item depends on the others."""

    def forward(self, images):
        found = super().forward(images)
        return found - found.mean(0)


class Idle(Net):
    """A part of it is never used."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(2, 2)


def _seedless():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(next(COUNT))
        return Net()


NETWORKS = {
    "its_groups_hold_each_parameter_once": lambda: replace(
        (made := wrapped(Net(), READS, width=6)), groups=made.groups[1:]
    ),
    "what_it_names_is_there": lambda: replace(wrapped(Net(), READS, width=6), neck=("norm.bias",)),
    "features_are_as_wide_as_it_says": lambda: wrapped(Net(), READS, width=7),
    "an_items_features_are_its_own": lambda: wrapped(Mixing(), READS, width=6),
    "every_parameter_is_used": lambda: wrapped(Idle(), READS, width=6),
    "its_random_weights_are_the_seeds": lambda: wrapped(_seedless(), READS, width=6),
    "it_starts_from_a_file": lambda: wrapped(Net(), READS, width=6),
}


@pytest.mark.parametrize("fault", NETWORKS)
def test_a_network_that_is_wrong(fault):
    class Wrong(tlx.testing.BackboneContract):
        def make(self, *, init="none"):
            return NETWORKS[fault]()

    assert failures(Wrong, fault) == {fault}


STRATEGIES = {
    "stages_name_parameters_of_the_network": lambda net: (Stage("other", {"layer.weight": 1.0}),),
    "the_head_trains": lambda net: (Stage("stem", dict.fromkeys(net.groups[0].parameters, 1.0)),),
    "it_is_a_pure_function": lambda net: (Stage(f"{next(COUNT)}", dict.fromkeys(net.names, 1.0)),),
    "its_stages_share_out_a_budget": lambda net: (
        Stage("first", dict.fromkeys(net.names, 1.0)),
        Stage("second", dict.fromkeys(net.names, 1.0)),
    ),
}


@pytest.mark.parametrize("fault", STRATEGIES)
def test_a_strategy_that_is_wrong(fault):
    class Wrong(tlx.testing.StrategyContract):
        def make(self, layout):
            return STRATEGIES[fault](layout)

    assert failures(Wrong, fault) == {fault}


def _scaled(step):
    with torch.no_grad():
        step.network.head.weight.mul_(2)
    return step.outputs.square().mean()


PENALTIES = {
    "it_is_a_finite_number": lambda step: step.outputs.square().mean(1),
    "it_changes_what_trains": lambda step: 0 * step.outputs.square().mean(),
    "it_leaves_the_step_as_it_was": _scaled,
    "it_draws_as_it_is_seeded": lambda step: step.outputs.square().mean() * next(COUNT),
}


@pytest.mark.parametrize("fault", PENALTIES)
def test_a_penalty_that_is_wrong(fault):
    class Wrong(tlx.testing.PenaltyContract):
        def make(self):
            return Effects(Penalty(PENALTIES[fault]))

    assert failures(Wrong, fault) == {fault}


# -- tasks ----------------------------------------------------------------------------------------


class Changed:
    """A task of which one thing is wrong."""

    def __init__(self, task, **wrong):
        self.task, self.wrong = task, wrong

    def __getattr__(self, name):
        return self.wrong[name] if name in self.wrong else getattr(self.task, name)


TASKS = {
    "each_item_has_losses_and_weights": lambda t: {
        "weights": lambda batch: {"loss": torch.zeros(12)}
    },
    "the_head_learns": lambda t: {"losses": lambda o, b: {"loss": (0 * o.sum(1), torch.ones(12))}},
    "its_figures_are_those_it_names": lambda t: {"directions": {"f1": "max"}},
    "it_says_something_of_each_item": lambda t: {"columns": lambda c: {"label": ["a"]}},
    "its_targets_are_checked": lambda t: {
        "targets": multi_label(replace(t.labels, kind="multi")).targets
    },
}


@pytest.mark.parametrize("fault", TASKS)
def test_a_task_that_is_wrong(fault):
    class Wrong(tlx.testing.TaskContract):
        def make(self, labels):
            task = classification(labels)
            return Changed(task, **TASKS[fault](task))

    assert failures(Wrong, fault) == {fault}
