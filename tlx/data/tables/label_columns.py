"""Labels that stand in several columns of a table, one a class or one a number."""

import csv
from collections.abc import Sequence
from dataclasses import replace

from tlx.data.tables.items import place_of
from tlx.data.tables.separated import Column, Row, SeparatedTable

ONES = frozenset({"1", "1.0", "true", "True", "TRUE"})
ZEROS = frozenset({"0", "0.0", "false", "False", "FALSE"})


def joined(
    table: SeparatedTable, columns: Sequence[Column], kind: str
) -> tuple[SeparatedTable, Column]:
    """A table with one column of labels for several, and that column; one column is left alone.

    Args:
        table: with a column for each class, that holds 1 where a row is of it and 0 elsewhere, or
            with several columns of numbers.
        columns: their names; those of 0 and 1 are the names of the classes.
        kind: `single`: exactly one is 1; `multi`: any number; `real`: all are numbers.

    Raises:
        ValueError: there is no such column.
    """
    if len(columns) == 1:
        return table, columns[0]
    names = [*map(str, columns)]
    places = [place_of(table, "label_column", name) for name in names]
    rows: list[Row] = []
    wrong = list(table.wrong)
    for number, fields in table.rows:
        cells = [fields[place] for place in places]
        label: object = cells
        if kind != "real":
            odd = next((i for i, cell in enumerate(cells) if _bit(cell) is None), None)
            held = [name for name, cell in zip(names, cells, strict=True) if _bit(cell)]
            where = f"{table.path.name}:{number}"
            if odd is not None:
                wrong.append(f"{where}: {names[odd]} is {cells[odd]!r}, and neither 0 nor 1")
                continue
            if kind == "single" and len(held) != 1:
                said = f"{' and '.join(held)} are 1" if held else "no label column is 1"
                wrong.append(f"{where}: {said}; kind=single has one class a row")
                continue
            label = held[0] if kind == "single" else held
        rows.append((number, [*fields, label]))
    wrong += _swallowed(table, places) if kind != "real" else []
    name = ", ".join(names)
    width, there = table.width + 1, [*(table.columns or ()), name]
    return replace(table, columns=there, width=width, rows=rows, wrong=wrong), name


def _bit(cell: object) -> bool | None:
    """Whether a cell is 1; None where it is neither 1 nor 0."""
    text = str(cell).strip()
    return True if text in ONES else False if text in ZEROS else None


def _swallowed(table: SeparatedTable, places: Sequence[int]) -> list[str]:
    """Rows of several lines each of which could be a row, as where two quotes are missing."""

    def row(line: str) -> bool:
        fields = next(csv.reader([line.replace('"', "")], delimiter=table.delimiter or ","), [])
        return len(fields) == table.width and all(_bit(fields[i]) is not None for i in places)

    return [
        f"{table.path.name}:{number}: a quoted field goes on over {len(lines)} lines that look "
        "like rows; close its quote, or set dataset.quoting=none"
        for number, lines in table.long.items()
        if all(map(row, lines))
    ]


def listed(label_column: Column | Sequence[str]) -> list[Column]:
    """The columns of labels, one or several.

    Raises:
        ValueError: there is none, or one is named twice.
    """
    names: list[Column] = [label_column] if isinstance(label_column, str | int) else [*label_column]
    if not names or len({*names}) < len(names):
        raise ValueError(f"dataset.label_column={[*names]} must name columns, each of them once")
    return names
