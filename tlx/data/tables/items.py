"""Lines of tables as items with labels; what is wrong with them is collected."""

import csv
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from tlx.data import split_names
from tlx.data.decoding import refuse_empty
from tlx.data.labels import WANTED, parsed
from tlx.data.listed import quoted
from tlx.data.spelling import MISSING, NUMBER, alike, is_missing, told_apart, warn_of_case
from tlx.data.tables.separated import Column, Row, SeparatedTable

USUAL_NAMES = frozenset(
    {
        *("label", "labels", "class", "classes", "category", "target", "targets", "y", "gold"),
        *("sentiment", "polarity", "rating", "stars", "score", "topic", "intent", "emotion"),
        *("text", "texts", "sentence", "sentence1", "review", "comment", "question", "premise"),
        *("title", "content", "body", "message", "tweet", "document", "utterance", "query"),
    }
)
"""Names of columns, by which a first line is known that is no item."""
BESIDE = frozenset({"label_column", "split_column", "group_column"})
"""Arguments that name columns of something else than an item's content."""


@dataclass(frozen=True)
class Item:
    """A line of a table.

    Attributes:
        place: file and line.
        split: that it belongs to.
        content: a text, a pair of texts, or the path of a file.
        label: label, labels or numbers.
        group: what it belongs to; empty where lines stand alone.
    """

    place: str
    split: str
    content: str | tuple[str, str]
    label: Any
    group: str = ""


@dataclass(frozen=True)
class Long:
    """A row of several lines: its place, its lines, and how a row of the table is read."""

    place: str
    lines: Sequence[str]
    delimiter: str
    width: int
    label: int


@final
@dataclass
class Sheet:
    """What was read so far, and what was wrong with it.

    Attributes:
        kind: of the labels.
        separator: between several.
        splits: their names.
        cells: split -> what a split column calls it; None: it has no lines.
        paths: whether items are paths of files; else they are texts.
        missing: texts that stand for no label.
        on_alike: what becomes of a label that is written in two ways, see `text_csv`.
        items: that are right.
        empty: places of lines without text.
        wrong: lines, and what is wrong with them.
        total: number of lines.
        first: items of lines that nobody said are no names of columns.
        named: what stands in the place of the label in lines that were taken for names.
        long: rows of several lines.
    """

    kind: str
    separator: str
    splits: Sequence[str]
    cells: Mapping[str, str | None]
    paths: bool = False
    missing: Sequence[str] = MISSING
    on_alike: str = "error"
    items: list[Item] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    total: int = 0
    first: list[Item] = field(default_factory=list)
    named: list[tuple[str, str]] = field(default_factory=list)
    long: list[Long] = field(default_factory=list)

    def add(
        self,
        table: SeparatedTable,
        columns: Mapping[str, Column | None],
        *,
        split: str = "train",
        split_column: Column | None = None,
        header: bool | None = True,
    ) -> None:
        """Reads a table's lines into this.

        Args:
            table: the lines.
            columns: name of an argument -> the column that it names.
            split: of all lines, where no column says it.
            split_column: that does.
            header: whether somebody said that there is a line of names, or none.
        """
        places = {k: place_of(table, k, c) for k, c in columns.items() if c is not None}
        if split_column == "split":
            cells = {
                c: (row[i] for _, row in table.rows) for i, c in enumerate(table.columns or ())
            }
            taken = [str(each) for each in columns.values()]
            split_column = split_names.split_column(cells, but=taken, place=table.path)
        if split_column is not None:
            places["split_column"] = place_of(table, "split_column", split_column)
        if table.delimiter == self.separator and self.kind != "single":
            raise ValueError(
                f"{table.path}: {self.separator!r} parts the fields, and the labels too; set "
                "dataset.separator to what stands between labels, or dataset.delimiter"
            )
        self.wrong += table.wrong
        self.total += len(table.rows) + len(table.wrong)
        name, before = table.path.name, len(self.items)
        unsaid = bool(table.delimiter) and header is None and not table.columns
        if unsaid and table.rows and _counted(table.rows[0][1]):
            self.wrong.append(
                f"{name}:{table.rows[0][0]}: looks like the positions of columns, as pandas writes "
                "them; set dataset.header=true, or false where it is an item"
            )
        for row in table.rows:
            self._line(table, row, places, split)
        label, names = places["label_column"], table.columns
        by_position = isinstance(columns["label_column"], int)
        if table.delimiter and names and not _counted(names) and by_position:
            self.named.append((name, names[label]))
        if unsaid:
            self.first += self.items[before : before + 1]
        for line, lines in table.long.items():
            self.long.append(
                Long(f"{name}:{line}", lines, table.delimiter or "", table.width, label)
            )

    def _line(self, table: SeparatedTable, row: Row, places: Mapping[str, int], split: str) -> None:
        number, fields = row
        where = f"{table.path.name}:{number}"
        contents = [fields[place] for key, place in places.items() if key not in BESIDE]
        given = fields[places["label_column"]]
        label = parsed(given, self.kind, self.separator, missing=self.missing)
        if "split_column" in places:
            cell = str(fields[places["split_column"]] or "").strip()
            split = split_names.split_of(cell, self.cells) or ""
        group = fields[places["group_column"]] if "group_column" in places else ""
        odd = next((c for c in contents if not isinstance(c, str | None)), None)
        texts = [content.strip() if isinstance(content, str) else "" for content in contents]
        if table.delimiter and [str(name).strip() for name in fields] == table.columns:
            self.wrong.append(f"{where}: the names of the columns once more")
        elif not split:
            self.wrong.append(
                f"{where}: split {cell!r} is none of {', '.join(filter(None, self.cells.values()))}"
            )
        elif odd is not None:
            self.wrong.append(f"{where}: {odd!r} is no {'path' if self.paths else 'text'}")
        elif not all(texts):
            (self.wrong if self.paths else self.empty).append(
                f"{where}: no path" if self.paths else where
            )
        elif "group_column" in places and is_missing(group, self.missing):
            self.wrong.append(f"{where}: no group")
        elif label is None:
            self.wrong.append(f"{where}: label {given!r} is {WANTED[self.kind]}{self._why(given)}")
        elif table.delimiter and self.kind != "real" and _broken(label):
            self.wrong.append(
                f"{where}: label {given!r} goes over several lines; a quote that is not closed?"
            )
        elif self.kind == "real" and self.items and len(label) != len(self.items[0].label):
            width = len(self.items[0].label)
            self.wrong.append(f"{where}: {len(label)} numbers, others have {width}")
        else:
            first, *second = texts
            if self.paths:
                first = Path(first).as_posix()
            content = (first, second[0]) if second else first
            self.items.append(Item(where, split, content, label, str(group).strip()))

    def _why(self, given: object) -> str:
        """What to do where a label that stands for none is one."""
        parts = given.split(self.separator) if isinstance(given, str) else []
        word = next((part.strip() for part in parts if part.strip() in self.missing), None)
        if self.kind == "real" or word is None:
            return ""
        return f": {word!r} stands for none; where it is a class, set dataset.missing=[]"

    def check(self, on_empty: str = "error") -> None:
        """Takes labels that look the same as one where that was asked for (a mutator).

        Raises:
            ValueError: lines are wrong, all of which are listed; it warns of what is left out.
        """
        wrong = [*self.wrong, *self._swallowed(), *self._headers()]
        if self.kind != "real":
            wrong += self._spelt_twice() or self._never_trained()
        refuse_empty(self.empty, wrong, on_empty=on_empty, total=self.total, noun="line")
        if not self.items:
            raise ValueError("no line has a text")

    # -- what only all lines together show -----------------------------------------------------

    def _held(self, items: Iterable[Item]) -> list[tuple[str, str]]:
        """Classes with the places of their items, in order."""
        return [
            (label, item.place)
            for item in items
            for label in ((item.label,) if self.kind == "single" else item.label)
        ]

    def _spelt_twice(self) -> list[str]:
        """Labels that look the same, with the places of both; or what was asked for is done."""
        held = self._held(self.items)
        counts = Counter(label for label, _ in held)
        places: dict[str, str] = {}
        for label, place in held:
            places.setdefault(label, place)
        groups = alike(counts)
        if self.on_alike == "merge":
            one = {
                spelling: max(group, key=counts.__getitem__)
                for group in groups.values()
                for spelling in group
            }
            self.items = [replace(item, label=_renamed(item.label, one)) for item in self.items]
        if self.on_alike != "error":
            return []
        if not groups:
            warn_of_case(places)
        return [
            f"{', '.join(places[each] for each in group)}: labels {told_apart(group)} look the "
            "same; write them in one way, or set dataset.on_alike=merge (one class) or keep "
            "(several)"
            for group in groups.values()
        ]

    def _never_trained(self) -> list[str]:
        """Labels of evaluation sets that no training line has, once each."""
        trained = {label for label, _ in self._held(i for i in self.items if i.split == "train")}
        found: dict[str, str] = {}
        for label, place in self._held(self.items) if trained else ():
            if label not in trained and label not in found:
                near = difflib.get_close_matches(label, trained, 1, 0.6)
                found[label] = (
                    f"{place}: label {label!r} is in no line of train"
                    f"{f'; did you mean {near[0]!r}?' if near else ''}"
                )
        return list(found.values())

    def _headers(self) -> list[str]:
        """First lines that are names of columns and were taken for items, and the reverse."""
        firsts = {item.place for item in self.first}
        rest: set[str] = set()
        if self.kind != "real":
            rest |= {
                label for label, _ in self._held(i for i in self.items if i.place not in firsts)
            }
        numbers = bool(rest) and all(NUMBER.fullmatch(label) for label in rest)
        blanks = [
            any(" " in text for text in _contents(item))
            for item in self.items
            if item.place not in firsts
        ]
        sentences = sum(blanks) > 0.9 * len(blanks)
        wrong = []
        for item in self.first if self.kind != "real" else ():
            held = {label for label, _ in self._held([item])}
            names = (*_contents(item), *held)
            other = numbers and not any(NUMBER.fullmatch(label) for label in held)
            other |= sentences and not any(re.search(r"\s", name) for name in names)
            if rest.isdisjoint(held) and (other or any(map(_usual, names))):
                wrong.append(
                    f"{item.place}: looks like the names of columns; set dataset.header=true, or "
                    "false where it is an item"
                )
        for file, name in self.named:
            label = parsed(name, self.kind, self.separator, missing=self.missing)
            if label is not None and (self.kind == "real" or label in rest):
                wrong.append(
                    f"{file}:1: was taken for names of columns, and its label {name!r} is that of "
                    "other lines; set dataset.header=false, or name the columns"
                )
        return wrong

    def _swallowed(self) -> list[str]:
        """Rows of several lines each of which could be a row, as where two quotes are missing."""
        long = {each.place for each in self.long}
        others = [item for item in self.items if item.place not in long]
        labels = {label for label, _ in self._held(others)} if self.kind != "real" else set()
        bare = self.kind == "multi" and any(not item.label for item in others)

        def row(text: str, like: Long) -> bool:
            fields = next(csv.reader([text], delimiter=like.delimiter), [])
            if len(fields) != like.width:
                return False
            field = fields[like.label]
            label = parsed(field, self.kind, self.separator, missing=self.missing)
            if self.kind == "real":  # a number behind a comma and a blank is one of a text
                return label is not None and field == field.strip()
            held = (label,) if self.kind == "single" else label
            return labels.issuperset(held) and (bare or bool(held)) if held is not None else False

        return [
            f"{each.place}: a quoted field goes on over {len(each.lines)} lines that look like "
            "rows; close its quote, or set dataset.quoting=none"
            for each in self.long
            if all(row(text.replace('"', ""), each) for text in each.lines)
        ]

    def by_split(self) -> dict[str, list[int]]:
        """Places of each split's items; of train and further sets at least, others if any."""
        places = {
            split: [i for i, item in enumerate(self.items) if item.split == split]
            for split in self.splits
        }
        return {s: held for s, held in places.items() if held or s not in ("val", "test")}


def check_on_alike(on_alike: str) -> None:
    """Raises a ValueError where it is no choice."""
    if on_alike not in ("error", "merge", "keep"):
        raise ValueError(f"dataset.on_alike={on_alike!r}; give error, merge or keep")


def _broken(label: str | tuple[str, ...]) -> bool:
    """Whether a label has the end of a line in it."""
    return bool(re.search(r"[\r\n]", label if isinstance(label, str) else "".join(label)))


def _contents(item: Item) -> tuple[str, ...]:
    return item.content if isinstance(item.content, tuple) else (item.content,)


def _usual(name: str) -> bool:
    """Whether a text is a usual name of a column, or made of one, as `tweet_text`.

    >>> [_usual(name) for name in ("Label", "tweet_text", "reviewText", "a text", "context")]
    [True, True, True, False, False]
    """
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) if name.isidentifier() else []
    return not USUAL_NAMES.isdisjoint({name.lower(), *map(str.lower, parts)})


def _counted(fields: Sequence[object]) -> bool:
    """Whether fields are 0, 1, 2, … with or without a column of an index before them."""
    index = 1 if fields[0] == "" else 0
    counted = [str(place) for place in range(len(fields) - index)]
    return len(counted) > 1 and list(fields[index:]) == counted


def _renamed(label: str | tuple[str, ...], names: Mapping[str, str]) -> str | tuple[str, ...]:
    if isinstance(label, str):
        return names.get(label, label)
    return tuple(names.get(each, each) for each in label)


def place_of(table: SeparatedTable, argument: str, column: Column) -> int:
    """Position of a column.

    Raises:
        ValueError: there is no such column, or there are two.
    """
    names = table.columns or ()
    if isinstance(column, int):
        if 0 <= column < table.width:
            return column
        raise ValueError(
            f"dataset.{argument}={column}: {table.path} has {table.width} columns, counted from 0"
        )
    if list(names).count(column) > 1:
        raise ValueError(f"{table.path} has two columns {column!r}; rename one")
    if column in names:
        return list(names).index(column)
    near = difflib.get_close_matches(column, names, 1, 0.5)
    parted = f", parted by {table.delimiter!r} (dataset.delimiter)" if table.delimiter else ""
    there = (
        f"there are {quoted(names)}{parted}, and positions from 0"
        if names
        else "it has no line of names (dataset.header)"
    )
    raise ValueError(
        f"dataset.{argument}={column!r} is no column of {table.path}"
        f"{f'; did you mean {near[0]!r}?' if near else ''}; {there}"
    )
