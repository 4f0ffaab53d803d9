"""Texts listed in tables: CSV, TSV, JSON, Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from tlx.data import split_files, split_names
from tlx.data.decoding import check_on_empty
from tlx.data.draw import Division, Draw, Share
from tlx.data.items import Pool
from tlx.data.labels import check_kind, encoded
from tlx.data.listed import quoted
from tlx.data.spelling import MISSING
from tlx.data.splits import Splits
from tlx.data.tables import label_columns
from tlx.data.tables import rows as text_rows
from tlx.data.tables.items import Reading, check_on_alike
from tlx.data.tables.rows import FORMATS, LATE
from tlx.data.tables.separated import Column
from tlx.data.text.texts import from_texts, text_pool

MODALITY = "text"


def text_csv(
    *,
    path: str | None = None,
    root: str | None = None,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    format: Literal["csv", "tsv", "jsonl", "json", "parquet"] | None = None,
    text_column: str | int = "text",
    pair_column: str | int | None = None,
    label_column: str | int | list[str] = "label",
    split_column: str | int | None = "split",
    header: bool | None = None,
    quoting: Literal["standard", "none"] = "standard",
    encoding: str = "utf-8",
    delimiter: str | None = None,
    kind: Literal["single", "multi", "real"] = "single",
    separator: str = "|",
    missing: list[str] | None = None,
    on_alike: Literal["error", "merge", "keep"] = "error",
    on_empty: Literal["error", "skip"] = "error",
    val_fraction: Share = 0.15,
    test_fraction: Share = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Division],
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
        format: of the tables; None: by their ending.
        text_column: of the text, by name or position from 0; in JSON and Parquet also by the way to
            an inner field, as `data.text`.
        pair_column: of a second text, likewise; None: there is one.
        label_column: of the label, likewise; or names of several: of columns of 0 and 1, one a
            class, or for `real` of numbers.
        split_column: with `path`: column that says to which split a line belongs. The table may
            lack a column `split`; None looks at none.
        header: whether CSV and TSV begin with a line of names; None: where a column is named.
        quoting: `none`: quotes are characters as others.
        encoding: of the files; a byte order mark tells UTF-16 and UTF-32.
        delimiter: between fields of CSV and TSV: `comma`, `semicolon`, `tab`, `bar`, or another
            character; None: the usual one, or the only other that gives the columns.
        kind: one class (`single`), any number of labels (`multi`), or numbers (`real`).
        separator: between several labels or numbers; no label at all is an empty field.
        missing: texts that stand for no label, and are refused; None: those of pandas, as `NaN`,
            `NA`, `null`, `None`.
        on_alike: labels that look the same, as 1 and 1.0, or one with a blank that cannot be
            seen: `error` lists them, `merge` takes them as one, `keep` as several.
        on_empty: `error` lists lines without text; `skip` leaves them out.
        val_fraction: share of the training texts for validation, where that is split off.
        test_fraction: share of all texts for the test, where that is split off.
        length_buckets: whether training batches are made of texts of like length.
        draw: see `Draw`.

    Raises:
        ValueError: files or columns are missing, or lines are wrong (all are listed).
    """
    check_kind(kind, separator)
    check_on_empty(on_empty)
    check_on_alike(on_alike)
    labelled = label_columns.listed(label_column)
    texts = {"text_column": text_column, "pair_column": pair_column}
    wanted = [column for column in (*texts.values(), *labelled) if column is not None]
    named = [c for c in (*wanted, split_column) if isinstance(c, str) and c != "split"]
    splits = {"train": train, "val": val, "test": test, **(extra or {})}
    split_names.check_extra(extra or {})
    read = Reading(
        kind,
        separator,
        splits=list(splits),
        cells=splits,
        missing=MISSING if missing is None else missing,
        on_alike=on_alike,
    )
    files = _files(path, root, splits)
    for split, file in files.items():
        table = text_rows.read(
            file,
            format=format,
            header=bool(named) if header is None else header,
            quoting=quoting,
            encoding=encoding,
            delimiter=delimiter,
            wanted=wanted,
            further=[split_column],
        )
        table, label = label_columns.joined(table, labelled, kind)
        columns: dict[str, Column | None] = {**texts, "label_column": label}
        told = True if named else header
        if path is None:
            read.add(table, columns, split=split, header=told)
        else:
            read.add(table, columns, split_column=split_column, header=told)
    read.check(on_empty)
    labels, targets = encoded([item.label for item in read.items], kind, labelled)
    return from_texts(
        _pools(read, targets),
        labels,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        length_buckets=length_buckets,
        notes={**({"empty": read.empty} if read.empty else {}), **_unused(path, files)},
    )


def _pools(read: Reading, targets: Sequence[Any]) -> dict[str, Pool]:
    """The texts of each split."""
    return {
        split: text_pool(
            [read.items[i].place for i in places],
            [read.items[i].content for i in places],
            [targets[i] for i in places],
        )
        for split, places in read.by_split().items()
    }


# -- files ----------------------------------------------------------------------------------


def _files(path: str | None, root: str | None, splits: Mapping[str, str | None]) -> dict[str, Path]:
    """The file of each split; with `path`, that of all as train's.

    Raises:
        ValueError: a file is missing, or several may be meant.
    """
    if (path is None) == (root is None):
        raise ValueError("dataset.path and dataset.root: give one of them")
    if path is not None:
        return {"train": Path(path).expanduser()}
    base = Path(str(root)).expanduser()
    if not base.is_dir():
        raise ValueError(f"dataset.root={str(base)!r} is no folder; give one that exists")
    found: dict[str, Path] = {}
    for split, name in splits.items():
        place = None if name is None else _file(base, name, split=split)
        if place is not None:
            found[split] = place
    wanted = [split for split, name in splits.items() if name == split and split not in found]
    found |= split_files.find(
        base, wanted, endings=FORMATS, usual=split_names.FIRST, used=list(found.values()), late=LATE
    )
    if "train" not in found:
        there = [p.name for p in sorted(base.iterdir()) if p.is_file()]
        raise ValueError(
            f"dataset.train={splits['train']!r} is no table in {base}; there are {quoted(there)}"
        )
    for split, place in found.items():
        if list(found.values()).count(place) > 1:
            raise ValueError(f"dataset.{split}: {place} serves more than one split")
    return {split: found[split] for split in splits if split in found}


def _file(base: Path, name: str, *, split: str) -> Path | None:
    """A file by its name, or by its name without a known ending; None where no name is given.

    Raises:
        ValueError: there is no such file, or there are several.
    """
    if (base / name).is_file():
        return base / name
    if name == split and split in split_names.SPLITS:
        return None
    paths = [p for ending in FORMATS if (p := base / f"{name}{ending}").is_file()]
    paths = [path for path in paths if path.suffix not in LATE] or paths
    if len(paths) > 1:
        raise ValueError(
            f"{base} has {' and '.join(p.name for p in paths)}; name the one that is meant"
        )
    if not paths:
        there = [p.name for p in sorted(base.iterdir()) if p.is_file()]
        raise ValueError(
            f"dataset.{split}={name!r} is no table in {base}; there are {quoted(there)}"
        )
    return paths[0]


def _unused(path: str | None, files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Notes on what lies beside the tables."""
    base = files["train"].parent
    if path is None:
        return split_names.unused(base, split_files.unused(base, list(files.values())))
    hint = f"; dataset.root={base} in place of dataset.path reads one table a split"
    return split_names.unused(base, split_names.beside(files["train"]), hint=hint)
