"""What training would refuse without having seen data, `--check` refuses in the same words."""

import re
import sys

import pytest

from forking import CONTEXT
from tlx import cli
from tlx.building import calls, plans, rehearsals
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.execution import rehearsal

RUN = [
    *("dataset=digits", "dataset.labels_per_class=2", "backbone=timm", "backbone.init=none"),
    *("backbone.name=test_resnet", "backbone.image_size=32", "trainer=cpu"),
    *("trainer.epochs=null", "trainer.batch_size=8"),
]
FIT = re.compile(r"stages fit into (\d+) steps or more")


def refusal(function, *overrides):
    """What it says; empty where it passes."""
    config = compose([*RUN, *overrides])
    try:
        function(config)
    except ValueError as error:
        return str(error)
    return ""


def checked(config):
    rehearsal.rehearse([("", typed(config))])


def planned(config):
    plans.plan(typed(config), init="none")


@pytest.mark.parametrize("strategy", ["gradual", "chain_thaw", "freezeout"])
def test_check_and_training_agree_on_the_least_budget(strategy):
    least = FIT.search(refusal(checked, f"freeze_strategy={strategy}", "trainer.steps=3"))
    assert least
    for steps in (int(least[1]) - 1, int(least[1])):
        line = (f"freeze_strategy={strategy}", f"trainer.steps={steps}")
        said = refusal(checked, *line)
        assert said == refusal(planned, *line)
        assert bool(said) is (steps < int(least[1]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["backbone.name=vgg11", "regularization=[drop_path]"], r"^regularization\.drop_path: "),
        (["backbone.name=vgg11", "backbone.drop_path_rate=0.1"], r"^backbone\.drop_path_rate: "),
        (["backbone.name=vgg11", "backbone.kwargs={foo: 1}"], r"^backbone\.kwargs\.foo: "),
        (["schedule.warmup_fraction=0", "schedule.warmup_steps=9"], "never be reached"),
        (["freeze_strategy=pattern", "freeze_strategy.patterns=[nix]"], "matches no parameter"),
    ],
)
def test_the_option_is_named_by_what_was_written(overrides, says):
    assert re.search(says, refusal(checked, "trainer.steps=9", *overrides))


def test_texts_have_no_stochastic_depth():
    network = ["backbone=transformers", "backbone.name=bert", "backbone.init=none"]
    config = compose(["dataset=stdlib_docs", *network, "regularization=[drop_path]"])
    with pytest.raises(ValueError, match=r"regularization\.drop_path: backbone 'bert' takes no"):
        checked(config)


def test_the_command_says_so(capsys):
    line = [*RUN, "freeze_strategy=gradual", "trainer.steps=3"]
    assert cli.main(["train", "--check", *line]) == 2
    assert FIT.search(capsys.readouterr().err)


def test_arms_are_named_and_each_network_is_looked_at_once(monkeypatch):
    line = ["trainer.steps=3", "freeze_strategy=gradual"]
    configs = [(f"arm {seed}", typed(compose([*RUN, *line, f"seed={seed}"]))) for seed in range(3)]
    with pytest.raises(ValueError, match="1 problem in the config:\n- arm 0: stage"):
        rehearsal.rehearse(configs)


@pytest.mark.parametrize("choice", ["regression", "multi_label_classification"])
def test_a_task_for_other_labels_is_refused_with_those_that_fit(choice):
    said = refusal(planned, f"task={choice}", "trainer.steps=8")
    assert "labels of kind 'single'" in said
    for fitting in ("audio_classification", "image_classification", "text_classification"):
        assert f"task={fitting}" in said


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["task.class_weights=[1,2,3]"], 3),
        (["task=multi_label_classification", "task.positive_weights=[1,2,3,4]"], 4),
        (["task=regression"], 2),
    ],
)
def test_a_rehearsal_stands_in_for_as_many_labels_as_are_weighed(overrides, count):
    run = typed(compose([*RUN, *overrides, "trainer.steps=8"]))
    made = rehearsals.rehearse(run, calls.regularization(run))
    assert len(made.task.labels.names) == count


def test_a_check_imports_no_trainer():
    """Which takes a fifth of its time."""
    process = CONTEXT.Process(target=check_afresh)
    process.start()
    process.join()
    assert process.exitcode == 0


def check_afresh():
    """Checks as if nothing of tlx and of the trainer had been imported yet."""
    rooms = ("tlx", "pytorch_lightning")
    for name in [name for name in sys.modules if name.partition(".")[0] in rooms]:
        del sys.modules[name]
    from tlx.cli import main

    line = ["train", "--check", "backbone.name=test_resnet", "backbone.init=none", "backbone=timm"]
    assert main(line) == 0
    assert "tlx.building.rehearsals" in sys.modules
    assert "pytorch_lightning" not in sys.modules
