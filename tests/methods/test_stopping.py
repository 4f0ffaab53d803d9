"""The plateau: patience counts, NaN never improves, and a restart forgets nothing."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.methods.stopping import Plateau

numbers = st.floats(-5, 5) | st.just(math.nan)


def longest_wait(values, mode):
    """Validations since the best so far, by definition, after each value."""
    sign = 1 if mode == "max" else -1
    best, waits, wait = -math.inf, [], 0
    for value in values:
        better = not math.isnan(value) and sign * value > best
        best, wait = (sign * value, 0) if better else (best, wait + 1)
        waits.append(wait)
    return waits


@given(st.lists(numbers, max_size=30), st.integers(1, 5), st.sampled_from(["max", "min"]))
def test_is_over_after_patience_validations_without_a_better_one(values, patience, mode):
    rule = Plateau(patience=patience, mode=mode)
    found = [rule.update(value) for value in values]
    assert found == [wait >= patience for wait in longest_wait(values, mode)]


@given(st.lists(numbers, max_size=20), st.integers(0, 20), st.floats(0, 1))
def test_a_restart_goes_on_as_if_nothing_happened(values, cut, min_delta):
    straight = Plateau(patience=3, min_delta=min_delta)
    expected = [straight.update(value) for value in values]
    first = Plateau(patience=3, min_delta=min_delta)
    found = [first.update(value) for value in values[:cut]]
    second = Plateau(patience=3, min_delta=min_delta)
    second.load(json.loads(json.dumps(first.state())))
    found += [second.update(value) for value in values[cut:]]
    assert found == expected


def test_small_gains_do_not_count_and_do_not_add_up_to_a_new_best():
    rule = Plateau(patience=2, min_delta=0.1, mode="max")
    assert [rule.update(value) for value in (0.5, 0.55, 0.59)] == [False, False, True]
    assert rule.best == 0.5


@pytest.mark.parametrize("mode", ["max", "min"])
def test_nan_never_improves_and_does_not_stay_the_best(mode):
    assert not Plateau.improves(math.nan, None, mode=mode)
    assert not Plateau.improves(math.nan, 0.0, mode=mode)
    rule = Plateau(patience=9, mode=mode)
    rule.update(math.nan)
    rule.update(0.5)
    assert rule.best == 0.5


@pytest.mark.parametrize("keywords", [{"patience": 0}, {"min_delta": -1}, {"mode": "up"}])
def test_refused(keywords):
    with pytest.raises(ValueError, match=next(iter(keywords))):
        Plateau(**{"patience": 1, **keywords})
