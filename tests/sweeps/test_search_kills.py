"""Four workers over one journal, killed at random: exactly the budget, none twice."""

import random

import pytest

import search_kills


@pytest.mark.slow
def test_killed_workers_end_with_the_budget_to_the_trial(tmp_path):
    random.seed()
    storage, log = str(tmp_path / "optuna.journal"), tmp_path / "log.txt"
    trials, killed = search_kills.run(storage, log, budget=50, kills=20)
    taken_over = search_kills.check(trials, killed, log, budget=50)
    assert len(killed) >= 6
    assert taken_over >= 3  # else nothing was shown


@pytest.mark.slow
def test_the_check_notices_a_trial_of_two(tmp_path):
    storage, log = str(tmp_path / "optuna.journal"), tmp_path / "log.txt"
    trials, killed = search_kills.run(storage, log, budget=6, kills=0, workers=2)
    assert search_kills.check(trials, killed, log, budget=6) == 0
    search_kills.note(log, "begin", 3)
    with pytest.raises(AssertionError, match="trial 3 was worked on by two"):
        search_kills.check(trials, killed, log, budget=6)
    with pytest.raises(AssertionError):
        search_kills.check(trials, killed, log, budget=7)
