"""Files that outlive a power cut: written beside, synced, renamed, and their folder synced.

What a rename alone makes whole for readers may still be empty, or zeros, on the disk: after a
power cut there is what was synced. Who writes several files at once has each written with
`sync=False`, all of them synced together by `sync`, which waits for the disk about once, and only
then writes the file that says that they are there.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tlx.base import disk

TEMPORARY = ".tmp"
"""How names of files end that are not yet whole."""

_NO_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
"""What some network file systems answer where a folder is to be synced: theirs always are."""

_count = itertools.count()


def write(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Replaces a file: a reader, or a kill, meets the old content or the new, never a part.

    Args:
        path: of the file; its folder is made where it is missing.
        content: text is written as UTF-8, its line ends as they are.
        sync: whether it is on disk on return; if not, `sync` has to see to it.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, needs=len(data), sync=sync) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, *, needs: int | None = None, sync: bool = True) -> Iterator[Path]:
    """Gives an empty file to be written to, which then replaces another, or is removed.

    Whoever writes to it, its permissions are those that the person's umask leaves.

    Args:
        path: of the file to be replaced; its folder is made where it is missing.
        needs: bytes, for the message where they do not fit; None: unknown.
        sync: as in `write`.

    Raises:
        DiskError: the disk is full, say.
    """
    # of several threads and processes each has its own; hidden, as nobody is to take it for a file
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}{TEMPORARY}")
    with disk.writing(path, needs=needs):
        make_folder(path.parent)
        try:
            with open(temporary, "xb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
            yield temporary
            if temporary.stat().st_mode & 0o777 != mode:
                temporary.chmod(mode)  # safetensors makes it the owner's alone
            if sync:
                sync_file(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if sync:
            sync_folder(path.parent)


def sync(paths: Iterable[Path]) -> None:
    """Returns when files are on disk, and in their folders: written once, they stay."""
    files = list(paths)
    for path in files:
        sync_file(path)
    for folder in dict.fromkeys(path.parent for path in files):
        sync_folder(folder)


def sync_file(path: Path) -> None:
    """Returns when the content of a file is on disk, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on disk: what was made, renamed and removed in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; each that is new is on disk in the one above it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
