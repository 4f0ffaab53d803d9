"""What all contracts have in common."""

import contextlib
import unittest
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor


class Contract(unittest.TestCase):
    """Tests of a part of one kind; abstract: a class of one's own says how the part is made."""

    @classmethod
    def setUpClass(cls) -> None:
        """Skips what is no test but a base of tests."""
        if cls.__module__.startswith("tlx.testing."):
            raise unittest.SkipTest("a contract: derive a test from it")

    def same(self, one: object, other: object, message: str) -> None:
        """Fails where two values of tensors, lists and mappings differ."""
        self.assertTrue(alike(one, other), message)


def alike(one: object, other: object) -> bool:
    """Whether two values are equal, tensors bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if (
        isinstance(one, Sequence)
        and isinstance(other, Sequence)
        and not isinstance(one, str | bytes)
    ):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from torch's generator alike, and leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
