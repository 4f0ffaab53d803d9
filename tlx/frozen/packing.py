"""What several modules give, as one row an item, and back.

Shapes: N items. A module that sees each frame or window as an item of its own gives k rows for
each of the N, item by item: [N k, ...] is [N, k, ...] here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from tlx.frozen import nested


@final
@dataclass(frozen=True)
class Packing:
    """Which tensors among modules' outputs are stored, and how they lie in a row.

    One tensor is stored as it is. Several lie side by side: where they share the first dimension
    of an item (tokens, say), along that, so that items can be padded in it; else end to end.

    Attributes:
        outputs: of each module, as an example; what surrounds the tensors is taken from it.
        places: for each tensor among the outputs, its place among those stored; of those that
            nothing above reads, None.
        shapes: of an item in each stored tensor.
        rows: that an item has in each stored tensor, k.
    """

    outputs: tuple[object, ...]
    places: tuple[int | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        if len(self.shapes) == 1:
            return self.shapes[0]
        if self._side_by_side:
            return self.shapes[0][0], sum(self._widths)
        return (sum(map(math.prod, self.shapes)),)

    @property
    def is_plain(self) -> bool:
        """Whether it is one module's output, one tensor with one row an item."""
        return len(self.outputs) == 1 and isinstance(self.outputs[0], Tensor) and self.rows == (1,)

    def pack(self, outputs: Sequence[object], count: int) -> Tensor:
        """Rows [N, ...] of N = `count` items from what each module gave for them."""
        stored: dict[int, Tensor] = {}
        for place, tensor in zip(self.places, nested.tensors(list(outputs)), strict=True):
            if place is not None and place not in stored:
                k = self.rows[place]
                stored[place] = tensor if k == 1 else tensor.unflatten(0, (count, k))
        each = [stored[place] for place in range(len(stored))]
        if len(each) == 1:
            return each[0]
        start = 2 if self._side_by_side else 1
        return torch.cat([_flat(tensor, start) for tensor in each], dim=start)

    def unpack(self, rows: Tensor) -> list[object]:
        """What each module is taken to give, from rows [N, ...]."""
        each = [
            tensor if k == 1 else tensor.flatten(0, 1)
            for tensor, k in zip(self._parted(rows), self.rows, strict=True)
        ]
        places = iter(self.places)

        def filled(example: Tensor) -> Tensor:
            place = next(places)
            if place is None:  # NaN would be seen above, if it were read after all
                return torch.full_like(example, math.nan)
            return each[place]

        return [nested.mapped(filled, output) for output in self.outputs]

    def _parted(self, rows: Tensor) -> Iterator[Tensor]:
        if len(self.shapes) == 1:
            yield rows
        elif self._side_by_side:
            # of other lengths than the example's: the first dimension is that of the rows
            for part, shape in zip(rows.split(self._widths, dim=2), self.shapes, strict=True):
                yield part.reshape(*rows.shape[:2], *shape[1:])
        else:
            sizes = [math.prod(shape) for shape in self.shapes]
            for part, shape in zip(rows.split(sizes, dim=1), self.shapes, strict=True):
                yield part.reshape(len(rows), *shape)

    @property
    def _side_by_side(self) -> bool:
        return all(shape[:1] and shape[:1] == self.shapes[0][:1] for shape in self.shapes)

    @property
    def _widths(self) -> list[int]:
        return [math.prod(shape[1:]) for shape in self.shapes]


def packing_of(
    outputs: Sequence[object], *, used: Sequence[int], rows: Mapping[int, int], count: int
) -> Packing:
    """How to store what some modules gave for `count` items.

    Args:
        outputs: of each module; a tensor that is among them twice is stored once.
        used: positions, among all tensors of the outputs, of those that are read above.
        rows: k of each of those.
        count: of items.

    Raises:
        ValueError: the tensors are of several types.
    """
    every = list(nested.tensors(list(outputs)))
    first: dict[int, int] = {}
    # one tensor may be in there twice, as the last hidden state is
    stored = [at for at in used if first.setdefault(id(every[at]), at) == at]
    types = {every[position].dtype for position in stored}
    if len(types) > 1:
        raise ValueError(f"outputs are of several types: {', '.join(map(str, types))}")
    place_of = {id(every[position]): place for place, position in enumerate(stored)}
    shapes = []
    for position in stored:
        tensor, k = every[position], rows[position]
        shapes.append(tuple((tensor if k == 1 else tensor.unflatten(0, (count, k))).shape[1:]))
    return Packing(
        outputs=tuple(nested.mapped(torch.clone, output) for output in outputs),
        places=tuple(
            place_of[id(tensor)] if position in used else None
            for position, tensor in enumerate(every)
        ),
        shapes=tuple(shapes),
        rows=tuple(rows[position] for position in stored),
    )


def _flat(tensor: Tensor, start: int) -> Tensor:
    return tensor.reshape(*tensor.shape[:start], -1)
