"""`auto` is derived from the config alone, hashed as if it had been given, and told of."""

import pytest
import yaml

from tlx import cli
from tlx.config import compose, defaults, identity
from tlx.config.defaults import Derived, Rule

RUN = ["dataset=digits", "backbone.init=none", "logger=[]"]
RATES = {"full": 1e-4, "linear_probe": 1e-2}


def by_strategy(config):
    """A made-up rule: rates by strategy, of two of them."""
    name = config["freeze_strategy"]["_target_"].rpartition(".")[2]
    return Derived(RATES[name], f"a rate for {name}") if name in RATES else None


@pytest.fixture
def rate(monkeypatch):
    rules = (*defaults.RULES, Rule("optimizer.lr", by_strategy, before=1e-3))
    monkeypatch.setattr(defaults, "RULES", rules)


def composed(*overrides):
    return compose.compose([*RUN, *overrides], check=False)


@pytest.mark.parametrize("strategy", RATES)
def test_a_rule_gives_the_value_and_its_source(rate, strategy):
    line = [f"freeze_strategy={strategy}", "optimizer.lr=auto"]
    config = composed(*line)
    assert config["optimizer"]["lr"] == RATES[strategy]
    sources = compose.Composer().derived([*RUN, *line])
    assert sources["optimizer.lr"] == f"a rate for {strategy}"


def test_a_derived_value_is_hashed_as_if_it_had_been_given(rate):
    line = ["freeze_strategy=full"]
    derived = identity.run_id(composed(*line, "optimizer.lr=auto"))
    given = identity.run_id(composed(*line, "optimizer.lr=0.0001"))
    assert derived == given
    assert given != identity.run_id(composed(*line, "optimizer.lr=0.002"))


def test_values_that_were_given_keep_their_ids(monkeypatch):
    """With the rule or without it, also where the value is the default that there was before."""
    lines = [[], ["optimizer.lr=0.001"], ["optimizer.lr=0.0001"], ["frozen.norm_stats=freeze"]]
    before = [identity.run_id(composed(*line)) for line in lines]
    rules = (*defaults.RULES, Rule("optimizer.lr", by_strategy, before=1e-3))
    monkeypatch.setattr(defaults, "RULES", rules)
    assert [identity.run_id(composed(*line)) for line in lines] == before
    monkeypatch.setattr(defaults, "RULES", ())
    assert identity.run_id(composed(*lines[1])) == before[1]


def test_what_cannot_be_derived_is_told(rate):
    config = composed("freeze_strategy=gradual", "optimizer.lr=auto")
    assert config["optimizer"]["lr"] == defaults.AUTO
    assert any(
        problem.place == "optimizer.lr" and "give a value" in str(problem)
        for problem in defaults.check(config)
    )


def test_norm_statistics_follow_where_a_task_says_nothing(capsys):
    assert composed()["frozen"]["norm_stats"] == "follow"
    same = [identity.run_id(composed(*line)) for line in ([], ["frozen.norm_stats=follow"])]
    assert same[0] == same[1]
    assert cli.main(["train", *RUN, "--check"]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown)["frozen"]["norm_stats"] == "follow"
    assert "# frozen.norm_stats=follow: task classification states no NORM_STATS" in shown


def test_a_task_of_ones_own_states_its_norm_statistics(tmp_path, monkeypatch):
    text = "NORM_STATS = 'freeze'\n\n\ndef boxes(labels, *, width: int = 1):\n    return labels\n"
    (tmp_path / "own_boxes.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    config = composed("task._target_=own_boxes.boxes")
    assert config["frozen"]["norm_stats"] == "freeze"
    other = composed("task._target_=own_boxes.boxes", "frozen.norm_stats=follow")
    assert other["frozen"]["norm_stats"] == "follow"
    assert identity.run_id(config) != identity.run_id(other)
