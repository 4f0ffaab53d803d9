"""The order of training is a pure function: of seed and step, and of nothing else."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlx.methods.order import batch_at, permutation, sample_seed, step_seed

small = st.integers(1, 60)


@given(small, st.integers(0, 2**40), st.integers(0, 1000))
def test_a_permutation_holds_each_item_once(n, seed, epoch):
    assert sorted(permutation(n, seed, epoch)) == list(range(n))


@given(small, small, st.integers(0, 5))
def test_an_epoch_holds_as_many_full_batches_as_fit_and_no_item_twice(n, batch_size, seed):
    per_epoch = max(n // batch_size, 1)
    for epoch in range(2):
        found = [batch_at(epoch * per_epoch + k, n, batch_size, seed) for k in range(per_epoch)]
        assert {e for e, _ in found} == {epoch}
        items = [item for _, batch in found for item in batch]
        assert len(set(items)) == len(items)
        assert {len(batch) for _, batch in found} == {min(batch_size, n)}
        assert items == permutation(n, seed, epoch)[: len(items)]


def test_neither_global_streams_nor_numpy_integers_change_it():
    expected = [batch_at(step, 20, 6, 3) for step in range(7)]
    torch.manual_seed(9)
    np.random.seed(9)
    assert [batch_at(np.int64(step), 20, 6, np.int64(3)) for step in range(7)] == expected
    assert step_seed(np.int64(1), np.int64(2), 0) == step_seed(1, 2, 0)
    state = torch.get_rng_state()
    batch_at(100, 21, 6, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_process_finds_the_same():
    code = (
        "from tlx.methods.order import *\n"
        "print(permutation(9, 1, 2), sample_seed(1, 2, 'ä'), step_seed(1, 2, 3))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    expected = f"{permutation(9, 1, 2)} {sample_seed(1, 2, 'ä')} {step_seed(1, 2, 3)}"
    assert found.stdout.strip() == expected


def test_seeds_differ_in_every_part_and_fit_every_generator():
    seeds = [step_seed(s, t, r) for s in range(8) for t in range(8) for r in range(8)]
    seeds += [sample_seed(s, e, str(i)) for s in range(8) for e in range(8) for i in range(8)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))


def test_orders_of_seeds_and_epochs_differ():
    orders = {tuple(permutation(20, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_first_places_are_uniform():
    counts = np.bincount([permutation(5, seed, 0)[0] for seed in range(2000)], minlength=5)
    assert abs(counts - 400).max() < 5 * (400 * 0.8) ** 0.5


@pytest.mark.parametrize("arguments", [(0, 0, 1, 0), (0, 1, 0, 0), (-1, 1, 1, 0)])
def test_refused(arguments):
    with pytest.raises(ValueError, match="at least"):
        batch_at(*arguments)
