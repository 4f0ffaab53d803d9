"""Search spaces: both syntaxes give the same distributions, choices survive as overrides."""

import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tlx.config.problems import CheckError
from tlx.sweeps import search_entries, spaces

SAME = [
    ("tag(log, interval(1e-5, 1e-1))", {"type": "float", "low": "1e-5", "high": 0.1, "log": True}),
    ("interval(0, 1)", {"type": "float", "low": 0, "high": 1}),
    ("int(interval(1, 8))", {"type": "int", "low": 1, "high": 8}),
    ("tag(log, int(interval(1, 100)))", {"type": "int", "low": 1, "high": 100, "log": True}),
    ("range(1, 10)", {"type": "int", "low": 1, "high": 9}),
    ("range(1, 10, 4)", {"type": "int", "low": 1, "high": 9, "step": 4}),
    ("range(10, 1, -2)", {"type": "int", "low": 2, "high": 10, "step": 2}),
    ("range(0.1, 0.5, 0.1)", {"type": "float", "low": 0.1, "high": 0.4, "step": 0.1}),
    ("choice(a,b,c)", {"type": "categorical", "choices": ["a", "b", "c"]}),
    ("a,b,c", ["a", "b", "c"]),
    ("0.1,1,true", [0.1, 1, True]),
    ("choice([mixup,cutmix],[])", {"type": "categorical", "choices": [["mixup", "cutmix"], []]}),
    ("choice('a b=1',c)", ["'a b=1'", "c"]),
    ("choice('1',2)", ["'1'", 2]),
    ("sort(3,1,2)", [1, 2, 3]),
]


@pytest.mark.parametrize(("text", "typed"), SAME, ids=[text for text, _ in SAME])
def test_text_and_yaml_say_the_same(text, typed):
    assert spaces.parse({"key": text}) == spaces.parse({"key": typed})


def test_distributions_are_those_of_optuna():
    found = spaces.parse(
        {
            "optimizer.lr": "tag(log, interval(1e-5, 1e-1))",
            "freeze_strategy.k": "range(1, 10)",
            "+freeze_strategy": "lp_ft,full",
            "trainer.batch_size": {"type": "int", "low": 16, "high": 64, "step": 16},
        }
    )
    assert found == {
        "optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True),
        "freeze_strategy.k": IntDistribution(1, 9),
        "freeze_strategy": CategoricalDistribution(("lp_ft", "full")),
        "trainer.batch_size": IntDistribution(16, 64, step=16),
    }


@pytest.mark.parametrize(
    "text", ["range(1, 10)", "range(3)", "range(1, 2, 0.3)", "range(9, 2, -3)"]
)
def test_a_range_holds_what_hydra_runs_through(text):
    hydra = OverridesParser.create().parse_override(f"key={text}").sweep_iterator()
    (entry,) = spaces.entries({"key": text}).values()
    assert sorted(entry.values()) == pytest.approx(sorted(hydra))


@pytest.mark.parametrize(
    "value",
    ["lp_ft", ["a", "b"], [], {"x": [1, None]}, None, True, 3, 1e-5, "a=b", "it's", "a,b", "1 2"],
    ids=repr,
)
def test_a_choice_comes_back_from_hydra_as_it_was(value):
    text = search_entries.text_of(value)
    read = OverridesParser.create().parse_override(spaces.override("key", text))
    assert not read.is_sweep_override()
    assert read.value() == value


@pytest.mark.parametrize("value", [1e-05, 0.1 + 0.2, 3, 1e22])
def test_numbers_come_back_exactly(value):
    read = OverridesParser.create().parse_override(spaces.override("key", value)).value()
    assert read == value
    assert type(read) is type(value)


WRONG = [
    ("optimizer.lr", "0.1", "is one value"),
    ("optimizer.lr", 0.1, "is 0.1; give"),
    ("optimizer.lr", "interval(5, 1)", "lower end below"),
    ("optimizer.lr", "tag(log, interval(0, 1))", "log scale; start above 0"),
    ("optimizer.lr", "tag(logg, interval(1, 2))", "the only tag is log"),
    ("optimizer.lr", "tag(log, choice(1,2))", "no scale"),
    ("optimizer.lr", "interval(1", "cannot be read"),
    ("optimizer.lr", "range(1, 2)", "fewer than two"),
    ("optimizer", "glob(*)", "name the options"),
    ("optimizer", "choice(adam)", "1 choices; give two"),
    ("optimizer", ["adam", "adam"], "names adam twice"),
    ("optimizer.lr", {"low": 1, "high": 2}, "has type None; give one of float"),
    ("optimizer.lr", {"type": "flaot", "low": 1, "high": 2}, "did you mean 'float'"),
    ("optimizer.lr", {"type": "float", "low": 1, "hihg": 2}, "did you mean 'high'"),
    ("optimizer.lr", {"type": "float", "low": 1}, "has high None; give a number"),
    ("trainer.steps", {"type": "int", "low": 1.5, "high": 3}, "has low 1.5; give a whole number"),
    ("optimizer.lr", {"type": "float", "low": 1, "high": 2, "log": "yes"}, "true or false"),
    ("optimizer.lr", {"type": "float", "low": 1, "high": 2, "step": 3}, "has step 3.0; give one"),
    ("trainer.steps", {"type": "int", "low": 1, "high": 9, "log": True, "step": 2}, "log scale"),
    ("optimizer", {"type": "categorical", "choices": "adam,sgd"}, "give a list"),
    ("seed", "range(5)", "seeds_per_trial"),
    ("trainer.workers", "range(5)", "cannot change what a run finds out"),
    ("logger.wandb.mode", "a,b", "cannot change what a run finds out"),
    ("select_from", "last_stage,run", "set it for all trials alike"),
]


@pytest.mark.parametrize(("key", "value", "part"), WRONG)
def test_what_is_wrong_is_told_with_key_and_fix(key, value, part):
    (problem,) = spaces.problems({key: value, "schedule": "constant,cosine"})
    assert str(problem).startswith(f"search.space.{key}: ")
    assert part in str(problem)
    with pytest.raises(CheckError, match="1 problem"):
        spaces.parse({key: value})


def test_all_that_is_wrong_is_told_at_once():
    assert len(spaces.problems({key: "x(" for key in ("a", "b", "c")})) == 3


def test_examples_hold_every_choice_and_both_ends():
    lines = spaces.examples({"a": "interval(1, 2)", "b": "x,y,z", "c": "range(4)"})
    assert {line[0] for line in lines} == {"a=1.0", "a=2.0"}
    assert {line[1] for line in lines} == {"b=x", "b=y", "b=z"}
    assert {line[2] for line in lines} == {"c=0", "c=3"}


def test_a_space_is_checked_without_optuna():
    code = (
        "import sys; from tlx.sweeps import search_rules, spaces;"
        "assert not spaces.problems({'a': '1,2'});"
        "assert not {'optuna', 'torch', 'sqlalchemy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
