"""predictions/: a CSV with one line an item, its id first; beside it what else tasks write."""

import contextlib
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from tlx.base import durable, sealed
from tlx.base.cells import Columns, cell, cells

ITEM = "text"
"""Column of what an item is, where a line of text shows it."""


def write(path: Path, ids: Iterable[object], columns: Columns) -> None:
    """Writes a line an item: its id, then what the columns hold.

    Args:
        path: of the file, whose folder is made where it is missing.
        ids: of the items.
        columns: one value an item each.

    Raises:
        ValueError: a column has more values than there are ids, or fewer.
    """
    lines = list(map(",".join, zip(cells(ids), *map(cells, columns.values()), strict=True)))
    if lines:
        lines = [",".join(map(cell, ("id", *columns))), *lines]
    write_text(path, "".join([f"{line}\r\n" for line in lines]))


def write_text(path: Path, text: str) -> None:
    """Writes a file of a run; it is synced with all else that the run leaves, before its record."""
    durable.write(path, text, sync=False)


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file that `write` wrote; none where it is missing.

    Raises:
        Damaged: it is not what the run wrote.
    """
    if not path.is_file():
        return []
    with reading(path), open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a line has more cells than the first, or fewer")
        if rows and "id" not in rows[0]:
            raise ValueError("the first line names no column id")
    return rows


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Compares a file with its seal; what is raised while it is read names the file."""
    sealed.check(path)
    try:
        yield
    except (ValueError, csv.Error, RecursionError) as error:
        raise sealed.Damaged(f"{path} is damaged ({error})", folder=path.parent.parent) from error
