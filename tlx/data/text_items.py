"""Lines of tables as texts and labels; what is wrong with them is collected."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from tlx.data.files import quoted
from tlx.data.labels import WANTED, parsed
from tlx.data.text_files import refuse_empty
from tlx.data.text_rows import Row, Table
from tlx.data.texts import Texts

Column = str | int
"""Its name, or its position from 0."""


@dataclass(frozen=True)
class Item:
    """A line of a table: id, split, text or pair, and its label, labels or numbers."""

    id: str
    split: str
    text: str | tuple[str, str]
    label: Any


@final
@dataclass
class Reading:
    """What was read so far, and what was wrong with it.

    Attributes:
        kind: of the labels.
        separator: between several.
        splits: their names.
        cells: what a split column may say -> the split that it means.
        items: that are right.
        empty: ids of lines without text.
        wrong: lines, and what is wrong with them.
        total: number of lines.
    """

    kind: str
    separator: str
    splits: Sequence[str]
    cells: Mapping[str, str]
    items: list[Item] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    total: int = 0

    def add(
        self,
        table: Table,
        columns: Mapping[str, Column | None],
        *,
        split: str = "train",
        split_column: Column | None = None,
    ) -> None:
        """Reads a table's lines into this."""
        places = {k: _place(table, k, c) for k, c in columns.items() if c is not None}
        if split_column is not None and (
            split_column != "split" or "split" in (table.columns or ())
        ):
            places["split_column"] = _place(table, "split_column", split_column)
        self.wrong += table.wrong
        self.total += len(table.rows) + len(table.wrong)
        for row in table.rows:
            self._line(table.path.name, row, places, split)

    def _line(self, file: str, row: Row, places: Mapping[str, int], split: str) -> None:
        number, fields = row
        where = f"{file}:{number}"
        columns = [places[k] for k in ("text_column", "pair_column") if k in places]
        texts = [fields[place] for place in columns]
        given = fields[places["label_column"]]
        label = parsed(given, self.kind, self.separator)
        if "split_column" in places:
            cell = str(fields[places["split_column"]] or "").strip()
            split = self.cells.get(cell, "")
        odd = next((t for t in texts if not isinstance(t, str | None)), None)
        if not split:
            self.wrong.append(f"{where}: split {cell!r} is none of {', '.join(self.cells)}")
        elif odd is not None:
            self.wrong.append(f"{where}: {odd!r} is no text")
        elif not all(text and text.strip() for text in texts):
            self.empty.append(where)
        elif label is None:
            self.wrong.append(f"{where}: label {given!r} is {WANTED[self.kind]}")
        elif self.kind == "real" and self.items and len(label) != len(self.items[0].label):
            width = len(self.items[0].label)
            self.wrong.append(f"{where}: {len(label)} numbers, others have {width}")
        else:
            first, *second = [text.strip() for text in texts]
            text = (first, second[0]) if second else first
            self.items.append(Item(where, split, text, label))

    def check(self, on_empty: str) -> None:
        """Raises a ValueError that lists what is wrong; warns of what is left out."""
        wrong = [*self.wrong, *self._never_trained()]
        refuse_empty(self.empty, wrong, on_empty=on_empty, total=self.total, noun="line")
        if not self.items:
            raise ValueError("no line has a text")

    def _never_trained(self) -> list[str]:
        """Labels of evaluation sets that no training line has, once each."""
        if self.kind == "real":
            return []

        def held(item: Item) -> Sequence[str]:
            return (item.label,) if self.kind == "single" else item.label

        trained = {label for item in self.items if item.split == "train" for label in held(item)}
        found: dict[str, str] = {}
        for item in self.items if trained else ():
            for label in held(item):
                if label not in trained and label not in found:
                    near = difflib.get_close_matches(label, trained, 1, 0.6)
                    found[label] = (
                        f"{item.id}: label {label!r} is in no line of train"
                        f"{f'; did you mean {near[0]!r}?' if near else ''}"
                    )
        return list(found.values())

    def pools(self, targets: Sequence[Any]) -> dict[str, Texts]:
        """The texts of each split; of train at least, others where there are some."""
        found = {}
        for split in self.splits:
            places = [i for i, item in enumerate(self.items) if item.split == split]
            if places or split not in ("val", "test"):
                items = [self.items[i] for i in places]
                found[split] = Texts.of(
                    [item.id for item in items],
                    [item.text for item in items],
                    [targets[i] for i in places],
                )
        return found


def _place(table: Table, argument: str, column: Column) -> int:
    """Position of a column.

    Raises:
        ValueError: there is no such column.
    """
    names = table.columns or ()
    if isinstance(column, int):
        if 0 <= column < table.width:
            return column
        raise ValueError(
            f"dataset.{argument}={column}: {table.path} has {table.width} columns, counted from 0"
        )
    if column in names:
        return names.index(column)
    near = difflib.get_close_matches(column, names, 1, 0.5)
    there = (
        f"there are {quoted(names)}, and positions from 0"
        if names
        else "it has no line of names (dataset.header)"
    )
    raise ValueError(
        f"dataset.{argument}={column!r} is no column of {table.path}"
        f"{f'; did you mean {near[0]!r}?' if near else ''}; {there}"
    )
