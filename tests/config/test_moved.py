"""Functions that moved: configs of before mean what they meant, and runs keep their names."""

import pytest
import yaml

from tlx.config import moved
from tlx.config.check import check
from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.config.places import targets_by_group
from tlx.config.signatures import signature
from tlx.execution import runs

OPTIONS = sorted(set().union(*targets_by_group().values()))
MOVED = [target for target in OPTIONS if moved.first(target) != target]


def under_first_names(config):
    """A config as it was written before anything moved."""
    if isinstance(config, dict):
        return {
            key: moved.first(value) if key == "_target_" else under_first_names(value)
            for key, value in config.items()
        }
    return config


@pytest.mark.parametrize("target", MOVED)
def test_first_names_lead_to_todays_functions(target):
    assert signature(moved.first(target)) is None
    assert moved.today(moved.first(target)) == target
    assert moved.today(target) == target
    assert signature(target) is not None


def test_each_entry_is_of_an_option():
    modules = {target.rpartition(".")[0] for target in MOVED}
    assert {*moved.FIRST} <= {*modules, *MOVED}


@pytest.mark.parametrize(
    "line",
    [
        ["augmentation=[standard,mixup]", "logger=[csv,tensorboard]"],
        ["backbone=distilbert", "dataset=stdlib_docs", "task=text_classification"],
        ["backbone=word_lm", "dataset=stdlib_docs", "task=text_classification"],
    ],
)
def test_a_run_of_before_is_the_same_run(line, tmp_path):
    now = compose(line)
    before = under_first_names(now)
    assert before != now
    assert run_id(before) == run_id(now)
    assert normalise(before) == now
    folder = tmp_path / run_id(now)
    folder.mkdir()
    (folder / runs.CONFIG).write_text(yaml.safe_dump(before))
    assert runs.read_config(folder) == now
    assert check(runs.read_config(folder)) == []
