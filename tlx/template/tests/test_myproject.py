"""Each part of the project does what tlx expects of its kind."""

from myproject.data import bars
from myproject.freezing import upper
from myproject.networks import READS, small
from myproject.penalties import feature_norm

import tlx.testing


class TestBars(tlx.testing.SourceContract):
    reads = READS
    varied = {"tilt": 20.0, "noise": 0.1, "images_per_class": 40, "labels_per_class": 4}

    def make(self, **changed):
        return bars(**changed)


class TestSmall(tlx.testing.BackboneContract):
    def make(self, *, init="none"):
        return small(init=init)


class TestUpper(tlx.testing.StrategyContract):
    def make(self, layout):
        return upper(layout)


class TestFeatureNorm(tlx.testing.PenaltyContract):
    def make(self):
        return feature_norm()


class TestTransfer(tlx.testing.RunContract):
    overrides = (
        "experiment=pretrain",
        "freeze_strategy=upper",
        "regularization=[weight_decay,feature_norm]",
        "trainer.steps=6",
    )
