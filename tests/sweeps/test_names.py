"""A study's name: which lines are one study."""

import pytest

from tlx.sweeps.studies import name_of


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["executor.workers=3"],
        ["runs_dir=elsewhere", "logger=[csv,wandb]", "keep=record"],
        ["study.seeds=[0,1,2]", "search.trials=9"],
    ],
)
def test_what_makes_no_other_study(more):
    assert name_of(["experiment=labels_curve", *more]) == "labels_curve"


def test_what_makes_another_study():
    names = {
        name_of(["experiment=labels_curve", *more])
        for more in ([], ["optimizer.lr=0.1"], ["optimizer.lr=0.2"], ["search.space={a: 1}"])
    }
    assert len(names) == 4
    assert all(name.startswith("labels_curve") for name in names)


def test_the_order_of_overrides_does_not_matter():
    line = ["seed=0,1", "optimizer.lr=0.1"]
    assert name_of(line, multirun=True) == name_of(line[::-1], multirun=True)
    assert name_of(line, multirun=True).startswith("sweep-")


def test_a_group_is_the_name():
    assert name_of(["experiment=labels_curve", "optimizer.lr=0.1", "group=mine"]) == "mine"
    assert name_of(["group=my/../own", "seed=1,2"], multirun=True) == "my_.._own"
