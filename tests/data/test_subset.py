"""Draws: complete, disjoint, stratified, nested, and blind to the order of files."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.data.draw import (
    Candidates,
    Draw,
    limited_train,
    limited_val,
    share,
    test_positions,
    val_positions,
)

test_positions.__test__ = False


def items(counts):
    classes = [c for c, n in enumerate(counts) for _ in range(n)]
    names = [f"class{c}" for c in range(len(counts))]
    return Candidates([f"{c}/{i}" for i, c in enumerate(classes)], classes, names)


def per_class(pool, positions):
    return Counter(pool.classes[i] for i in positions)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.floats(0.02, 0.9), st.integers())
def test_a_share_is_stratified(counts, fraction, seed):
    pool = items(counts)
    found = share(pool, fraction, seed=seed, purpose="val")
    assert found == sorted(set(found))
    taken = per_class(pool, found)
    for c, n in enumerate(counts):
        assert 1 <= taken[c] <= n - 1
        assert abs(taken[c] - fraction * n) < 1 or taken[c] in (1, n - 1)


@given(st.permutations(range(40)))
def test_the_order_of_files_does_not_matter(order):
    pool = items([10, 10, 10, 10])
    shuffled = Candidates(
        [pool.ids[i] for i in order], [pool.classes[i] for i in order], pool.names
    )
    for draw in (Draw(labels_per_class=3), Draw(fraction=0.3), Draw()):
        for take in (limited_train, val_positions, test_positions):
            mine = {pool.ids[i] for i in take(pool, draw)}
            assert mine == {shuffled.ids[i] for i in take(shuffled, draw)}


def test_seeds_differ_and_repeat():
    pool = items([50] * 4)
    a, b, c = (limited_train(pool, Draw(labels_per_class=5, seed=s)) for s in (0, 0, 1))
    assert a == b != c


def test_the_standard_split_ignores_the_seed_of_the_draw():
    pool = items([50] * 4)
    assert val_positions(pool, Draw(seed=0)) == val_positions(pool, Draw(seed=7))
    assert val_positions(pool, Draw()) != val_positions(pool, Draw(split_seed=7))


@pytest.mark.parametrize("limit", [{"labels_per_class": 4}, {"fraction": 0.2}])
def test_smaller_draws_lie_in_larger_ones(limit):
    pool = items([40] * 5)
    key, value = next(iter(limit.items()))
    small = limited_train(pool, Draw(**limit, seed=3))
    large = limited_train(pool, Draw(**{key: 2 * value}, seed=3))
    assert set(small) < set(large)
    assert set(per_class(pool, small).values()) == {4 if key == "labels_per_class" else 8}


def test_validation_is_as_small_and_apart():
    pool, draw = items([20] * 3), Draw(labels_per_class=4)
    val = val_positions(pool, draw)
    assert set(per_class(pool, val).values()) == {4}
    assert not set(val) & set(limited_train(pool, draw))


def test_validation_whole_without_limit_val():
    pool = items([20] * 3)
    draw = Draw(labels_per_class=4, limit_val=False, val_fraction=0.25)
    assert set(per_class(pool, val_positions(pool, draw)).values()) == {5}
    assert limited_val(pool, draw) == list(range(60))


def test_vtab_takes_800_and_200():
    pool, draw = items([150] * 10), Draw(protocol="vtab1k")
    val = val_positions(pool, draw)
    rest = [i for i in range(len(pool)) if i not in set(val)]
    inner = Candidates([pool.ids[i] for i in rest], [pool.classes[i] for i in rest], pool.names)
    train = {inner.ids[i] for i in limited_train(inner, draw)}
    assert len(train) == 800
    assert len(val) == 200
    assert train == {pool.ids[i] for i in limited_train(pool, draw)}


def test_vtab_needs_enough():
    with pytest.raises(ValueError, match="wants 1000 items"):
        val_positions(items([10] * 3), Draw(protocol="vtab1k"))


def test_too_few_of_a_class_is_named():
    with pytest.raises(ValueError, match="'class1' has 3") as error:
        limited_train(items([20, 3]), Draw(labels_per_class=5))
    assert "Lower labels_per_class" in str(error.value)
    with pytest.raises(ValueError, match="to validate on"):
        val_positions(items([20, 7]), Draw(labels_per_class=5))


@pytest.mark.parametrize("counts", [[107, 110], [7, 20], [2, 1], [30, 13]])
@pytest.mark.parametrize("k", [6, 10, 5000])
def test_what_is_advised_where_validation_is_split_off_suffices(counts, k):
    pool, draw = items(counts), Draw(labels_per_class=k)
    try:
        val_positions(pool, draw)
    except ValueError as error:
        said = str(error)
    else:
        return
    if found := re.search(r"at most (\d+)", said):
        most = int(found[1])
        val_positions(pool, replace(draw, labels_per_class=most))
        with pytest.raises(ValueError, match="too few"):
            val_positions(pool, replace(draw, labels_per_class=most + 1))
    other = replace(draw, limit_val=False)
    val = set(val_positions(pool, other))
    rest = [i for i in range(len(pool)) if i not in val]
    left = Candidates([pool.ids[i] for i in rest], [pool.classes[i] for i in rest], pool.names)
    if "limit_val=false" in said:
        limited_train(left, other)
    else:
        assert "use fraction" in said
        with pytest.raises(ValueError, match="use fraction"):
            limited_train(left, other)


def test_what_train_lacks_is_not_blamed_on_validation():
    draw = Draw(labels_per_class=5000)
    with pytest.raises(ValueError, match="at most 107, or use fraction"):
        limited_train(items([107, 110]), draw)
    with pytest.raises(ValueError, match="at most 20, or use limit_val=false"):
        limited_val(items([20, 30]), draw)


def test_labels_per_class_wants_classes():
    with pytest.raises(ValueError, match="use fraction"):
        limited_train(Candidates(["a", "b"], None), Draw(labels_per_class=1))
    assert (
        len(limited_train(Candidates([str(i) for i in range(20)], None), Draw(fraction=0.5))) == 10
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
        ({"labels_per_class": 0}, "labels_per_class=0"),
        ({"fraction": 1.5}, "fraction=1.5"),
        ({"protocol": "vtab"}, "protocol='vtab'"),
        ({"labels_per_class": 3, "fraction": 0.5}, "exclude each other"),
    ],
)
def test_wrong_arguments_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(Draw(), **wrong)
