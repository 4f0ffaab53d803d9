"""What is frozen is computed once: a stage that trains from stored activations.

Where a stage's frozen bottom gives the same activation for an item each time, activations are
taken from the store (computed where they are missing), and the stage trains what lies above them.
Order, targets, random streams and resuming are those of training without the store.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tlx.data.splits import Batch, Padding, Split, Splits
from tlx.frozen import cutting
from tlx.frozen.cut import Cut, NoCut, Outcome
from tlx.frozen.store import Store, StoredRows, StoreError
from tlx.methods.order import sample_seed
from tlx.training.collect import broadcast
from tlx.training.engine import sharding
from tlx.training.engine.course import Served
from tlx.training.engine.module import TransferModule
from tlx.training.loaders import (
    Collate,
    Encoded,
    EvalBatches,
    Loading,
    MakeInputs,
    Position,
    StepBatches,
    batches_of,
    loader,
)
from tlx.training.reuse.stored import (
    STORED,
    Beside,
    Chosen,
    Decoded,
    Stored,
    by_length,
    lengthened,
    placed,
    read_s_per_byte,
    row_bytes,
)
from tlx.training.reuse.transform import Transform, item_keys

log = logging.getLogger(__name__)

PROVED_ON = 8
"""Items on which a cut is proved."""

MOST_INPUT_BYTES = 2**29
"""Decoded inputs are stored up to this size in all."""

POOL = 16
"""Batches of activations whose items are sorted by length together."""

MOST_PASSING_BYTES = 2**16
"""Activations above this size are not stored for a split that is read once."""


@dataclass(frozen=True)
class Wishes:
    """What the config says of the store.

    Attributes:
        store: None where it is off.
        views: draws of a random augmentation that a frozen stage repeats; 0: none is repeated.
        dtype: in which activations are stored; None: as they are.
        facts: what activations depend on beside network, items and transform.
    """

    store: Store | None
    views: int = 0
    dtype: torch.dtype | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


class Storable(Protocol):
    """A part of a network whose ends are stored: a cut, decoded inputs, a whole one."""

    @property
    def boundary(self) -> str:
        """Where it ends."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item's row."""

    @property
    def dtype(self) -> torch.dtype:
        """Of a row."""

    def prefix(self, inputs: object) -> Tensor:
        """Rows [N, ...] of inputs."""


@dataclass(frozen=True)
class Feed:
    """Where a stage's batches come from instead of the data.

    Attributes:
        train: loader over stored activations, with the sampler of the loader that it stands for.
        val: likewise.
        wall_s: seconds that it took to make ready.
    """

    train: "DataLoader[Batch]"
    val: "DataLoader[Batch]"
    wall_s: float


@final
@dataclass(eq=False)
class Reuse:
    """Decides, stage by stage, whether to train from stored activations, and does.

    Attributes:
        trainer: whose device and precision activations are computed with.
        module: of the run.
        splits: its data.
        training: of the training split.
        evaluation: of all others.
        wishes: what the config says.
        loading: how loaders load.
        batch_size: in which activations are computed.
        collate: makes the inputs of a batch.
        reads_inputs: whether something in training needs the inputs themselves.
        padding: of inputs; None: all have one shape.
        say: is told what is done, and why not.
    """

    trainer: pl.Trainer
    module: TransferModule
    splits: Splits
    training: Transform
    evaluation: Transform
    wishes: Wishes
    loading: Loading
    batch_size: int
    collate: MakeInputs
    reads_inputs: bool = False
    padding: Padding | None = None
    say: Callable[[str], object] = log.info

    def __post_init__(self) -> None:
        """Computes nothing yet."""
        self._before: Served = {}
        self._computed, self._reused = 0, 0
        self._served: Counter[str] = Counter()
        self._cut: Cut | Decoded | None = None
        self._prefix = ""
        self._length = 0  # of activations, in positions, where inputs go beside them
        self._fixed = False  # whether batches must be so long as well
        self.prefix_s = 0.0
        self._targets: dict[int, Tensor] = {}
        self._keys: dict[int, list[str]] = {}  # of items, by split

    # -- a stage ------------------------------------------------------------------------------

    def enter(
        self,
        train_loader: "DataLoader[Batch]",
        val_loader: "DataLoader[Batch]",
        *,
        samples: int,
        before: Served,
    ) -> Feed | None:
        """Loaders over activations for the stage that the module has entered, or None.

        Args:
            train_loader: over the data, with a `StepBatches`.
            val_loader: over the data, with an `EvalBatches`.
            samples: that the stage has yet to train on.
            before: `state` of the same stage when it was interrupted; empty for a fresh one.
        """
        started = time.monotonic()
        self.leave()
        self._before = before
        self._computed, self._reused, self._served = 0, 0, Counter()
        batches = batches_of(train_loader, StepBatches)
        references = self.module.references
        batches.views = 0 if references is None else references.views
        why = self.why_not()
        if why is None:
            try:
                self.find()
            except NoCut as reason:
                why = str(reason)
        if why is None:
            batches.views = self.views
        if why is not None and self.wishes.store is not None:
            self.say(f"no activations are stored: {why}")
        if why is not None and self._may_store_inputs():
            self._find_inputs()
        rows = None if self._cut is None else self._train_and_val(samples, batches.views)
        if rows is None or self._cut is None:
            self._cut = None
            return None
        if isinstance(self._cut, Cut):  # stored inputs go through the whole network
            self.module.run_with(self._suffix_of(self._cut))
        wall_s = time.monotonic() - started
        train = self._loader(rows[0], self.splits.train, batches, views=batches.views)
        val = self._loader(rows[1], self.splits.val, batches_of(val_loader, EvalBatches))
        return Feed(train, val, wall_s)

    def leave(self) -> None:
        """The whole network runs again."""
        self._cut = None
        self.module.run_whole()

    def state(self) -> Served:
        """What the stage took from the store, as its record tells it; empty for nothing."""
        if self._cut is None:
            return self._before
        spared = self._served["items"] - self._computed
        return {
            "boundary": self._cut.boundary,
            "computed": self._before.get("computed", 0) + self._computed,
            "reused": self._before.get("reused", self._reused),
            "saved_s": self._before.get("saved_s", 0.0) + spared * self.prefix_s,
        }

    def why_not(self) -> str | None:
        """Why the stage cannot train from activations, as far as that is known without looking."""
        references = self.module.references
        if self.wishes.store is None and not self.wishes.views:
            return "cache=off"
        if sharding.is_sharded(self.module.network):
            return "the network is sharded"
        if self.reads_inputs or (references is not None and references.live):
            return "regularization needs the inputs in each step"
        why = self.why_inputs_differ()
        if why is None and self.module.recipe.task.targets.of_inputs:
            return "the data's targets depend on its inputs"
        return why

    def why_inputs_differ(self) -> str | None:
        """Why what a network gives for an item of training is another each time, or may be."""
        mixing = self.module.recipe.mixing
        if mixing:
            return f"{mixing[0].name} mixes inputs anew in each step"
        if self.training.facts is None and not self.wishes.views:
            return self.training.why_unknown
        if self.training.seed is not None and not self.wishes.views:
            return "augmentation draws anew in each epoch (frozen.views=K stores K draws)"
        return None

    @property
    def views(self) -> int:
        """So many draws of a random augmentation are repeated; 0: it draws none, or anew."""
        return 0 if self.training.seed is None else self.wishes.views

    def first_inputs(self, count: int) -> object:
        """Inputs of the first training items, on the device."""
        dataset = self.encoded(self.splits.train, self.training)
        samples = [dataset[index, 0] for index in range(min(count, len(self.splits.train)))]
        inputs = self.collate([sample["input"] for sample in samples])
        return placed(inputs, self.trainer.strategy.root_device)

    def find(self) -> Cut:
        """The network cut at the stage's boundary; times what lies below it, and works with it.

        Raises:
            NoCut: it cannot be cut there.
        """
        device = self.trainer.strategy.root_device
        self.module.to(device)
        self.module.train()
        count = min(PROVED_ON, len(self.splits.train))
        inputs = self.first_inputs(count)
        with self.precision():
            found = cutting.find(self.module.network, inputs)
            length, fixed = 0, False
            if found.needs_inputs:
                padding, length = self._padded(found, inputs)
                longest = padding.pad(inputs, length)
                # what is right at one length, such as a table of positions, may not be at another
                others = (padding.pad(inputs, padding.mask(inputs).shape[1] - 1), longest)
                if not all(cutting.holds(found, other) for other in others):
                    inputs, fixed = longest, True
                    found = cutting.find(self.module.network, inputs)
            if self.module.recipe.compile and not found.is_features:
                raise NoCut("trainer.compile compiles the whole network")
            started = time.monotonic()
            found.prefix(inputs)
        self.prefix_s = (time.monotonic() - started) / count
        self._cut, self._prefix = found, found.prefix_id()
        self._length, self._fixed = length, fixed
        return found

    def _padded(self, found: Cut, inputs: object) -> tuple[Padding, int]:
        """How inputs are padded, and the longest of all, where activations are of their positions.

        Raises:
            NoCut: they are something else.
        """
        padding = self.padding
        if padding is None or found.shape[:1] != padding.mask(inputs).shape[1:]:
            raise NoCut("what lies above the boundary reads the inputs as well")
        every = self.splits.named.values()
        return padding, max(max(padding.lengths(split), default=1) for split in every)

    def _may_store_inputs(self) -> bool:
        """Whether decoded and resized inputs are the same in each epoch, and few enough."""
        alike = self.training.seed is None and not self.module.recipe.task.targets.of_inputs
        return self.wishes.store is not None and self.training.facts is not None and alike

    def _find_inputs(self) -> None:
        """Takes the inputs themselves for what is stored."""
        dataset = self.encoded(self.splits.train, self.training)
        started = time.monotonic()
        inputs = dataset[0, 0]["input"]
        self.prefix_s = time.monotonic() - started
        # of several lengths, or with a mask, items are no rows of one tensor
        if isinstance(inputs, Tensor) and isinstance(self.collate([inputs]), Tensor):
            found = Decoded(tuple(inputs.shape), inputs.dtype)
            items = len(self.splits.train) + len(self.splits.val)
            if items * row_bytes(found) <= MOST_INPUT_BYTES:
                self._cut, self._prefix, self._length = found, "", 0

    def adopt(self, other: "Reuse") -> None:
        """Takes over the cut that another one has found for the same network."""
        self._cut, self._prefix = other._cut, other._prefix
        self._length, self._fixed = other._length, other._fixed
        self.prefix_s = other.prefix_s

    def _train_and_val(self, samples: int, views: int) -> tuple[StoredRows, StoredRows] | None:
        """Rows of both splits, computed by rank 0; None where it is not worth it."""
        said: str | None = None
        rows: list[StoredRows] = []
        if self.trainer.is_global_zero:
            try:
                rows = self._both(samples, views)
            except (StoreError, _NotWorthIt) as reason:
                said = str(reason)
        said = broadcast(said)
        if said is not None:
            if self.wishes.store is not None:
                self.say(f"nothing is stored: {said}")
            return None
        if not rows:  # another rank, which finds what rank 0 has stored
            rows = self._both(samples, views)
        self._computed = sum(part.computed for part in rows)
        self._reused = sum(part.reused for part in rows)
        return rows[0], rows[1]

    def _both(self, samples: int, views: int) -> list[StoredRows]:
        if self.wishes.store is None:
            raise _NotWorthIt("cache=off")
        for each in (self.training, self.evaluation):
            if each.facts is None:  # of random ones, whose views are repeated all the same
                raise _NotWorthIt(each.why_unknown)
        count = len(self.splits.train) * max(views, 1)
        if samples < count:
            raise _NotWorthIt(f"{count} activations would serve {samples} samples")
        assert self._cut is not None
        size = self._row_bytes()
        if size * count > self.wishes.store.resident_bytes:
            reading_s = size * read_s_per_byte(self.wishes.store.folder)
            if reading_s > self.prefix_s:
                raise _NotWorthIt(
                    f"reading an activation takes {reading_s * 1e3:.2g} ms, computing it "
                    f"{self.prefix_s * 1e3:.2g} ms"
                )
        train = self.rows(self.splits.train, self.training, views=views)
        return [train, self.rows(self.splits.val, self.evaluation)]

    def _suffix_of(self, cut: Cut) -> Callable[..., Outcome]:
        """What lies above a boundary, as a function of what batches hold for their inputs."""

        def of_rows(stored: Tensor) -> Outcome:
            return cut.suffix(stored.to(cut.dtype))

        def of_both(inputs: Mapping[str, Tensor]) -> Outcome:
            below = {name: value for name, value in inputs.items() if name != STORED}
            return cut.suffix(inputs[STORED].to(cut.dtype), inputs=below)

        return of_both if self._length else of_rows

    def _row_bytes(self) -> int:
        """Of a stored row: longer than an activation, where items are padded to one length."""
        assert self._cut is not None
        size = row_bytes(self._cut)
        return size // self._cut.shape[0] * self._length if self._length else size

    # -- rows ---------------------------------------------------------------------------------

    def rows(self, split: Split, transform: Transform, *, views: int = 0) -> StoredRows:
        """Activations of a split, view by view for each item.

        Raises:
            StoreError: they do not fit, the store cannot be used, or it cannot be known what the
                activations depend on.
        """
        assert self._cut is not None
        return self.rows_at(self._cut, self._prefix, split, transform, views=views)

    def rows_at(
        self, part: Storable, prefix: str, split: Split, transform: Transform, *, views: int = 0
    ) -> StoredRows:
        """Rows of a split, view by view for each item, at the end of some part of a network.

        Args:
            part: the part.
            prefix: a hash of all that it computes with.
            split: of the data.
            transform: of its items.
            views: draws of each item; 0: one.

        Raises:
            StoreError: as of `rows`.
        """
        store, here = self.wishes.store, part is self._cut
        if store is None:
            raise StoreError("cache=off")
        if transform.facts is None:
            raise StoreError(transform.why_unknown)
        every = [(index, view) for index in range(len(split)) for view in range(max(views, 1))]
        if id(split) not in self._keys:
            self._keys[id(split)] = item_keys(split, self.splits)
        keys = self._keys[id(split)]
        if views:
            seed, ids = transform.seed or 0, split.ids
            keys = [f"{keys[i]}~{sample_seed(seed, view, ids[i])}" for i, view in every]

        def compute(positions: Sequence[int]) -> Iterator[Tensor]:
            wanted = [every[position] for position in positions]
            return self._activations(part, split, transform, wanted)

        length = self._length if here else 0
        facts = {
            "boundary": part.boundary,
            "prefix": prefix,
            "transform": dict(transform.facts),
            **({"length": length} if length else {}),
            **self.wishes.facts,
        }
        dtype = self.wishes.dtype if isinstance(part, Cut) else None
        shape = (length, *part.shape[1:]) if length else part.shape
        try:
            rows = store.rows(
                facts, keys, shape=shape, dtype=dtype or part.dtype, compute=compute,
                say=self.say,
            )  # fmt: skip
        except OSError as error:  # a folder that cannot be written to, say
            raise StoreError(f"{store.folder}: {error}") from error
        if rows.error.largest:
            self.say(
                f"activations are stored as {rows.dtype}: their relative rounding error is at most "
                f"{rows.error.largest:.1e}, {rows.error.mean:.1e} on average"
            )
        return rows

    def activations(self, split: Split, transform: Transform) -> Tensor:
        """Activations of a whole split, computed without the store."""
        positions = [(index, 0) for index in range(len(split))]
        assert self._cut is not None
        return torch.cat(list(self._activations(self._cut, split, transform, positions)))

    def _activations(
        self, part: Storable, split: Split, transform: Transform, positions: Sequence[Position]
    ) -> Iterator[Tensor]:
        self.say(f"computes {len(positions)} activations at {part.boundary}")
        lengths = None if self.padding is None else self.padding.lengths(split)
        pools = by_length(positions, lengths, pool=POOL * self.batch_size)
        batches = Chosen([positions[p] for pool in pools for p in pool], self.batch_size)
        dataset = self.encoded(split, transform)
        inputs = iter(loader(dataset, batches, collate=self.collate, **self.loading))
        started = time.monotonic()
        for pool in pools:
            parts = [
                self._activation(part, next(inputs)) for _ in range(0, len(pool), self.batch_size)
            ]
            yield torch.cat(parts)[torch.tensor(pool).argsort()]
        # of a few, the loader's start takes the most
        if part is self._cut and len(positions) >= self.batch_size:
            self.prefix_s = (time.monotonic() - started) / len(positions)

    def _activation(self, part: Storable, batch: Batch) -> Tensor:
        """Of a batch, as it is stored."""
        prefix, device = part.prefix, self.trainer.strategy.root_device

        def run(inputs: object) -> Tensor:
            return prefix(placed(inputs, device)).cpu()

        with self.precision():
            made = torch.cat([rows for rows, _ in self.module.at_once.outputs(run, batch)])
        if self._length and self.padding is not None and part is self._cut:
            made = lengthened(made, self._length, left=self.padding.left)
        return made

    def _loader(
        self, rows: StoredRows, split: Split, batches: StepBatches | EvalBatches, *, views: int = 0
    ) -> "DataLoader[Batch]":
        beside: Beside | None = None
        if self._length and self.padding is not None:
            of = self.training if split is self.splits.train else self.evaluation
            dataset = self.encoded(split, of)
            length = self._length if self._fixed else None
            beside = Beside(dataset, Collate(self.collate, dataset.targets), self.padding, length)
        targets = None if beside else self.targets(split)
        return DataLoader(
            Stored(rows, targets, views, self._served, beside),
            batch_sampler=batches,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            pin_memory=self.loading["pin"],
        )

    def targets(self, split: Split) -> Tensor:
        """All targets of a split, as a batch has them."""
        key = id(split)
        if key not in self._targets:
            kind = self.module.recipe.task.targets
            self._targets[key] = kind.collate([kind.encode(raw) for raw in split.targets], None)
        return self._targets[key]

    def encoded(self, split: Split, transform: Transform) -> Encoded:
        """A split as loaders read it."""
        targets = self.module.recipe.task.targets
        return Encoded(split, transform.encode, targets=targets, seed=transform.seed)

    def precision(self) -> AbstractContextManager[None]:
        """The context that networks run in."""
        return self.trainer.precision_plugin.forward_context()

    # -- evaluation ---------------------------------------------------------------------------

    def evaluation_loader(self, split: Split, plain: "DataLoader[Batch]") -> "DataLoader[Batch]":
        """A loader for a split's final figures: of activations, where they are still right.

        Args:
            split: to be evaluated.
            plain: the loader over its data, with an `EvalBatches`.
        """
        found = self._cut
        if not isinstance(found, Cut):
            return plain
        with torch.no_grad():
            if found.prefix_id() != self._prefix:  # other weights were chosen than the stage's
                self.leave()
                return plain
        small = self._row_bytes() <= MOST_PASSING_BYTES
        rows: StoredRows | None = None
        if split is self.splits.val or small:
            try:
                rows = self.rows(split, self.evaluation)
            except StoreError as reason:
                self.say(str(reason))
        if rows is None:
            self.module.run_whole()
            return plain
        self.module.run_with(self._suffix_of(found))
        return self._loader(rows, split, batches_of(plain, EvalBatches))


class _NotWorthIt(Exception):
    """Computing activations would cost more than it spares."""


def _as_it_is(batch: Batch) -> Batch:
    return batch
