"""Order and seeds of training as pure functions: a restart, or another rank count, changes none.

Seeds are BLAKE2 hashes, so that neighbouring runs, epochs and samples share no stream. The order
sorts draws of `random.Random.random()`, the one generator whose sequence its library promises to
keep; `torch.randperm` and numpy's `Generator` promise that for one version only.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import torch

POOL, FEWEST_POOLS = 100, 2
"""Most batches whose items are sorted by length together, and how many such pools an epoch has at
least: in a single one the same items would make the same batches in every epoch."""


def permutation(n: int, seed: int, epoch: int) -> list[int]:
    """The order of n items in an epoch.

    >>> permutation(6, seed=0, epoch=0)
    [4, 3, 2, 1, 0, 5]
    >>> permutation(6, seed=0, epoch=1)
    [3, 4, 2, 0, 5, 1]
    """
    return list(_order(n, seed, epoch))


def batch_at(step: int, n: int, batch_size: int, seed: int) -> tuple[int, list[int]]:
    """The epoch and the items of the batch that optimizer step `step` trains on.

    Batches are full: what is left over at an epoch's end, other items each time, waits for the
    next epoch. With fewer items than a batch, each batch holds all of them.

    Args:
        step: from 0, over all epochs.
        n: number of items.
        batch_size: of all ranks together.
        seed: of the order.

    Raises:
        ValueError: there is no item, or the batch is empty.

    >>> batch_at(2, n=5, batch_size=2, seed=0) == (1, permutation(5, seed=0, epoch=1)[:2])
    True
    """
    if n < 1 or batch_size < 1 or step < 0:
        raise ValueError(
            f"step={step}, n={n}, batch_size={batch_size}; give a step of 0 or more, and at least "
            "one item and a batch of one"
        )
    epoch, batch = divmod(step, max(n // batch_size, 1))
    return epoch, list(_order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size])


class Order:
    """The batches of training, step by step, as `batch_at` gives them, or of items of like length.

    With lengths, an epoch's items are drawn as without, sorted by length within pools of batches,
    and cut into batches, which come in random order: little is padded, and neighbours in length
    meet anew in each epoch. An epoch has two pools or more, so that few items do so too.
    """

    def __init__(
        self, n: int, *, batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        """The order of n items.

        Args:
            n: number of items.
            batch_size: of all ranks together.
            seed: of the order.
            lengths: of the items; None: they are all alike.

        Raises:
            ValueError: there are not as many lengths as items.
        """
        if lengths is not None and len(lengths) != n:
            raise ValueError(f"{len(lengths)} lengths of {n} items; give one for each")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.lengths = None if lengths is None else tuple(lengths)
        self._epoch = -1
        self._batches: list[list[int]] = []

    def batch_at(self, step: int) -> tuple[int, list[int]]:
        """The epoch and the items of the batch that optimizer step `step` trains on.

        >>> order = Order(16, batch_size=2, seed=0, lengths=[*range(8), *range(8)])
        >>> [order.batch_at(step)[1] for step in range(3)]
        [[10, 11], [2, 3], [0, 1]]
        """
        if self.lengths is None:
            return batch_at(step, self.n, self.batch_size, self.seed)
        epoch, place = divmod(step, max(self.n // self.batch_size, 1))
        if epoch != self._epoch:
            self._batches, self._epoch = self._sorted(epoch), epoch
        return epoch, list(self._batches[place])

    def epoch_at(self, step: int) -> int:
        """The epoch of optimizer step `step`.

        >>> Order(16, batch_size=5, seed=0).epoch_at(3)
        1
        """
        return step // max(self.n // self.batch_size, 1)

    def _sorted(self, epoch: int) -> list[list[int]]:
        assert self.lengths is not None
        lengths, size = self.lengths, self.batch_size
        count = max(self.n // size, 1)
        drawn = _order(self.n, self.seed, epoch)[: count * size]
        pool = max(min(POOL, count // FEWEST_POOLS), 1) * size
        sorted_ = [
            item
            for start in range(0, len(drawn), pool)
            for item in sorted(drawn[start : start + pool], key=lambda item: lengths[item])
        ]
        batches = [sorted_[start : start + size] for start in range(0, len(sorted_), size)]
        turn = _order(len(batches), _hash("batches", int(self.seed)), epoch)
        return [batches[place] for place in turn]


def sample_seed(seed: int, epoch: int, sample_id: str) -> int:
    """Seed of one sample's augmentation, whichever process draws it; 63 bits.

    >>> sample_seed(0, 1, "cat/17.png")
    2746442920396909189
    """
    return _hash("sample", int(seed), int(epoch), str(sample_id))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what is random in a training step on one rank, dropout and mixing; 63 bits.

    >>> step_seed(0, 1, 0) != step_seed(0, 1, 1)
    True
    """
    return _hash("step", int(seed), int(step), int(rank))


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = random.Random(_hash("order", int(seed), int(epoch)))
    draws = torch.tensor([generator.random() for _ in range(n)], dtype=torch.float64)
    return tuple(draws.argsort(stable=True).tolist())


def _hash(*parts: str | int) -> int:
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
