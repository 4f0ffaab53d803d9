"""Rows of tables: CSV, TSV, JSON, Parquet. What is wrong is listed, not raised."""

from collections.abc import Sequence
from pathlib import Path

from tlx.data.decoding import decoded
from tlx.data.tables import json_rows
from tlx.data.tables.separated import Column, SeparatedTable, separated

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""Ending to format."""
LATE = (".json",)
"""Endings of files that are splits by their names only where no other file is."""

MOST_BYTES = 8 * 2**30
"""Of a table's columns in memory, which its rows as Python's objects take several times."""
MOST_AT_ONCE = 1024
"""Rows."""


def read(
    path: Path,
    *,
    format: str | None,
    header: bool,
    quoting: str,
    encoding: str,
    delimiter: str | None = None,
    wanted: Sequence[Column] = (),
    further: Sequence[Column | None] = (),
) -> SeparatedTable:
    """The rows of a table.

    Args:
        path: the file.
        format: `csv`, `tsv`, `jsonl`, `json` or `parquet`; None: by the file's ending.
        header: whether the first line of CSV and TSV names the columns.
        quoting: `standard`, or `none` where quotes are characters as others.
        encoding: of texts.
        delimiter: between fields of CSV and TSV; None: the usual one, or the only other that
            gives the columns that are wanted.
        wanted: columns; in typed formats also ways to inner fields, as `data.text`.
        further: likewise, without which the table is right all the same.

    Raises:
        ValueError: the file cannot be read at all.
    """
    chosen = format or FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise ValueError(
            f"{path}: what format is {path.suffix or 'a file without an ending'!r}? set "
            "dataset.format to csv, tsv, jsonl, json or parquet"
        )
    if chosen == "parquet":
        return json_rows.reached(_parquet(path), [*wanted, *further])
    text = decoded(path, encoding)
    if chosen in ("json", "jsonl"):
        rows = json_rows.rows if chosen == "json" else json_rows.lines
        return json_rows.reached(rows(path, text), [*wanted, *further])
    return separated(
        path,
        text,
        usual="\t" if chosen == "tsv" else ",",
        delimiter=delimiter,
        header=header,
        quoting=quoting,
        wanted=wanted,
    )


# -- formats ----------------------------------------------------------------------------------


def _parquet(path: Path) -> SeparatedTable:
    try:
        from pyarrow import ArrowException, parquet
        from pyarrow import Table as Columns
    except ImportError:
        raise ValueError(f"{path}: Parquet needs pyarrow; pip install pyarrow") from None
    try:
        file, batches, held = parquet.ParquetFile(path), [], 0
        # a value that is written once may stand for millions of rows
        for batch in file.iter_batches(batch_size=MOST_AT_ONCE):
            held += batch.nbytes
            if held > MOST_BYTES:
                raise ValueError(
                    f"{path} has {path.stat().st_size:,} bytes and unpacks to more than "
                    f"{MOST_BYTES:,}; give a part of it"
                )
            batches.append(batch)
        table = Columns.from_batches(batches, schema=file.schema_arrow)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    columns = [str(name) for name in table.column_names]
    values = [column.to_pylist() for column in table.columns]
    rows = [(number, fields) for number, fields in enumerate(zip(*values, strict=True), 1)]
    if not rows:
        raise ValueError(f"{path} is empty")
    return SeparatedTable(path, columns, len(columns), rows, [])
