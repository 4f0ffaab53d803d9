"""Recordings listed in a table of paths and labels."""

from typing import Unpack

from tlx.data.audio.files import SoundFiles
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.scan import OnBadFile
from tlx.data.splits import Splits
from tlx.data.tables.table_source import Kind, OnAlike, Quoting, TableForm, TableFormat, from_paths

MODALITY = "audio"
PATHS = {"path": "file", "root": "folder"}


def audio_csv(
    *,
    path: str,
    root: str | None = None,
    audio_column: str = "path",
    label_column: str | list[str] = "label",
    split_column: str | None = "split",
    group_column: str | None = None,
    kind: Kind = "single",
    separator: str = "|",
    format: TableFormat | None = None,
    quoting: Quoting = "standard",
    encoding: str = "utf-8",
    delimiter: str | None = None,
    missing: list[str] | None = None,
    on_alike: OnAlike = "error",
    extra: list[str] | None = None,
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    on_bad_file: OnBadFile = "error",
    **draw: Unpack[Dividing],
) -> Splits:
    """A table of recordings and labels: CSV or TSV with a line of column names, JSON, Parquet.

    Ids are the paths as the table has them; backslashes are slashes where that finds the file.

    Args:
        path: the table.
        root: what the paths in it start from; by default the table's own folder.
        audio_column: of the paths.
        label_column: see `TableForm`, and so are the nine below.
        split_column: with `train`, `val`, `test` (or other usual names of these) or a name of
            `extra`.
        group_column: see there; of the speaker, or the recording that a part is of.
        kind: see there.
        separator: see there.
        format: see there; None: by its ending, and CSV where that says nothing.
        quoting: see there.
        encoding: see there.
        delimiter: see there.
        missing: see there.
        on_alike: see there.
        extra: further values in `split_column`: evaluation sets of those names.
        val_fraction: as for `audio_folder`, and so are the next two.
        test_fraction: see there.
        on_bad_file: see there.
        draw: see `Draw`; `labels_per_class` is for `single` only.

    Raises:
        ValueError: columns are missing, lines are wrong (all are listed), or recordings are bad.
    """
    form = TableForm(
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        kind=kind,
        separator=separator,
        format=format,
        quoting=quoting,
        encoding=encoding,
        delimiter=delimiter,
        missing=missing,
        on_alike=on_alike,
    )
    return from_paths(
        SoundFiles(on_bad_file),
        form,
        path=path,
        root=root,
        column=("audio_column", audio_column),
        extra=extra,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
    )
