"""Texts listed in tables: CSV, TSV, JSON, Parquet."""

from dataclasses import replace
from typing import Unpack

from tlx.data import split_names
from tlx.data.decoding import OnEmpty
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.items import Pool
from tlx.data.splits import Splits
from tlx.data.tables.split_tables import table_files, unused
from tlx.data.tables.table_source import (
    Kind,
    OnAlike,
    Place,
    Quoting,
    TableForm,
    TableFormat,
    TableItems,
    read_tables,
)
from tlx.data.text.texts import from_texts, text_pool

MODALITY = "text"
PATHS = {
    "path": "file, or root",
    "root": "folder",
    "train": "table below root",
    "val": "table below root",
    "test": "table below root",
    "extra": "table below root",
}


def text_csv(
    *,
    path: str | None = None,
    root: str | None = None,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    format: TableFormat | None = None,
    text_column: Place = "text",
    pair_column: Place | None = None,
    label_column: Place | list[str] = "label",
    split_column: Place | None = "split",
    group_column: Place | None = None,
    header: bool | None = None,
    quoting: Quoting = "standard",
    encoding: str = "utf-8",
    delimiter: str | None = None,
    kind: Kind = "single",
    separator: str = "|",
    missing: list[str] | None = None,
    on_alike: OnAlike = "error",
    on_empty: OnEmpty = "error",
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """A table of texts and labels, or one table each for train, val and test.

    Ids are file and line, as `train.tsv:12`.

    Args:
        path: the only table; `split_column` divides it, or shares are split off.
        root: instead, the folder of several tables.
        train: file below root, with or without its ending; with `path`, value of `split_column`.
        val: likewise; `val` finds validation, dev, … too; split off train where there is
            none, and for None (of whole files).
        test: likewise.
        extra: names of further evaluation sets -> likewise.
        format: see `TableForm`, and so are the twelve below.
        text_column: of the text, by name or position from 0; in JSON and Parquet also by the way to
            an inner field, as `data.text`.
        pair_column: of a second text, likewise; None: there is one.
        label_column: see there.
        split_column: see there.
        group_column: see there.
        header: see there.
        quoting: see there.
        encoding: see there.
        delimiter: see there.
        kind: see there.
        separator: see there.
        missing: see there.
        on_alike: see there.
        on_empty: see there.
        val_fraction: share of the training texts for validation, where that is split off.
        test_fraction: share of all texts for the test, where that is split off.
        length_buckets: whether training batches are made of texts of like length.
        draw: see `Draw`.

    Raises:
        ValueError: files or columns are missing, or lines are wrong (all are listed).
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
        header=header,
        on_empty=on_empty,
    )
    splits = {"train": train, "val": val, "test": test, **(extra or {})}
    split_names.check_extra(extra or {})
    files = table_files(path, root, splits)
    texts = {"text_column": text_column, "pair_column": pair_column}
    held = read_tables(files, texts, form, splits=splits, alone=path is not None)
    empty = {"empty": held.empty} if held.empty else {}
    return from_texts(
        {split: _pool(held, split) for split in held.by_split},
        held.labels,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        length_buckets=length_buckets,
        notes={**empty, **unused(path, files)},
    )


def _pool(held: TableItems, split: str) -> Pool:
    places = held.by_split[split]
    items = [held.items[i] for i in places]
    pool = text_pool(
        [item.place for item in items],
        [item.content for item in items],
        [held.targets[i] for i in places],
    )
    return replace(pool, groups=held.groups(split))
