"""Loaders whose content is a pure function of (seed, step): nothing to save, nothing to lose.

The batch of optimizer step s is the same whatever the number of ranks, workers and restarts:
ranks take interleaved shares of it, and the randomness of a sample depends on its id and epoch.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, TypeVar, final

import torch
from torch.utils.data import DataLoader, Dataset

from tlx.base import interrupts
from tlx.data.splits import Batch, Encode, Sample, Split
from tlx.data.targets import Targets
from tlx.methods.order import Order, sample_seed

if TYPE_CHECKING:
    from torch.utils.data.dataloader import _BaseDataLoaderIter

B = TypeVar("B")

Position = tuple[int, int]
"""(index in the split, epoch)"""

MakeInputs = Callable[[Sequence[object]], object]
"""Makes the inputs of a batch of those of its items."""


class Loading(TypedDict):
    """How loaders load: in how many processes, and whether memory is pinned."""

    workers: int
    pin: bool


@dataclass
class Cursor:
    """Where the next pass of the training loader starts and ends, in optimizer steps."""

    step: int = 0
    end: int = 0


@dataclass(frozen=True)
class RankShare:
    """This rank's part of the work."""

    rank: int = 0
    world: int = 1


class Encoded(Dataset[Sample]):
    """A split whose samples are encoded; random encoders are seeded by sample id and epoch."""

    def __init__(self, split: Split, encode: Encode, *, targets: Targets, seed: int | None) -> None:
        """Keeps the parts.

        Args:
            split: of raw samples.
            encode: makes an input of what is raw.
            targets: make a target.
            seed: of what the encoder draws; None: nothing.
        """
        self.split = split
        self.encode = encode
        self.targets = targets
        self.seed = seed

    def __getitem__(self, position: Position) -> Sample:
        """The encoded sample at (index, epoch), with its index."""
        index, epoch = position
        raw = self.split[index]
        if self.seed is not None:
            key = sample_seed(self.seed, epoch, raw["id"])
            torch.default_generator.manual_seed(key)
            random.seed(key)
        sample = self.encode(raw)
        return {**sample, "target": self.targets.encode(sample["target"]), "index": index}


class StepBatches:
    """Batch sampler of training: this rank's micro-batches from the cursor to its end."""

    def __init__(self, order: Order, *, accumulate: int, share: RankShare) -> None:
        """Plans batches over all ranks and micro-batches together."""
        self.order = order
        self.accumulate = accumulate
        self.share = share
        self.cursor = Cursor()
        self.views = 0  # so many draws of an item are repeated; 0: each epoch draws anew

    def __iter__(self) -> Iterator[list[Position]]:
        """Yields positions, `accumulate` lists a step."""
        for step in range(self.cursor.step, self.cursor.end):
            epoch, indices = self.order.batch_at(step)
            for micro in range(self.accumulate):
                part = indices[micro :: self.accumulate]
                mine = part[self.share.rank :: self.share.world]
                yield [(i, epoch % self.views if self.views else epoch) for i in mine]


class EvalBatches:
    """Batch sampler of evaluation: this rank's items, each once, in order or by length."""

    def __init__(
        self, *, items: int, batch_size: int, share: RankShare, lengths: Sequence[int] | None = None
    ) -> None:
        """Plans batches of at most `batch_size` items on this rank."""
        self.mine: Sequence[int] = range(share.rank, items, share.world)
        if lengths is not None:
            # batches of like length need less padding; figures do not depend on the order
            self.mine = sorted(self.mine, key=lambda item: lengths[item])
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[Position]]:
        """Yields positions; the epoch is always 0."""
        for start in range(0, len(self.mine), self.batch_size):
            yield [(i, 0) for i in self.mine[start : start + self.batch_size]]

    def __len__(self) -> int:
        """Number of batches of this rank."""
        return -(-len(self.mine) // self.batch_size)


@dataclass(frozen=True)
class Collate:
    """Makes a batch of encoded samples: their inputs, their targets, their positions.

    Attributes:
        inputs: makes those of a batch.
        targets: make those of a batch.
    """

    inputs: MakeInputs
    targets: Targets

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Collates encoded samples."""
        inputs = self.inputs([sample["input"] for sample in samples])
        return {
            "input": inputs,
            "target": self.targets.collate([sample["target"] for sample in samples], inputs),
            "index": torch.tensor([sample["index"] for sample in samples]),
        }


@final
class InSteps:
    """A training loader that gives the parts of a step once it has seen all of them.

    What depends on the whole batch is settled before its first part is trained on. For each part
    that is given another is read, so that workers go on while the device trains.
    """

    def __init__(
        self, parts: "DataLoader[Batch]", settle: Callable[[list[Batch], int, int], list[Batch]]
    ) -> None:
        """Reads nothing yet.

        Args:
            parts: over `StepBatches`.
            settle: from the parts of a step, the step and the rank to the parts that are given.
        """
        self.parts, self.settle = parts, settle

    def __iter__(self) -> Iterator[Batch]:
        """Yields a pass of the loader."""
        batches = batches_of(self.parts, StepBatches)
        step = batches.cursor.step
        whole: list[Batch] = []
        ready: deque[Batch] = deque()
        for part in self.parts:
            whole.append(part)
            if len(whole) == batches.accumulate:
                ready.extend(self.settle(whole, step, batches.share.rank))
                whole, step = [], step + 1
            if ready:
                yield ready.popleft()
        yield from ready

    @property
    def _iterator(self) -> "_BaseDataLoaderIter | None":
        """By which Lightning ends a loader's workers after a stage."""
        return self.parts._iterator

    @_iterator.setter
    def _iterator(self, value: "_BaseDataLoaderIter | None") -> None:
        self.parts._iterator = value


def _serve_parent(number: int) -> None:
    interrupts.obey_parent_only()


def batches_of(data: "DataLoader[Batch]", kind: type[B]) -> B:
    """The sampler of a loader's batches, which is of a kind."""
    sampler = data.batch_sampler
    assert isinstance(sampler, kind)
    return sampler


def loader(
    dataset: Encoded,
    batches: Iterable[list[Position]],
    *,
    collate: MakeInputs,
    workers: int,
    pin: bool,
) -> "DataLoader[Batch]":
    """A DataLoader over the batches of a sampler; `collate` makes the inputs of one."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=Collate(collate, dataset.targets),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_serve_parent,
    )
