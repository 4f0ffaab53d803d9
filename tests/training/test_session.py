"""A procedure that trains nothing passes through no trainer and no loader of training."""

import time
from dataclasses import replace

import pytest
import torch

from tlx.building import plans
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.execution import preparing
from tlx.execution.lineage import Locator
from tlx.results import record
from tlx.train.train import carry_out
from tlx.training import session as sessions
from tlx.training.engine.course import Progress
from tlx.training.loaders import RankShare

RUN = [
    *("dataset=digits", "dataset.labels_per_class=2", "trainer=cpu", "trainer.steps=4"),
    *("backbone=timm", "backbone.name=test_resnet", "backbone.init=none"),
    *("backbone.image_size=32", "trainer.batch_size=4", "logger=[csv]"),
]


class Doubled:
    """A made-up procedure: the final head is twice the one that the run starts with."""

    def describe(self, session):
        return "the head is doubled"

    def run(self, session):
        with torch.no_grad():
            for parameter in session.plan.model.network.head.parameters():
                parameter.mul_(2)
        return Progress(notes={"doubled": True})

    def collect(self, session, split):
        return sessions.without_trainer(session, split)


def refuse(*args, **kwargs):
    raise AssertionError("made for training")


def test_a_procedure_without_training_makes_no_trainer(tmp_path, monkeypatch, capsys):
    place = Locator().locate(typed(compose([*RUN, f"runs_dir={tmp_path}"])))
    preparing.prepare(place)
    plan = replace(plans.plan(place.run, init="none"), procedure=Doubled())
    before = {n: p.clone() for n, p in plan.model.network.head.named_parameters()}
    for name in ("make_trainer", "TransferModule", "Reuse", "StepBatches"):
        monkeypatch.setattr(sessions, name, refuse)
    done = carry_out(plan, place.folder, share=RankShare(), started=time.monotonic())
    assert "the head is doubled" in capsys.readouterr().out
    assert record.read(place.folder) == done
    assert (done.status, done.used_steps, done.stages) == ("finished", 0, ())
    assert done.notes["doubled"]
    assert done.splits.keys() == {"val", "test"}
    assert (place.folder / "predictions" / "test.csv").is_file()
    for name, parameter in plan.model.network.head.named_parameters():
        assert torch.equal(parameter.cpu(), 2 * before[name])


def test_a_procedure_that_trains_is_refused_there(tmp_path, monkeypatch):
    place = Locator().locate(typed(compose([*RUN, f"runs_dir={tmp_path}"])))
    preparing.prepare(place)
    monkeypatch.setattr(sessions, "make_trainer", refuse)
    plan = plans.plan(place.run, init="none")
    with pytest.raises(AssertionError, match="made for training"):
        carry_out(plan, place.folder, share=RankShare(), started=time.monotonic())
