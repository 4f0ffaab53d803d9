"""Every augmentation of texts: lengths and special tokens stay, and no generator is hidden."""

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import texts
from tlx.building.calls import augmentations
from tlx.config.check import check
from tlx.config.compose import compose
from tlx.config.places import conf_dir
from tlx.config.run import typed
from tlx.data.text import inputs as tokens
from tlx.data.text.augment import token_cutoff, word_dropout, word_swap
from tlx.data.text.tokenise import special_ids

OPTIONS = sorted(
    path.stem
    for path in conf_dir().glob("augmentation/*.yaml")
    if "data.text.augment" in path.read_text()
)
WORDS = [f"w{i}" for i in range(40)]
SPEC = texts.spec([" ".join(WORDS)])
SPECIAL = special_ids(SPEC.tokenizer)
FREE = sorted(set(range(SPEC.vocabulary)) - set(SPECIAL))
ids = st.lists(st.sampled_from([*FREE, *SPECIAL]), max_size=30).map(
    lambda row: torch.tensor(row, dtype=torch.int64)
)
seeds = st.integers(0, 1000)


MADE = {
    option: augmentations(typed(compose([f"augmentation=[{option}]"], check=False)))[0]
    for option in OPTIONS
}


def run(augmentation, row, seed, *, spec=SPEC):
    torch.manual_seed(seed)
    return augmentation.make(spec)(row)


def free(row):
    return ~torch.isin(row, torch.tensor(SPECIAL))


def long_row(words=20):
    inner = torch.tensor(FREE[:words])
    return torch.cat([torch.tensor([2]), inner, torch.tensor([3])])


def test_there_are_options():
    assert OPTIONS == ["token_cutoff", "word_dropout", "word_swap"]


@pytest.mark.parametrize("option", OPTIONS)
@given(row=ids, seed=seeds)
def test_lengths_special_tokens_and_what_was_given_stay(option, row, seed):
    before = row.clone()
    changed = run(MADE[option], row, seed)
    assert torch.equal(row, before)
    assert changed.shape == row.shape
    assert changed.dtype == torch.int64
    assert torch.equal(changed[~free(row)], row[~free(row)])


@pytest.mark.parametrize("option", OPTIONS)
def test_draws_come_from_the_global_generator_only(option):
    found = MADE[option]
    assert (found.name, found.kind, found.deterministic) == (option, "tokens", False)
    first = [run(found, long_row(), seed) for seed in range(12)]
    random.seed(5)
    np.random.seed(5)
    copy = pickle.loads(pickle.dumps(found))
    assert all(torch.equal(run(copy, long_row(), s), row) for s, row in enumerate(first))
    assert len({tuple(row.tolist()) for row in first}) > 1
    change = pickle.loads(pickle.dumps(found.make(SPEC)))  # goes to workers
    torch.manual_seed(3)
    assert torch.equal(change(long_row()), first[3])


@pytest.mark.parametrize("option", OPTIONS)
def test_the_encoder_changes_training_only(option):
    labels = texts.Labels("single", ("a", "b"))
    few = texts.Few([" ".join(WORDS)] * 8, [0, 1] * 4)
    data = texts.fitted(texts.splits(few, labels=labels), SPEC)
    sample = data.train[0]
    plain = tokens.TEXTS.encoder(SPEC, [MADE[option]], train=False)(sample)["input"]["input_ids"]
    assert torch.equal(plain, sample["input"]["input_ids"])
    torch.manual_seed(0)
    changed = tokens.TEXTS.encoder(SPEC, [MADE[option]], train=True)(sample)["input"]["input_ids"]
    assert not torch.equal(changed, plain)
    assert changed.shape == plain.shape


@pytest.mark.parametrize(
    ("value", "key"), [(None, "mask_id"), ("unknown", "unknown_id"), ("pad", "pad_id")]
)
def test_dropout_hides_its_share(value, key):
    row = torch.tensor(FREE[:1]).repeat(20_000)
    changed = run(word_dropout(p=0.3, value=value), row, 0)
    hidden = changed == getattr(SPEC, key)
    assert torch.equal(changed[~hidden], row[~hidden])
    assert abs(hidden.float().mean().item() - 0.3) < 4 * (0.21 / 20_000) ** 0.5
    assert torch.equal(run(word_dropout(p=0.0), row, 0), row)
    assert (run(word_dropout(p=1.0), row, 0) == SPEC.mask_id).all()


@given(row=ids, share=st.floats(0, 1), seed=seeds)
def test_cutoff_hides_one_span(row, share, seed):
    changed = run(token_cutoff(share=share), row, seed)
    there = free(row)
    hidden = (changed != row)[there]
    places = hidden.nonzero()[:, 0].tolist()
    assert len(places) == round(share * int(there.sum()))
    assert places == list(range(min(places, default=0), max(places, default=-1) + 1))
    assert (changed[changed != row] == SPEC.mask_id).all()


def test_cutoff_reaches_every_place_and_spares_some_texts():
    row = long_row(10)
    found = [run(token_cutoff(share=0.3, p=0.5), row, seed) != row for seed in range(300)]
    starts = {int(hidden.nonzero()[0]) for hidden in found if hidden.any()}
    assert starts == set(range(1, 9))
    assert 110 < sum(bool(hidden.any()) for hidden in found) < 190


@given(row=ids, swaps=st.integers(1, 4), seed=seeds)
def test_swaps_are_of_neighbours(row, swaps, seed):
    """So many steps at most, each over one place, and none over a special token."""
    changed = run(word_swap(swaps=swaps), row, seed)
    start = 0
    for end in [*(~free(row)).nonzero()[:, 0].tolist(), len(row)]:
        assert changed[start:end].sort()[0].tolist() == row[start:end].sort()[0].tolist()
        start = end + 1
    if len(set(row.tolist())) == len(row):
        order = [row.tolist().index(number) for number in changed.tolist()]
        steps = sum(a > b for i, a in enumerate(order) for b in order[i + 1 :])
        assert steps <= swaps
        assert steps % 2 == swaps % 2 or not (free(row)[:-1] & free(row)[1:]).any()


@pytest.mark.parametrize("unit", ["word", "token"])
def test_what_is_asked_of_a_place_is_not_swapped_away(unit):
    with pytest.raises(ValueError, match=f"one vector a {unit}"):
        word_swap().make(replace(SPEC, unit=unit))
    for other in (word_dropout(), token_cutoff()):
        assert run(other, long_row(), 0, spec=replace(SPEC, unit=unit)).shape == long_row().shape


def test_a_tokenizer_without_the_wanted_token_is_refused():
    bare = replace(SPEC, mask_id=None)
    row = torch.tensor(FREE)
    assert (run(word_dropout(p=1.0), row, 0, spec=bare) == SPEC.unknown_id).all()
    with pytest.raises(ValueError, match="value=mask: the backbone's tokenizer has unknown, pad"):
        word_dropout(value="mask").make(bare)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: word_dropout(p=1.1), "p=1.1"),
        (lambda: word_dropout(value="musk"), "value='musk'"),
        (lambda: token_cutoff(share=-0.1), "share=-0.1"),
        (lambda: token_cutoff(p=2), "p=2"),
        (lambda: word_swap(swaps=0), "swaps=0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_configs_are_checked():
    base = ["dataset=conll", "dataset.root=null", f"dataset.train={__file__}", "backbone=word_lm"]
    for more, place in (
        ("augmentation.word_dropout.p=2", "augmentation.word_dropout.p"),
        ("+augmentation.word_dropout.value=musk", "augmentation.word_dropout.value"),
    ):
        found = check(compose([*base, "augmentation=[word_dropout]", more], check=False))
        assert [problem.place for problem in found] == [place]
    found = check(compose([*base, "augmentation=[color]"], check=False))
    assert [problem.place for problem in found] == ["augmentation.color"]
