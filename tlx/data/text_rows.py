"""Rows of tables: CSV, TSV, JSON lines, Parquet. What is wrong is listed, not raised."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlx.data.separated import Column, Table, separated
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
) -> Table:
    """The rows of a table.

    Args:
        path: the file.
        format: `csv`, `tsv`, `jsonl` or `parquet`; None: by the file's ending.
        header: whether the first line of CSV and TSV names the columns.
        quoting: `standard`, or `none` where quotes are characters as others.
        encoding: of texts.
        delimiter: between fields of CSV and TSV; None: the usual one, or the only other that
            gives the columns that are wanted.
        wanted: columns.

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


def _json_lines(path: Path, text: str) -> Table:
    objects: list[tuple[int, dict[str, Any]]] = []
    wrong: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique)
            json.dumps(value, ensure_ascii=False).encode()  # half characters, as "\\ud800"
        except ValueError as error:
            wrong.append(f"{path.name}:{number}: no JSON: {error}")
            continue
        except RecursionError:
            wrong.append(f"{path.name}:{number}: JSON that is nested too deep to be read")
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that is there twice, Python keeps the last without a word."""
    held = dict(pairs)
    if len(held) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} is there twice")
    return held


def _parquet(path: Path) -> Table:
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
    return Table(path, columns, len(columns), rows, [])
