"""Stages fill the budget exactly, and what does not fit is refused with its reason."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.methods import strategies
from tlx.methods.stages import Stage, Until, check, layout_of, least_steps, matching, spans

LAYOUT = layout_of({"stem": ["backbone.a.weight"], "head": ["head.weight"]})


def stage(name="x", **until):
    return Stage(name, {"head.weight": 1.0}, Until(**until))


def bounds(stages, total, per_epoch=10):
    return [(s.start, s.end) for s in spans(stages, total_steps=total, steps_per_epoch=per_epoch)]


def test_units_add_up_and_the_last_takes_the_rest():
    stages = [stage(steps=3), stage(epochs=0.5), stage(fraction=0.25), stage()]
    assert bounds(stages, 40) == [(0, 3), (3, 8), (8, 18), (18, 40)]


@given(st.integers(1, 12), st.integers(100, 5000), st.integers(1, 97))
def test_equal_fractions_tile_any_budget_without_drift(count, total, per_epoch):
    stages = [stage(fraction=1 / count) for _ in range(count - 1)] + [stage()]
    found = bounds(stages, total, per_epoch)
    assert found[0][0] == 0
    assert found[-1][1] == total
    assert all(a[1] == b[0] for a, b in pairwise(found))
    lengths = [end - start for start, end in found]
    assert max(lengths) - min(lengths) <= 1


def test_a_plateau_alone_is_no_end():
    with pytest.raises(ValueError, match="'x' has no end"):
        bounds([stage(plateau=2), stage()], 40)
    assert bounds([stage(plateau=2)], 40) == [(0, 40)]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage(steps=41), stage()], "would end at step 41 of a budget of 40"),
        ([stage(steps=40), stage("all")], "'all' gets no step"),
        ([stage(fraction=0.001), stage()], "gets no step"),
        ([stage()] * 2, "is not the last"),
        ([stage(steps=3, epochs=1), stage()], "two ends, steps=3, epochs=1"),
        ([stage(fraction=0.0), stage()], r"fraction=0.0; give one in \(0, 1\]"),
        ([stage(fraction=1.5), stage()], r"fraction=1.5"),
        ([stage(fraction=float("nan")), stage()], "fraction=nan"),
        ([stage(steps=0), stage()], "steps=0"),
        ([stage(epochs=-1), stage()], "epochs=-1"),
        ([stage(epochs=float("inf")), stage()], "epochs=inf"),
        ([stage(steps=3, plateau=0), stage()], "plateau=0"),
        ([stage(steps=3), stage(steps=3)], "leave its end out"),
        ([], "no stage"),
    ],
)
def test_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        bounds(stages, 40)


def test_the_last_stage_may_say_what_it_gets_anyway():
    assert bounds([stage(steps=30), stage(steps=10)], 40) == [(0, 30), (30, 40)]


def test_a_rule_must_match_in_full():
    names = LAYOUT.names
    assert matching(r"backbone\..*", names) == ("backbone.a.weight",)
    with pytest.raises(ValueError, match=r"matches no parameter; names look like 'head\.weight'"):
        matching(r"haed\..*", names)
    with pytest.raises(ValueError, match="matches no parameter"):
        matching("head", names)
    with pytest.raises(ValueError, match="no regular expression"):
        matching("(", names)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([Stage("x", {})], "trains nothing"),
        ([Stage("x", {"haed.weight": 1.0})], "'haed.weight', which is no parameter"),
        ([Stage("x", {"head.weight": 0.0})], "by 0.0"),
        ([Stage("x", {"head.weight": float("nan")})], "by nan"),
    ],
)
def test_stages_that_do_not_fit_the_network(stages, message):
    with pytest.raises(ValueError, match=message):
        check(stages, LAYOUT)


LAYOUTS = [layout_of({f"g{i}": [f"w{i}"] for i in range(count)}) for count in (2, 5, 9, 14)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: len(layout.groups))
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradual", {}),
        ("gradual", {"every_steps": 3}),
        ("gradual", {"every_epochs": 1.5}),
        ("chain_thaw", {}),
        ("freezeout", {}),
        ("freezeout", {"t0": 0.3, "how": "linear"}),
        ("lp_ft", {"head_fraction": 0.98}),
        ("freeze_unfreeze", {"head_steps": 7}),
    ],
)
def test_the_least_budget_is_the_first_from_which_on_all_fit(name, options, layout):
    made = getattr(strategies, name)(layout, **options)
    least = least_steps(made, steps_per_epoch=3)

    def said(steps):
        try:
            spans(made, total_steps=steps, steps_per_epoch=3)
        except ValueError as error:
            return str(error)
        return ""

    assert not any(said(steps) for steps in range(least, least + 150))
    assert least == 1 or f"fit into {least} steps or more" in said(least - 1)


def test_stages_of_less_than_a_step_fit_no_budget():
    made = strategies.gradual(LAYOUTS[1], every_epochs=0.1)
    assert least_steps(made, steps_per_epoch=2) is None
    with pytest.raises(ValueError, match="shorten the stages before it"):
        spans(made, total_steps=3, steps_per_epoch=2)
