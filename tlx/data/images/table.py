"""Images listed in a table of paths and labels."""

from pathlib import Path
from typing import Literal, Unpack

from tlx.data import split_names
from tlx.data.draw import Division, Draw, Share
from tlx.data.images.files import from_files
from tlx.data.labels import check_kind, encoded
from tlx.data.listed import Listed, path_in
from tlx.data.spelling import MISSING
from tlx.data.splits import Splits
from tlx.data.tables import label_columns
from tlx.data.tables import rows as text_rows
from tlx.data.tables.items import Reading, check_on_alike


def image_csv(
    *,
    path: str,
    root: str | None = None,
    image_column: str = "path",
    label_column: str | list[str] = "label",
    split_column: str | None = "split",
    kind: Literal["single", "multi", "real"] = "single",
    separator: str = "|",
    format: Literal["csv", "tsv", "jsonl", "json", "parquet"] | None = None,
    quoting: Literal["standard", "none"] = "standard",
    encoding: str = "utf-8",
    delimiter: str | None = None,
    missing: list[str] | None = None,
    on_alike: Literal["error", "merge", "keep"] = "error",
    extra: list[str] | None = None,
    val_fraction: Share = 0.15,
    test_fraction: Share = 0.15,
    on_bad_file: Literal["error", "skip"] = "error",
    flips: bool = True,
    **draw: Unpack[Division],
) -> Splits:
    """A table of images and labels: CSV or TSV with a line of column names, JSON, Parquet.

    Ids are the paths as the table has them; backslashes are slashes where that finds the file.

    Args:
        path: the table.
        root: what the paths in it start from; by default the table's own folder.
        image_column: column of the paths, as `text_column` of `text_csv`.
        label_column: column of the labels, or several, see there.
        split_column: column with `train`, `val`, `test` (or other usual names of these) or a
            name of `extra`. The table may lack a column `split`; None looks at none.
        kind: one class (`single`), any number of labels (`multi`), or numbers (`real`).
        separator: between several labels or numbers; no label at all is an empty field.
        format: of the table; None: by its ending, and CSV where that says nothing.
        quoting: as for `text_csv`, and so are the next four.
        encoding: see there.
        delimiter: see there.
        missing: see there.
        on_alike: see there.
        extra: further values in `split_column`: evaluation sets of those names.
        val_fraction: as for `image_folder`, and so are the next three.
        test_fraction: see there.
        on_bad_file: see there.
        flips: see there.
        draw: see `Draw`; `labels_per_class` is for `single` only.

    Raises:
        ValueError: columns are missing, lines are wrong (all are listed), or images are bad.
    """
    place = Path(path).expanduser()
    base = place.parent if root is None else Path(root).expanduser()
    check_kind(kind, separator)
    check_on_alike(on_alike)
    split_names.check_extra(extra or [])
    splits = (*split_names.SPLITS, *(extra or []))
    labelled = label_columns.listed(label_column)
    read = Reading(
        kind,
        separator,
        splits=splits,
        cells={name: name for name in splits},
        images=True,
        missing=MISSING if missing is None else missing,
        on_alike=on_alike,
    )
    table = text_rows.read(
        place,
        format=format or text_rows.FORMATS.get(place.suffix.lower(), "csv"),
        header=True,
        quoting=quoting,
        encoding=encoding,
        delimiter=delimiter,
        wanted=[image_column, *labelled],
        further=[split_column],
    )
    table, label = label_columns.joined(table, labelled, kind)
    read.add(
        table, {"image_column": image_column, "label_column": label}, split_column=split_column
    )
    read.check()
    labels, targets = encoded([item.label for item in read.items], kind, labelled)
    listed = {}
    for split, places in read.by_split().items():
        ids = [path_in(base, str(read.items[i].content)) for i in places]
        listed[split] = Listed(ids, [base / name for name in ids], [targets[i] for i in places])
    return from_files(
        listed,
        labels,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        on_bad_file=on_bad_file,
        flips=flips,
        notes=split_names.unused(
            place.parent,
            split_names.beside(place),
            hint="; put all lines into one table, with a column split",
        ),
    )
