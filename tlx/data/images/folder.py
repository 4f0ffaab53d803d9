"""Images in folders: one for each class, and above these one for each split."""

from pathlib import Path
from typing import Literal, Unpack

from tlx.data import tree
from tlx.data.draw import Division, Draw, Share
from tlx.data.images.assemble import IMAGES
from tlx.data.images.files import from_files
from tlx.data.images.read import EXTENSIONS
from tlx.data.splits import Labels, Splits


def image_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    val_fraction: Share = 0.15,
    test_fraction: Share = 0.15,
    on_bad_file: Literal["error", "skip"] = "error",
    flips: bool = True,
    **draw: Unpack[Division],
) -> Splits:
    """A tree of images: root/train/<class>/..., or root/<class>/... where nothing is divided.

    Any depth below a class; files whose names begin with a dot are left out. Without a folder for
    test or val, these are split off, every class at its own share. Ids are paths below root.

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
    base = Path(root).expanduser()
    splits = {"train": train, "val": val, "test": test}
    listed, names, notes = tree.listing(
        base, splits, extra or {}, endings=EXTENSIONS, medium=IMAGES
    )
    return from_files(
        listed,
        Labels("single", names),
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
        on_bad_file=on_bad_file,
        flips=flips,
        notes=notes,
    )
