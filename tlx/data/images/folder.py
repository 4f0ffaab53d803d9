"""Images in folders: one for each class, and above these one for each split."""

from pathlib import Path
from typing import Literal

from tlx.data import tree
from tlx.data.draw import Draw
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
        labels_per_class: training images of each class; as many to validate on.
        fraction: of the training images instead.
        limit_val: whether validation is limited likewise.
        protocol: `vtab1k`: 800 images to train, 200 to validate.
        on_bad_file: `error` lists all images that cannot be read; `skip` leaves them out.
        drop_duplicates: remove from train what is in another split, pixel by pixel.
        flips: whether a mirrored image keeps its label.
        seed: of the few-shot draw.
        split_seed: of the split into train, val and test.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad images.
    """
    base = Path(root).expanduser()
    splits = {"train": train, "val": val, "test": test}
    listed, names, notes = tree.listing(base, splits, extra or {}, endings=EXTENSIONS, noun="image")
    return from_files(
        listed,
        Labels("single", names),
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
        notes=notes,
    )
