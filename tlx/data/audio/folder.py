"""Recordings in folders: one for each class, and above these one for each split."""

from typing import Unpack

from tlx.data.audio.files import SoundFiles
from tlx.data.audio.read import EXTENSIONS
from tlx.data.draw import Dividing, Draw, Portion
from tlx.data.files import from_folders
from tlx.data.scan import OnBadFile
from tlx.data.splits import Splits

MODALITY = "audio"
PATHS = {
    "root": "folder of classes",
    "train": "folder below root",
    "val": "folder below root",
    "test": "folder below root",
    "extra": "folder below root",
}


def audio_folder(
    *,
    root: str,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    extra: dict[str, str] | None = None,
    val_fraction: Portion = 0.15,
    test_fraction: Portion = 0.15,
    on_bad_file: OnBadFile = "error",
    **draw: Unpack[Dividing],
) -> Splits:
    """A tree of recordings: root/train/<class>/..., or root/<class>/... where nothing is divided.

    See `from_folders`. WAV, FLAC, OGG, Opus, MP3, AIFF, AU, CAF; M4A, WebM, AAC, WMA.

    Args:
        root: the folder.
        train: folder below root.
        val: likewise; split off train where there is none, and for None.
        test: likewise.
        extra: names of further evaluation sets -> their folders, below root or absolute.
        val_fraction: share of the training recordings for validation, where that is split off.
        test_fraction: share of all recordings for the test, where that is split off.
        on_bad_file: `error` lists all recordings that cannot be read (broken, cut short, empty,
            silent, …); `skip` leaves them out.
        draw: see `Draw`; `group_pattern` keeps a speaker's files on one side.

    Raises:
        ValueError: no folders of classes, different classes in the splits, or bad recordings.
    """
    return from_folders(
        SoundFiles(on_bad_file),
        root,
        {"train": train, "val": val, "test": test},
        extra,
        endings=EXTENSIONS,
        draw=Draw(val_fraction=val_fraction, test_fraction=test_fraction, **draw),
    )
