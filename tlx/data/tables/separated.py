"""Rows of CSV and TSV, whatever stands between their fields."""

import csv
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlx.data.decoding import lines_of

LOG = logging.getLogger(__name__)

Column = str | int
"""Its name, or its position from 0."""
Row = tuple[int, Sequence[object]]
"""Line, counted from 1, and its fields; in Parquet the row."""

NAMED = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
"""Delimiters that are looked for, by their names."""
DIRECTIVE = re.compile(r'"?sep=(.)"?')
"""A first line for spreadsheets."""


@dataclass(frozen=True)
class SeparatedTable:
    """What a file holds.

    Attributes:
        path: of the file.
        columns: their names; None where there is no line of names.
        width: number of fields.
        rows: those that can be read.
        wrong: what is wrong with others, each with its line.
        delimiter: between fields; None in formats that have none.
        long: line of a row -> the lines that it goes over, where these are several.
    """

    path: Path
    columns: Sequence[str] | None
    width: int
    rows: Sequence[Row]
    wrong: Sequence[str]
    delimiter: str | None = None
    long: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def fits(self, wanted: Sequence[Column]) -> bool:
        """Whether there are these columns; of positions, whether all rows have them too."""
        names = self.columns or ()
        if any(c not in names if isinstance(c, str) else c >= self.width for c in wanted):
            return False
        return any(isinstance(c, str) for c in wanted) or not self.wrong


def separated(
    path: Path,
    text: str,
    *,
    usual: str,
    delimiter: str | None,
    header: bool,
    quoting: str,
    wanted: Sequence[Column],
) -> SeparatedTable:
    """The rows of a text.

    Args:
        path: where it comes from.
        text: of the file.
        usual: delimiter that its ending promises.
        delimiter: that there is; None: the usual one, or the only other that fits.
        header: whether the first line names the columns.
        quoting: `standard`, or `none` where quotes are characters as others.
        wanted: columns that there must be, by which a delimiter is known.

    Raises:
        ValueError: the text is empty, or the delimiter is no single character.
    """
    lines = lines_of(text)
    skipped = 0
    if lines and (stated := DIRECTIVE.fullmatch(lines[0])):
        delimiter, skipped = delimiter or stated[1], 1

    def read(character: str) -> SeparatedTable:
        return _rows(
            path, lines[skipped:], character, skipped=skipped, header=header, quoting=quoting
        )

    if delimiter is not None:
        return read(check_delimiter(delimiter))
    table = read(usual)
    if table.fits(wanted):
        return table
    fitting = [
        other
        for character in NAMED.values()
        if character != usual and (other := read(character)).fits(wanted) and other.width > 1
    ]
    if len(fitting) != 1:
        return table
    (table,) = fitting
    LOG.warning("%s: fields are parted by %r, by what fits", path, table.delimiter)
    return table


def check_delimiter(delimiter: str) -> str:
    """The character that a delimiter or its name stands for.

    Raises:
        ValueError: it is no single character.
    """
    character = NAMED.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n':
        raise ValueError(
            f"dataset.delimiter={delimiter!r} is no character that parts fields; give "
            f"{', '.join(NAMED)}, another character, or null to find it"
        )
    return character


def _rows(
    path: Path, lines: Sequence[str], delimiter: str, *, skipped: int, header: bool, quoting: str
) -> SeparatedTable:
    """Rows that are as wide as their names, or as most; others are among what is wrong."""
    wrong: list[str] = []
    long: dict[int, Sequence[str]] = {}
    if quoting == "none":
        numbered = enumerate(lines, 1 + skipped)
        rows: list[Row] = [(number, line.split(delimiter)) for number, line in numbered if line]
    else:
        rows = list(_quoted(path, lines, delimiter, skipped, wrong=wrong, long=long))
    if not rows:
        raise ValueError(f"{path} is empty" if not wrong else f"{path}: {wrong[0]}")
    columns = [str(name).strip() for name in rows.pop(0)[1]] if header else None
    if columns and not rows and not wrong:
        raise ValueError(f"{path} has no lines below its column names")
    if columns:
        columns, rows = _untrailed(columns, rows)
    widths = Counter(len(fields) for _, fields in rows)
    width = len(columns) if columns else widths.most_common(1)[0][0]
    wrong += [
        f"{path.name}:{number}: {len(fields)} fields, and there are {width} columns"
        for number, fields in rows
        if len(fields) != width
    ]
    fitting = [row for row in rows if len(row[1]) == width]
    return SeparatedTable(path, columns, width, fitting, wrong, delimiter, long)


def _untrailed(columns: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Names and rows without the empty fields that separators at the ends of lines make.

    Those of rows only where all rows have as many: in a single row, it may be a delimiter within a
    text, before an empty field.
    """
    named = len(columns)
    while named > 1 and not columns[named - 1]:
        named -= 1
    beyond = {len(fields) - named for _, fields in rows}
    even = len(rows) > 1 and len(beyond) == 1 and min(beyond) > 0
    trailing = named < len(columns) and beyond <= set(range(len(columns) - named + 1))
    if (even or trailing) and not any(any(fields[named:]) for _, fields in rows):
        return columns[:named], [(number, fields[:named]) for number, fields in rows]
    return columns, rows


def _quoted(
    path: Path,
    lines: Sequence[str],
    delimiter: str,
    skipped: int,
    *,
    wrong: list[str],
    long: dict[int, Sequence[str]],
) -> Iterator[Row]:
    """Rows of the csv module; adds to `wrong` where quotes do not close, and to `long`."""
    hint = "where quotes are characters as others, set dataset.quoting=none"
    before = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
        while True:
            start = reader.line_num
            number = start + 1 + skipped
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                wrong.append(f"{path.name}:{number}: {error}; {hint}")
                continue
            last = reader.line_num + skipped
            if last > number:
                long[number] = lines[start : reader.line_num]
            if delimiter == "\t" and last > number:
                wrong.append(f"{path.name}:{number}: a quoted field goes on to line {last}; {hint}")
            elif fields:
                yield number, fields
    finally:
        csv.field_size_limit(before)
