"""Tables of items: texts, or paths of files, with their labels, groups and splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, final

from tlx.base.ranges import Range
from tlx.data import split_names
from tlx.data.decoding import OnEmpty, check_on_empty
from tlx.data.draw import Draw
from tlx.data.files import FileReader, from_files
from tlx.data.labels import check_kind, encoded
from tlx.data.listed import Listed, path_in
from tlx.data.spelling import MISSING
from tlx.data.splits import Labels, Splits
from tlx.data.tables import label_columns
from tlx.data.tables import rows as table_rows
from tlx.data.tables.items import Item, Sheet, check_on_alike
from tlx.data.tables.separated import Column

Place = str | Annotated[int, Range(least=0)]
"""A column by its name, or its position from 0."""
Kind = Literal["single", "multi", "real"]
TableFormat = Literal["csv", "tsv", "jsonl", "json", "parquet"]
Quoting = Literal["standard", "none"]
OnAlike = Literal["error", "merge", "keep"]


@final
@dataclass(frozen=True, kw_only=True)
class TableForm:
    """How tables are written, and which columns say what.

    Attributes:
        label_column: of the label, by name or position from 0; in JSON and Parquet also by the way
            to an inner field, as `data.label`; or names of several: of columns of 0 and 1, one a
            class, or for `real` of numbers.
        split_column: that says to which split a line belongs. The table may lack a column `split`;
            None looks at none.
        group_column: that says what a line belongs to (a speaker, a patient): no group is in two
            splits; None: lines stand alone.
        kind: one class (`single`), any number of labels (`multi`), or numbers (`real`).
        separator: between several labels or numbers; no label at all is an empty field.
        format: of the tables; None: by their ending.
        header: whether CSV and TSV begin with a line of names; None: where a column is named.
        quoting: `none`: quotes are characters as others.
        encoding: of the files; a byte order mark tells UTF-16 and UTF-32.
        delimiter: between fields of CSV and TSV: `comma`, `semicolon`, `tab`, `bar`, or another
            character; None: the usual one, or the only other that gives the columns.
        missing: texts that stand for no label, and are refused; None: those of pandas, as `NaN`,
            `NA`, `null`, `None`.
        on_alike: labels that look the same, as 1 and 1.0, or one with a blank that cannot be
            seen: `error` lists them, `merge` takes them as one, `keep` as several.
        on_empty: `error` lists lines without content; `skip` leaves them out.
    """

    label_column: Column | Sequence[str]
    split_column: Column | None
    group_column: Column | None
    kind: Kind
    separator: str
    format: TableFormat | None
    quoting: Quoting
    encoding: str
    delimiter: str | None
    missing: Sequence[str] | None
    on_alike: OnAlike
    header: bool | None = True
    on_empty: OnEmpty = "error"

    def __post_init__(self) -> None:
        check_kind(self.kind, self.separator)
        check_on_empty(self.on_empty)
        check_on_alike(self.on_alike)


@final
@dataclass(frozen=True)
class TableItems:
    """What tables hold.

    Attributes:
        items: all lines that are right, in order.
        labels: what there is to predict.
        targets: of the items.
        by_split: split -> positions of its items.
        empty: places of lines that are left out.
    """

    items: Sequence[Item]
    labels: Labels
    targets: Sequence[object]
    by_split: Mapping[str, Sequence[int]]
    empty: Sequence[str] = field(default=())

    def groups(self, split: str) -> Sequence[str]:
        """What the items of a split belong to; none where they stand alone."""
        found = [self.items[i].group for i in self.by_split[split]]
        return found if all(found) else ()


def read_tables(
    files: Mapping[str, Path],
    contents: Mapping[str, Column | None],
    form: TableForm,
    *,
    splits: Mapping[str, str | None],
    alone: bool,
    paths: bool = False,
) -> TableItems:
    """The items of tables: one for all splits, or one a split.

    Args:
        files: split -> its table; of one for all, train's.
        contents: name of an argument -> the column of texts, or of paths, that it names.
        form: of the tables.
        splits: name -> what a split column calls it; None: it has no lines.
        alone: whether the only table is for all splits.
        paths: whether contents are paths of files.

    Raises:
        ValueError: columns are missing, or lines are wrong; all are listed.
    """
    labelled = label_columns.listed(form.label_column)
    wanted = [c for c in (*contents.values(), *labelled, form.group_column) if c is not None]
    named = [c for c in (*wanted, form.split_column) if isinstance(c, str) and c != "split"]
    sheet = Sheet(
        form.kind,
        form.separator,
        splits=list(splits),
        cells=splits,
        paths=paths,
        missing=MISSING if form.missing is None else form.missing,
        on_alike=form.on_alike,
    )
    for split, file in files.items():
        table = table_rows.read(
            file,
            format=form.format,
            header=bool(named) if form.header is None else form.header,
            quoting=form.quoting,
            encoding=form.encoding,
            delimiter=form.delimiter,
            wanted=wanted,
            further=[form.split_column],
        )
        table, label = label_columns.joined(table, labelled, form.kind)
        columns = {**contents, "label_column": label, "group_column": form.group_column}
        told = True if named else form.header
        if alone:
            sheet.add(table, columns, split_column=form.split_column, header=told)
        else:
            sheet.add(table, columns, split=split, header=told)
    sheet.check(form.on_empty)
    labels, targets = encoded([item.label for item in sheet.items], form.kind, labelled)
    return TableItems(sheet.items, labels, targets, sheet.by_split(), sheet.empty)


def from_paths(
    reader: FileReader,
    form: TableForm,
    *,
    path: str,
    root: str | None,
    column: tuple[str, Column],
    extra: Sequence[str] | None,
    draw: Draw,
) -> Splits:
    """The splits of a table of paths and labels.

    Ids are the paths as the table has them; backslashes are slashes where that finds the file.

    Args:
        reader: of the modality.
        form: of the table; without a format and a usual ending, CSV.
        path: the table.
        root: what the paths in it start from; None: the table's own folder.
        column: name of the argument that names the column of paths, and that column.
        extra: further values in the split column: evaluation sets of those names.
        draw: how to divide what is not divided yet, and how much of it to keep.

    Raises:
        ValueError: columns are missing, lines are wrong (all are listed), or files are bad.
    """
    place = Path(path).expanduser()
    base = place.parent if root is None else Path(root).expanduser()
    split_names.check_extra(extra or [])
    splits = {name: name for name in (*split_names.SPLITS, *(extra or []))}
    held = read_tables(
        {"train": place}, dict([column]), form, splits=splits, alone=True, paths=True
    )
    listed = {}
    for split, places in held.by_split.items():
        ids = [path_in(base, str(held.items[i].content)) for i in places]
        targets = [held.targets[i] for i in places]
        listed[split] = Listed(ids, [base / name for name in ids], targets, held.groups(split))
    unused = split_names.unused(
        place.parent,
        split_names.beside(place),
        hint="; put all lines into one table, with a column split",
    )
    return from_files(reader, listed, held.labels, draw=draw, notes=unused)
