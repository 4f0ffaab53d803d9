"""What is frozen is computed once: a stage that trains from stored activations.

Where a stage's frozen bottom gives the same activation for an item each time, activations are
taken from the store (computed where they are missing), and the stage trains what lies above them.
Order, targets, random streams and resuming are those of training without the store.
"""

import hashlib
import importlib.metadata
import inspect
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlx.data.splits import Batch, Encode, Split, Splits
from tlx.frozen import nested
from tlx.frozen import split as splitting
from tlx.frozen.split import NoSplit
from tlx.frozen.store import Rows, Store, StoreError
from tlx.methods.order import sample_seed
from tlx.training import sharding
from tlx.training.collect import broadcast
from tlx.training.loaders import Encoded, EvalBatches, Position, StepBatches, loader
from tlx.training.module import TransferModule

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "pillow", "numpy")
PROVED_ON = 8
"""Items on which a split is proved."""

LONGEST_FACT = 200
"""Longer texts are known by their hash."""

MOST_INPUT_BYTES = 2**29
"""Decoded inputs are stored up to this size in all."""

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
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Transform:
    """How an item of a split becomes the network's input.

    Attributes:
        encode: raw to encoded sample.
        seed: of its random draws; None: it draws none.
        facts: all that it depends on, as plain data.
    """

    encode: Encode
    seed: int | None
    facts: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Stored(Dataset[Any]):
    """Batches of stored activations, gathered at once."""

    rows: Rows
    targets: Tensor
    views: int
    served: Counter[str]

    def __getitems__(self, positions: Sequence[Position]) -> Batch:
        """The batch at (index, epoch) positions."""
        self.served["items"] += len(positions)
        index = torch.tensor([index for index, _ in positions])
        row = index
        if self.views:
            row = index * self.views + torch.tensor([epoch for _, epoch in positions])
        return {"index": index, "input": self.rows.gather(row), "target": self.targets[index]}


@dataclass(frozen=True)
class Inputs:
    """What is stored where the network has no frozen bottom: its inputs, decoded and resized.

    Attributes:
        shape: of one item's input.
        dtype: of the input.
        boundary: what records call it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    boundary: str = "input"

    def prefix(self, inputs: Tensor) -> Tensor:
        """The inputs as they are."""
        return inputs


def placed(inputs: Any, device: torch.device) -> Any:
    """Inputs, one tensor or several, on a device."""
    return nested.mapped(lambda tensor: tensor.to(device), inputs)


def row_bytes(found: "splitting.Split | Inputs") -> int:
    """Bytes of one item's activation."""
    return found.dtype.itemsize * torch.Size(found.shape).numel()


@dataclass(frozen=True)
class Source:
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
class Reuse:
    """Decides, stage by stage, whether to train from stored activations, and does."""

    def __init__(
        self,
        trainer: pl.Trainer,
        module: TransferModule,
        *,
        splits: Splits,
        training: Transform,
        evaluation: Transform,
        wishes: Wishes,
        loading: Mapping[str, Any],
        batch_size: int,
        reads_inputs: bool = False,
        say: Callable[[str], object] = log.info,
    ) -> None:
        """Computes nothing yet.

        Args:
            trainer: whose device and precision activations are computed with.
            module: of the run.
            splits: its data.
            training: of the training split.
            evaluation: of all others.
            wishes: what the config says.
            loading: `workers` and `pin` of loaders.
            batch_size: in which activations are computed.
            reads_inputs: whether something in training needs the inputs themselves.
            say: is told what is done, and why not.
        """
        self.trainer, self.module, self.splits = trainer, module, splits
        self.training, self.evaluation = training, evaluation
        self.wishes, self.loading, self.batch_size = wishes, dict(loading), batch_size
        self.reads_inputs, self.say = reads_inputs, say
        self._before: Mapping[str, Any] = {}
        self._computed, self._reused = 0, 0
        self._served: Counter[str] = Counter()
        self._split: splitting.Split | Inputs | None = None
        self._prefix = ""
        self.prefix_s = 0.0
        self._targets: dict[int, Tensor] = {}

    # -- a stage ------------------------------------------------------------------------------

    def enter(
        self, train_loader: Any, val_loader: Any, *, samples: int, before: Mapping[str, Any]
    ) -> Source | None:
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
        batches: StepBatches = train_loader.batch_sampler
        batches.views = 0
        why = self.why_not()
        if why is None:
            try:
                self.find()
            except NoSplit as reason:
                why = str(reason)
        if why is None and self.training.seed is not None:
            batches.views = self.wishes.views
        if why is not None and self.wishes.store is not None:
            self.say(f"no activations are stored: {why}")
        if why is not None and self._may_store_inputs():
            self._find_inputs()
        rows = None if self._split is None else self._train_and_val(samples, batches.views)
        if rows is None or self._split is None:
            self._split = None
            return None
        if isinstance(self._split, splitting.Split):
            self.module.run_with(self._suffix)
        wall_s = time.monotonic() - started
        train = self._loader(rows[0], self.splits.train, batches, views=batches.views)
        val = self._loader(rows[1], self.splits.val, val_loader.batch_sampler)
        return Source(train, val, wall_s)

    def leave(self) -> None:
        """The whole network runs again."""
        self._split = None
        self.module.run_whole()

    def state(self) -> dict[str, Any]:
        """What the stage took from the store, as its record tells it; empty for nothing."""
        if self._split is None:
            return dict(self._before)
        spared = self._served["items"] - self._computed
        return {
            "boundary": self._split.boundary,
            "computed": self._before.get("computed", 0) + self._computed,
            "reused": self._before.get("reused", self._reused),
            "saved_s": self._before.get("saved_s", 0.0) + spared * self.prefix_s,
        }

    def why_not(self) -> str | None:
        """Why the stage cannot train from activations, as far as that is known without looking."""
        recipe = self.module.recipe
        if self.wishes.store is None and not self.wishes.views:
            return "cache=off"
        if sharding.is_sharded(self.module.network):
            return "the network is sharded"
        if recipe.mixing:
            return f"{recipe.mixing[0].name} mixes inputs anew in each step"
        if self.reads_inputs:
            return "a penalty reads the inputs"
        if self.training.seed is not None and not self.wishes.views:
            return "augmentation draws anew in each epoch (frozen.views=K stores K draws)"
        if self.splits.encode_target is None:
            return "the data's targets depend on its inputs"
        return None

    def find(self) -> str:
        """Splits the network at the stage's boundary, whose name it returns; times what lies below.

        Raises:
            NoSplit: it cannot be split there.
        """
        device = self.trainer.strategy.root_device
        self.module.to(device)
        self.module.train()
        count = min(PROVED_ON, len(self.splits.train))
        dataset = Encoded(self.splits.train, self.training.encode, seed=self.training.seed)
        samples = [dataset[index, 0] for index in range(count)]
        inputs = placed(self.splits.collate(samples)["input"], device)
        with self._precision():
            found = splitting.find(self.module.network, inputs)
            if found.needs_inputs:
                raise NoSplit("what lies above the boundary reads the inputs as well")
            if self.module.recipe.compile and found.boundary != "backbone":
                raise NoSplit("trainer.compile compiles the whole network")
            started = time.monotonic()
            found.prefix(inputs)
        self.prefix_s = (time.monotonic() - started) / count
        self._split, self._prefix = found, found.prefix_id()
        return found.boundary

    def _may_store_inputs(self) -> bool:
        """Whether decoded and resized inputs are the same in each epoch, and few enough."""
        alike = self.training.seed is None and self.splits.encode_target is not None
        return self.wishes.store is not None and alike

    def _find_inputs(self) -> None:
        """Takes the inputs themselves for what is stored."""
        dataset = Encoded(self.splits.train, self.training.encode, seed=None)
        started = time.monotonic()
        inputs = dataset[0, 0]["input"]
        self.prefix_s = time.monotonic() - started
        if isinstance(inputs, Tensor):
            found = Inputs(tuple(inputs.shape), inputs.dtype)
            items = len(self.splits.train) + len(self.splits.val)
            if items * row_bytes(found) <= MOST_INPUT_BYTES:
                self._split, self._prefix = found, ""

    def adopt(self, other: "Reuse") -> None:
        """Takes over the split that another one has found for the same network."""
        self._split, self._prefix, self.prefix_s = other._split, other._prefix, other.prefix_s

    def _train_and_val(self, samples: int, views: int) -> tuple[Rows, Rows] | None:
        """Rows of both splits, computed by rank 0; None where it is not worth it."""
        said: str | None = None
        rows: list[Rows] = []
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
        if not rows:
            rows = self._both(samples, views)
        self._computed = sum(part.computed for part in rows)
        self._reused = sum(part.reused for part in rows)
        return rows[0], rows[1]

    def _both(self, samples: int, views: int) -> list[Rows]:
        if self.wishes.store is None:
            raise _NotWorthIt("cache=off")
        count = len(self.splits.train) * max(views, 1)
        if samples < count:
            raise _NotWorthIt(f"{count} activations would serve {samples} samples")
        assert self._split is not None
        size = row_bytes(self._split)
        if size * count > self.wishes.store.resident_bytes:
            reading_s = size * read_s_per_byte(self.wishes.store.folder)
            if reading_s > self.prefix_s:
                raise _NotWorthIt(
                    f"reading an activation takes {reading_s * 1e3:.2g} ms, computing it "
                    f"{self.prefix_s * 1e3:.2g} ms"
                )
        train = self.rows(self.splits.train, self.training, views=views)
        return [train, self.rows(self.splits.val, self.evaluation)]

    def _suffix(self, stored: Tensor) -> Any:
        assert isinstance(self._split, splitting.Split)
        return self._split.suffix(stored.to(self._split.dtype))

    # -- rows ---------------------------------------------------------------------------------

    def rows(self, split: Split, transform: Transform, *, views: int = 0) -> Rows:
        """Activations of a split, view by view for each item.

        Raises:
            StoreError: they do not fit, or the store cannot be used.
        """
        found, store = self._split, self.wishes.store
        assert found is not None
        assert store is not None
        every = [(index, view) for index in range(len(split)) for view in range(max(views, 1))]
        keys = item_keys(split, self.splits)
        if views:
            seed = transform.seed or 0
            keys = [f"{keys[i]}~{sample_seed(seed, view, split.ids[i])}" for i, view in every]

        def compute(positions: Sequence[int]) -> Iterator[Tensor]:
            return self._activations(split, transform, [every[position] for position in positions])

        facts = {
            "boundary": found.boundary,
            "prefix": self._prefix,
            "transform": dict(transform.facts),
            **self.wishes.facts,
        }
        dtype = self.wishes.dtype if isinstance(found, splitting.Split) else None
        try:
            rows = store.rows(
                facts, keys, shape=found.shape, dtype=dtype or found.dtype, compute=compute,
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
        return torch.cat(list(self._activations(split, transform, positions)))

    def _activations(
        self, split: Split, transform: Transform, positions: Sequence[Position]
    ) -> Iterator[Tensor]:
        found = self._split
        assert found is not None
        self.say(f"computes {len(positions)} activations at {found.boundary}")
        batches = Chosen(positions, self.batch_size)
        dataset = Encoded(split, transform.encode, seed=transform.seed)
        inputs = loader(dataset, batches, splits=self.splits, **self.loading)
        device = self.trainer.strategy.root_device
        started = time.monotonic()
        for batch in inputs:
            with self._precision():
                yield found.prefix(placed(batch["input"], device)).cpu()
        if len(positions) >= self.batch_size:  # of a few, the loader's start takes the most
            self.prefix_s = (time.monotonic() - started) / len(positions)

    def _loader(
        self, rows: Rows, split: Split, batches: StepBatches | EvalBatches, *, views: int = 0
    ) -> "DataLoader[Batch]":
        return DataLoader(
            Stored(rows, self.targets(split), views, self._served),
            batch_sampler=batches,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            pin_memory=self.loading["pin"],
        )

    def targets(self, split: Split) -> Tensor:
        """All targets of a split, as a batch has them."""
        key = id(split)
        if key not in self._targets:
            encode = self.splits.encode_target
            assert encode is not None
            nothing = torch.zeros(())
            samples = [
                {"id": name, "input": nothing, "target": encode(target)}
                for name, target in zip(split.ids, split.targets, strict=True)
            ]
            self._targets[key] = self.splits.collate(samples)["target"]
        return self._targets[key]

    def _precision(self) -> Any:
        return self.trainer.precision_plugin.forward_context()

    # -- evaluation ---------------------------------------------------------------------------

    def evaluation_loader(self, split: Split, plain: Any) -> Any:
        """A loader for a split's final figures: of activations, where they are still right.

        Args:
            split: to be evaluated.
            plain: the loader over its data, with an `EvalBatches`.
        """
        found = self._split
        if not isinstance(found, splitting.Split):
            return plain
        with torch.no_grad():
            if found.prefix_id() != self._prefix:  # other weights were chosen than the stage's
                self.leave()
                return plain
        small = row_bytes(found) <= MOST_PASSING_BYTES
        rows: Rows | None = None
        if split is self.splits.val or small:
            try:
                rows = self.rows(split, self.evaluation)
            except StoreError as reason:
                self.say(str(reason))
        if rows is None:
            self.module.run_whole()
            return plain
        self.module.run_with(self._suffix)
        return self._loader(rows, split, plain.batch_sampler)


class _NotWorthIt(Exception):
    """Computing activations would cost more than it spares."""


@dataclass(frozen=True)
class Chosen:
    """A batch sampler over given positions."""

    positions: Sequence[Position]
    batch_size: int

    def __iter__(self) -> Iterator[list[Position]]:
        """Yields positions."""
        for start in range(0, len(self.positions), self.batch_size):
            yield list(self.positions[start : start + self.batch_size])

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.positions) // self.batch_size)


def item_keys(split: Split, splits: Splits) -> list[str]:
    """A hash of each item's content; its id and the whole data's hash where none is known."""
    known: Sequence[str] = getattr(split, "keys", ())
    if len(known) != len(split.ids):
        known = [""] * len(split.ids)
    return [
        key or hashlib.sha256(f"{splits.fingerprint}\n{name}".encode()).hexdigest()
        for key, name in zip(known, split.ids, strict=True)
    ]


def transform_facts(encode: Encode, spec: Mapping[str, Any], nodes: Mapping[str, Any]) -> Any:
    """What an encoder's outputs depend on: input spec, augmentations, its source, libraries."""
    source = inspect.getsourcefile(type(encode)) or ""
    return {
        "input": {key: _short(value) for key, value in spec.items()},
        "augmentation": {name: dict(node) for name, node in nodes.items()},
        "encoder": f"{type(encode).__module__}.{type(encode).__qualname__}",
        "source": _hash_of(source),
        "versions": _versions(),
    }


def _short(value: Any) -> Any:
    """A plain value of an input spec; the hash of a long text, as a tokenizer's."""
    if isinstance(value, str) and len(value) > LONGEST_FACT:
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return list(value) if isinstance(value, tuple) else value


@cache
def read_s_per_byte(folder: Path) -> float:
    """Seconds that the disk takes to read a byte, measured on a file that is not in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    size = 2**25
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.monotonic()
        file.seek(0)
        file.read()
        return (time.monotonic() - started) / size


@cache
def _hash_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else ""


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _as_it_is(batch: Batch) -> Batch:
    return batch
