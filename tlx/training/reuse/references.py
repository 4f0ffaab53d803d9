"""What frozen networks give for the inputs of a step, for penalties that compare with it.

Where an item's inputs are the same each time, it is computed once and taken from the store of
activations, by the item; where they are not, it is computed with each batch.

Shapes: N items, R numbers that are kept of each.
"""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from tlx.backbones.backbone import Features
from tlx.data.encoder import Undescribed, described
from tlx.data.splits import Batch
from tlx.frozen.segments import canonical
from tlx.frozen.store import StoredRows, StoreError
from tlx.frozen.structure import computed_with
from tlx.methods.order import Order
from tlx.methods.step import Referred
from tlx.tasks.task import Network

OUTPUTS = "outputs"
MOST_RESIDENT_BYTES = 2**28
"""Rows of one network that lie where training computes, so that no look-up waits for the device."""


@final
class FrozenNetwork:
    """A network that is asked and never trained, in eval mode.

    Attributes:
        network: the whole of it, nobody else's.
        reads: what it is asked for: `outputs`, or fields of Features.
        boundary: what the store calls it.
        shape: of a row [R], which holds all that is read of an item; known once one was made.
        dtype: of a row.
    """

    def __init__(self, network: Network, *, reads: Sequence[str]) -> None:
        """Puts the network into eval mode and takes its gradients off (a mutator of it)."""
        self.network = network.eval().requires_grad_(False)
        self.reads = tuple(sorted(set(reads)))
        self.boundary = f"reference of {', '.join(self.reads)}"
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.float32
        self._parts: list[tuple[str, torch.Size, torch.dtype]] = []

    def id(self) -> str:
        """SHA-256 of its structure and weights."""
        tensors = (*self.network.named_parameters(), *self.network.named_buffers())
        return computed_with(
            self.network,
            at=self.boundary,
            modules=[name for name, _ in self.network.named_modules()],
            tensors=[name for name, _ in tensors],
        )

    def key(self) -> str:
        """A text of all that it computes with: what rows are stored by.

        Raises:
            StoreError: what its features function does cannot be told in full.
        """
        try:
            features = canonical(described(self.network.take_features))
        except Undescribed as reason:
            raise StoreError(f"what takes its features cannot be told: {reason}") from None
        return f"{self.id()} {features}"

    def of(self, inputs: object) -> Referred:
        """What it gives for a batch of inputs, without gradient.

        Raises:
            ValueError: its features lack what is read.
        """
        with torch.no_grad():
            features = self.network.features(inputs)
            outputs = self.network.head(features) if OUTPUTS in self.reads else None
        read = {name: getattr(features, name) for name in self.reads if name != OUTPUTS}
        missing = [name for name, value in read.items() if value is None or value == ()]
        if missing:
            raise ValueError(f"a reference is asked for features.{missing[0]}, and has none")
        return Referred(Features(**{"mask": features.mask, **read}), outputs)

    def prefix(self, inputs: object) -> Tensor:
        """Rows [N, R] of a batch of inputs; `referred` turns them back.

        Raises:
            StoreError: what is read of an item depends on the batch that it is in.
        """
        given = self.of(inputs)
        if given.features.mask is not None:
            raise StoreError("they are as long as the longest item of a batch")
        read = _values(given, self.reads)
        self._parts = [(name, value.shape[1:], value.dtype) for name, value in read]
        # the types that networks compute in fit into float32 without rounding
        row = torch.cat([value.flatten(1).float() for _, value in read], dim=1)
        self.shape = tuple(row.shape[1:])
        return row

    def referred(self, rows_NR: Tensor) -> Referred:
        """What rows were made of."""
        sizes = [shape.numel() for _, shape, _ in self._parts]
        read: dict[str, list[Tensor]] = {}
        parts = rows_NR.split(sizes, dim=1)
        for part, (name, shape, dtype) in zip(parts, self._parts, strict=True):
            read.setdefault(name, []).append(part.reshape(len(part), *shape).to(dtype))
        outputs = read.pop(OUTPUTS, [None])[0]
        pyramid = tuple(read.pop("pyramid", ()))
        alone = {name: values[0] for name, values in read.items()}
        return Referred(Features(pyramid=pyramid, **alone), outputs)


@final
class References:
    """The frozen networks of a run, each asked once for what several options read of it.

    Attributes:
        frozen: by what they are: `start`, a run or an init.
        options: of regularization -> which of these it reads.
        views: draws of a random augmentation that training repeats, since rows are of them; 0:
            none is repeated for their sake.
    """

    def __init__(self, frozen: Mapping[str, FrozenNetwork], options: Mapping[str, str]) -> None:
        """Computes with each batch until it takes rows."""
        self.frozen, self.options = dict(frozen), dict(options)
        self.views = 0
        self._rows: dict[str, StoredRows | Tensor] = {}
        self._order: Order | None = None

    @property
    def live(self) -> bool:
        """Whether one is computed with each batch, which must hold the network's inputs then."""
        return len(self._rows) < len(self.frozen)

    @property
    def settled(self) -> bool:
        """Whether it is decided what is stored."""
        return self._order is not None

    def identity(self) -> dict[str, str]:
        """What a checkpoint of the run must agree on."""
        return {f"reference {name}": each.id() for name, each in self.frozen.items()}

    def to(self, device: torch.device) -> None:
        """Puts what is still computed on a device (a mutator)."""
        for name, each in self.frozen.items():
            if name not in self._rows:
                each.network.to(device)

    def take(self, name: str, rows: StoredRows, device: torch.device) -> None:
        """Looks up rows of the training split from now on, view by view (a mutator)."""
        small = rows.resident and rows.tensor().nbytes <= MOST_RESIDENT_BYTES
        self._rows[name] = rows.tensor().to(device) if small else rows
        self.frozen[name].network.cpu()

    def repeat(self, views: int, order: Order) -> None:
        """Tells of which views, in which order, the rows are (a mutator)."""
        self.views, self._order = views, order

    def of(self, batch: Batch, step: int) -> dict[str, Referred]:
        """What each option's network gives for the batch of a step."""
        given = {name: self._given(name, batch, step) for name in self.frozen}
        return {option: given[name] for option, name in self.options.items()}

    def _given(self, name: str, batch: Batch, step: int) -> Referred:
        frozen, rows = self.frozen[name], self._rows.get(name)
        if rows is None:
            return frozen.of(batch["input"])
        place: Tensor = batch["index"]
        if self.views:
            assert self._order is not None
            place = place * self.views + self._order.epoch_at(step) % self.views
        if isinstance(rows, Tensor):
            return frozen.referred(rows[place])
        return frozen.referred(rows.gather(place.cpu()).to(place.device))


def _values(given: Referred, reads: Sequence[str]) -> list[tuple[str, Tensor]]:
    """The tensors that are read, in the order of their names."""
    named: list[tuple[str, Tensor]] = []
    for name in reads:
        value = given.outputs if name == OUTPUTS else getattr(given.features, name)
        named += [(name, part) for part in (value if isinstance(value, tuple) else (value,))]
    return named
