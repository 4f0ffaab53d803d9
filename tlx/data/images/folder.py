"""Images in folders: one for each class, and above these one for each split."""

from typing import Unpack

from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.files import from_folders
from tlx.data.images.files import ImageFiles
from tlx.data.images.read import EXTENSIONS
from tlx.data.scan import OnBadFile
from tlx.data.splits import Splits

MODALITY = "image"
PATHS = {
    "root": "folder of classes",
    "train": "folder below root",
    "val": "folder below root",
    "test": "folder below root",
    "extra": "folder below root",
}


def image_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    on_bad_file: OnBadFile = "error",
    flips: bool = True,
    **draw: Unpack[Dividing],
) -> Splits:
    """A tree of images: root/train/<class>/..., or root/<class>/... where nothing is divided.

    See `from_folders`.

    Args:
        root: the folder.
        train: folder below root.
        val: likewise; split off train where there is none, and for None.
        test: likewise.
        extra: names of further evaluation sets -> their folders, below root or absolute.
        val_fraction: share of the training images for validation, where that is split off.
        test_fraction: share of all images for the test, where that is split off.
        on_bad_file: `error` lists all images that cannot be read; `skip` leaves them out.
        flips: whether a mirrored image keeps its label.
        draw: see `Draw`.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad images.
    """
    return from_folders(
        ImageFiles(on_bad_file, flips),
        root,
        {"train": train, "val": val, "test": test},
        extra,
        endings=EXTENSIONS,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
    )
