"""Items of a source, of whatever modality: what is divided into splits, and read when asked for."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, final

from tlx.data.splits import Sample

Column = TypeVar("Column")


@final
@dataclass(frozen=True)
class LazyInputs(Sequence[object]):
    """Inputs that are read anew whenever one is asked for.

    Attributes:
        load: place in the source -> input.
        places: of the items in the source.
        look: place -> a hash of what is there, for items whose key is not known yet.
    """

    load: Callable[[int], object]
    places: Sequence[int]
    look: Callable[[int], str]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """The input at a position, or those of a slice."""
        if isinstance(index, slice):
            return replace(self, places=self.places[index])
        return self.load(self.places[index])

    def __iter__(self) -> Iterator[object]:
        """One after the other."""
        return map(self.load, self.places)


@final
@dataclass(frozen=True)
class Pool:
    """Items with their targets: a split, or what is divided into splits.

    Attributes:
        ids: unique and stable.
        targets: one an item; None where there is nothing to predict but the items themselves.
        keys: hashes of the inputs; empty where an item was not looked at.
        inputs: images, texts, … one an item.
        marks: one an item, by which near copies are found; none where they are not looked for.
        groups: what each item belongs to (a speaker, a patient), which no division parts; none
            where items stand alone.
    """

    ids: Sequence[str]
    targets: Sequence[Any]
    keys: Sequence[str]
    inputs: Sequence[object]
    marks: Sequence[object] = ()
    groups: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The raw sample at a position."""
        return {"id": self.ids[index], "input": self.inputs[index], "target": self.targets[index]}

    def key_of(self, index: int) -> str:
        """A hash of an item's input, also of one that was not looked at."""
        if self.keys[index] or not isinstance(self.inputs, LazyInputs):
            return self.keys[index]
        return self.inputs.look(self.inputs.places[index])

    def take(self, positions: Sequence[int]) -> "Pool":
        """The items at some positions, in that order."""

        def some(column: Sequence[Column]) -> Sequence[Column]:
            return [column[i] for i in positions] if column else ()

        inputs = self.inputs
        return Pool(
            ids=[self.ids[i] for i in positions],
            targets=[self.targets[i] for i in positions],
            keys=[self.keys[i] for i in positions],
            inputs=replace(inputs, places=some(inputs.places))
            if isinstance(inputs, LazyInputs)
            else [inputs[i] for i in positions],
            marks=some(self.marks),
            groups=some(self.groups),
        )

    def without(self, positions: Collection[int]) -> "Pool":
        """The items at all other positions."""
        gone = set(positions)
        return self.take([i for i in range(len(self)) if i not in gone])


@final
@dataclass(frozen=True)
class Medium:
    """What dividing has to know of a modality's items.

    Attributes:
        noun: what one is called.
        one: the same with its article.
        near: marks of all items -> pairs of positions that are nearly the same, the lower first,
            and whether one is mirrored; None in place of a mark: not looked for.
        nearly: in what near copies differ, for a message.
    """

    noun: str
    one: str
    near: Callable[[Sequence[Any]], Iterator[tuple[int, int, bool]]]
    nearly: str
