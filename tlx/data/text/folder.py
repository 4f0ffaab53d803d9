"""Texts in folders: one for each class, and above these one for each split."""

from typing import Unpack

from tlx.data.decoding import OnEmpty
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.files import from_folders
from tlx.data.splits import Splits
from tlx.data.text.files import TextFiles

MODALITY = "text"
PATHS = {
    "root": "folder of classes",
    "train": "folder below root",
    "val": "folder below root",
    "test": "folder below root",
    "extra": "folder below root",
}


def text_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    ending: str | None = ".txt",
    encoding: str = "utf-8",
    on_empty: OnEmpty = "error",
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    length_buckets: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """A tree of texts: root/train/<class>/..., or root/<class>/... where nothing is divided.

    See `from_folders`.

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
    return from_folders(
        TextFiles(encoding, on_empty, length_buckets),
        root,
        {"train": train, "val": val, "test": test},
        extra,
        endings=None if ending is None else frozenset({ending.lower()}),
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
    )
