"""Images listed in a table of paths and labels."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tlx.data.files import Listed, from_files, quoted, refuse_lines
from tlx.data.labels import WANTED, check_kind, encoded, parsed
from tlx.data.splits import Splits
from tlx.data.subset import Draw


def image_csv(
    *,
    path: str,
    root: str | None = None,
    image_column: str = "path",
    label_column: str = "label",
    split_column: str | None = "split",
    kind: Literal["single", "multi", "real"] = "single",
    separator: str = "|",
    extra: list[str] | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    labels_per_class: int | None = None,
    fraction: float | None = None,
    limit_val: bool = True,
    protocol: Literal["vtab1k"] | None = None,
    on_bad_file: Literal["error", "skip"] = "error",
    drop_duplicates: bool = False,
    flips: bool = True,
    seed: int = 0,
    split_seed: int = 0,
) -> Splits:
    """A table of images and labels, with a line of column names; .tsv is separated by tabs.

    Ids are the paths as the table has them.

    Args:
        path: the table, in UTF-8.
        root: what the paths in it start from; by default the table's own folder.
        image_column: column of the paths.
        label_column: column of the labels.
        split_column: column with `train`, `val`, `test` or a name of `extra`. The table may lack
            a column `split`; None looks at none.
        kind: one class (`single`), any number of labels (`multi`), or numbers (`real`).
        separator: between several labels or numbers; no label at all is an empty field.
        extra: further values in `split_column`: evaluation sets of those names.
        val_fraction: as for `image_folder`, and so are those below.
        test_fraction: see there.
        labels_per_class: see there; for `single` only.
        fraction: see there.
        limit_val: see there.
        protocol: see there.
        on_bad_file: see there.
        drop_duplicates: see there.
        flips: see there.
        seed: see there.
        split_seed: see there.

    Raises:
        ValueError: columns are missing, lines are wrong (all are listed), or images are bad.
    """
    table = Path(path).expanduser()
    base = table.parent if root is None else Path(root).expanduser()
    check_kind(kind, separator)
    rows, split_column = _rows(table, image_column, label_column, split_column)
    found = _parsed(
        rows,
        table=table,
        columns=(image_column, label_column, split_column),
        kind=kind,
        separator=separator,
        extra=extra or [],
    )
    labels, targets = encoded([row.label for row in found], kind, label_column)
    listed = {}
    for split in ("train", "val", "test", *(extra or [])):
        places = [i for i, row in enumerate(found) if row.split == split]
        if places or split not in ("val", "test"):
            ids = [found[i].path for i in places]
            files = [base / name for name in ids]
            listed[split] = Listed(ids, files, [targets[i] for i in places])
    return from_files(
        listed,
        labels,
        draw=Draw(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            labels_per_class=labels_per_class,
            fraction=fraction,
            limit_val=limit_val,
            protocol=protocol,
            seed=seed,
            split_seed=split_seed,
        ),
        on_bad_file=on_bad_file,
        drop_duplicates=drop_duplicates,
        flips=flips,
    )


@dataclass(frozen=True)
class Row:
    """A line of a table: path, split, and its label, labels or numbers."""

    path: str
    split: str
    label: Any


def _rows(
    table: Path, image_column: str, label_column: str, split_column: str | None
) -> tuple[list[tuple[int, dict[str, Any]]], str | None]:
    """Lines with their numbers, and the split column if there is one.

    Raises:
        ValueError: the table cannot be read, is empty, or lacks a column.
    """
    delimiter = "\t" if table.suffix.lower() in {".tsv", ".tab"} else ","
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ValueError(f"dataset.path={str(table)!r}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"dataset.path={str(table)!r} is no table in UTF-8: {error}") from None
    if split_column == "split" and "split" not in columns:
        split_column = None
    wanted = {"image_column": image_column, "label_column": label_column}
    if split_column is not None:
        wanted["split_column"] = split_column
    for argument, name in wanted.items():
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1, 0.5)
            raise ValueError(
                f"dataset.{argument}={name!r} is no column of {table}"
                f"{f'; did you mean {near[0]!r}?' if near else ''}; there are {quoted(columns)}"
            )
    if not rows:
        raise ValueError(f"{table} has no lines below its column names")
    return rows, split_column


def _parsed(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    table: Path,
    columns: tuple[str, str, str | None],
    kind: str,
    separator: str,
    extra: Sequence[str],
) -> list[Row]:
    """The lines' contents.

    Raises:
        ValueError: lines are wrong; it lists them.
    """
    image_column, label_column, split_column = columns
    allowed = ("train", "val", "test", *extra)
    found, wrong = [], []
    width = None
    for line, row in rows:
        name = (row[image_column] or "").strip()
        text = row[label_column]
        split = "train" if split_column is None else (row[split_column] or "").strip()
        label = parsed(text, kind, separator)
        if None in row:
            wrong.append(f"line {line}: more fields than columns")
        elif text is None:
            wrong.append(f"line {line}: fewer fields than columns")
        elif not name:
            wrong.append(f"line {line}: no path")
        elif split not in allowed:
            wrong.append(f"line {line}: split {split!r} is none of {', '.join(allowed)}")
        elif label is None:
            wrong.append(f"line {line}: label {text!r} is {WANTED[kind]}")
        elif kind == "real" and width not in (None, len(label)):
            wrong.append(f"line {line}: {len(label)} numbers, others have {width}")
        else:
            width = len(label) if kind == "real" else None
            found.append(Row(Path(name).as_posix(), split, label))
    refuse_lines(wrong, f"{table}: {len(wrong)} of {len(rows)} lines are wrong")
    return found
