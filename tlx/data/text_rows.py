"""Rows of tables of texts: CSV, TSV, JSON lines, Parquet. What is wrong is listed, not raised."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.data.text_files import decoded, lines_of

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Ending to format."""

Row = tuple[int, Sequence[Any]]
"""Line, counted from 1, and its fields; in Parquet the row."""


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        path: of the file.
        columns: their names; None where there is no line of names.
        width: number of fields.
        rows: those that can be read.
        wrong: what is wrong with others, each with its line.
    """

    path: Path
    columns: Sequence[str] | None
    width: int
    rows: Sequence[Row]
    wrong: Sequence[str]


def read(path: Path, *, format: str | None, header: bool, quoting: str, encoding: str) -> Table:
    """The rows of a table.

    Args:
        path: the file.
        format: `csv`, `tsv`, `jsonl` or `parquet`; None: by the file's ending.
        header: whether the first line of CSV and TSV names the columns.
        quoting: `standard`, or `none` where quotes are characters as others.
        encoding: of texts.

    Raises:
        ValueError: the file cannot be read at all.
    """
    chosen = format or FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise ValueError(
            f"{path}: what format is {path.suffix or 'a file without an ending'!r}? set "
            "dataset.format to csv, tsv, jsonl or parquet"
        )
    if chosen == "parquet":
        return _parquet(path)
    text = decoded(path, encoding)
    if chosen == "jsonl":
        return _json_lines(path, text)
    return _separated(path, text, "\t" if chosen == "tsv" else ",", header=header, quoting=quoting)


# -- formats ----------------------------------------------------------------------------------


def _separated(path: Path, text: str, delimiter: str, *, header: bool, quoting: str) -> Table:
    wrong: list[str] = []
    if quoting == "none":
        lines = enumerate(lines_of(text), 1)
        found: list[Row] = [(number, line.split(delimiter)) for number, line in lines if line]
    else:
        found = list(_quoted(path, text, delimiter, wrong))
    if not found:
        raise ValueError(f"{path} is empty" if not wrong else f"{path}: {wrong[0]}")
    columns = None
    if header:
        columns = [str(name).strip() for name in found.pop(0)[1]]
        if len(set(columns)) < len(columns):
            twice = Counter(columns).most_common(1)[0][0]
            raise ValueError(f"{path} has two columns {twice!r}; rename one")
    widths = Counter(len(fields) for _, fields in found)
    width = len(columns) if columns else widths.most_common(1)[0][0]
    wrong += [
        f"{path.name}:{number}: {len(fields)} fields, and there are {width} columns"
        for number, fields in found
        if len(fields) != width
    ]
    return Table(path, columns, width, [row for row in found if len(row[1]) == width], wrong)


def _quoted(path: Path, text: str, delimiter: str, wrong: list[str]) -> Iterator[Row]:
    """Rows of the csv module; adds to `wrong` where quotes do not close."""
    hint = "where quotes are characters as others, set dataset.quoting=none"
    before = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(
            (f"{line}\n" for line in lines_of(text)), delimiter=delimiter, strict=True
        )
        while True:
            number = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                wrong.append(f"{path.name}:{number}: {error}; {hint}")
                continue
            if delimiter == "\t" and reader.line_num > number:
                wrong.append(
                    f"{path.name}:{number}: a quoted field goes on to line "
                    f"{reader.line_num}; {hint}"
                )
            elif fields:
                yield number, fields
    finally:
        csv.field_size_limit(before)


def _json_lines(path: Path, text: str) -> Table:
    objects: list[tuple[int, dict[str, Any]]] = []
    wrong: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()  # half characters, as "\\ud800"
        except ValueError as error:
            wrong.append(f"{path.name}:{number}: no JSON: {error}")
            continue
        if isinstance(value, dict):
            objects.append((number, value))
        else:
            wrong.append(f"{path.name}:{number}: no object, as {{...}} is")
    if not objects and not wrong:
        raise ValueError(f"{path} is empty")
    columns = list(dict.fromkeys(key for _, value in objects for key in value))
    rows = [(number, [value.get(key) for key in columns]) for number, value in objects]
    return Table(path, columns, len(columns), rows, wrong)


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{path}: Parquet needs pyarrow; pip install 'tlx[parquet]'") from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    columns = [str(name) for name in table.column_names]
    values = [column.to_pylist() for column in table.columns]
    rows = [(number, fields) for number, fields in enumerate(zip(*values, strict=True), 1)]
    if not rows:
        raise ValueError(f"{path} is empty")
    return Table(path, columns, len(columns), rows, [])
