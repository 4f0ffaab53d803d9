"""Texts in folders: one for each class, and above these one for each split."""

from pathlib import Path
from typing import Literal, Unpack

from tlx.data import tree
from tlx.data.draw import Division, Draw, Share
from tlx.data.splits import Labels, Splits
from tlx.data.text.files import read
from tlx.data.text.texts import TEXTS, from_texts

MODALITY = "text"


def text_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    ending: str | None = ".txt",
    encoding: str = "utf-8",
    on_empty: Literal["error", "skip"] = "error",
    val_fraction: Share = 0.15,
    test_fraction: Share = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Division],
) -> Splits:
    """A tree of texts: root/train/<class>/..., or root/<class>/... where nothing is divided.

    Any depth below a class; files whose names begin with a dot are left out. Without a folder for
    test or val, these are split off, every class at its own share. Ids are paths below root.

    Args:
        root: the folder.
        train: folder below root.
        val: likewise; split off train where there is none, and for None.
        test: likewise.
        extra: names of further evaluation sets -> their folders, below root or absolute.
        ending: of files that are texts; None: all files are.
        encoding: of the files.
        on_empty: `error` lists files without text; `skip` leaves them out.
        val_fraction: share of the training texts for validation, where that is split off.
        test_fraction: share of all texts for the test, where that is split off.
        length_buckets: whether training batches are made of texts of like length.
        draw: see `Draw`.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad files (all are
            listed).
    """
    splits = {"train": train, "val": val, "test": test}
    endings = None if ending is None else {ending.lower()}
    base = Path(root).expanduser()
    listed, names, notes = tree.listing(base, splits, extra or {}, endings=endings, medium=TEXTS)
    pools, empty = read(listed, encoding=encoding, on_empty=on_empty)
    return from_texts(
        pools,
        Labels("single", names),
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        length_buckets=length_buckets,
        notes={**notes, **({"empty": empty} if empty else {})},
    )
