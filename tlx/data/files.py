"""Files that are an item each: listed by folders or tables, read as their modality reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tlx.data import tree
from tlx.data.draw import Draw
from tlx.data.items import Medium, Pool
from tlx.data.listed import Listed
from tlx.data.splits import Labels, Splits


class FileReader(Protocol):
    """How a modality reads its files."""

    @property
    def medium(self) -> Medium:
        """What an item is."""

    def read(self, listed: Mapping[str, Listed]) -> tuple[dict[str, Pool], Mapping[str, object]]:
        """The items of each split's files, and notes on files that are left out.

        Raises:
            ValueError: files are bad; all of them are named.
        """

    def splits(
        self, pools: Mapping[str, Pool], labels: Labels, *, draw: Draw, notes: Mapping[str, object]
    ) -> Splits:
        """The splits of a source, see `tlx.data.divide.divide`."""


def from_files(
    reader: FileReader,
    listed: Mapping[str, Listed],
    labels: Labels,
    *,
    draw: Draw,
    notes: Mapping[str, object],
) -> Splits:
    """The splits of files that are listed with their targets.

    Args:
        reader: of the modality.
        listed: files of each split.
        labels: what their targets are.
        draw: how to divide what is not divided yet, and how much of it to keep.
        notes: of the source, for the record.

    Raises:
        ValueError: files are bad, or do not fit together.
    """
    pools, left_out = reader.read(listed)
    return reader.splits(pools, labels, draw=draw, notes={**notes, **left_out})


def from_folders(
    reader: FileReader,
    root: str,
    splits: Mapping[str, str | None],
    extra: Mapping[str, str] | None,
    *,
    endings: frozenset[str] | None,
    draw: Draw,
) -> Splits:
    """The splits of a tree: root/train/<class>/..., or root/<class>/... where nothing is divided.

    Any depth below a class; files whose names begin with a dot are left out. Without a folder for
    test or val, these are split off, every class at its own share. Ids are paths below root.

    Args:
        reader: of the modality.
        root: the folder.
        splits: train, val and test -> folder below root; None: split off train.
        extra: names of further evaluation sets -> their folders, below root or absolute.
        endings: of files that are items, in small letters; None: all files are.
        draw: how to divide what is not divided yet, and how much of it to keep.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad files.
    """
    base = Path(root).expanduser()
    listed, names, notes = tree.listing(
        base, splits, extra or {}, endings=endings, medium=reader.medium
    )
    return from_files(reader, listed, Labels("single", names), draw=draw, notes=notes)
