"""What the disk refuses: which file, what it needed, and what is free there."""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "it is larger than files may be here",
    errno.EIO: "the disk reports an error",
    errno.EROFS: "the file system may only be read",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
}
"""Of errors that tell of the disk rather than of a mistake."""

OF_WRITING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
"""Those that reading never gives."""

_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How safetensors, whose errors are no OSError, tells the number of one."""


class DiskError(OSError):
    """A file that could not be written, with its path and the bytes that were needed and free."""

    def __str__(self) -> str:
        """The words alone, without the error's number."""
        return str(self.strerror)


@contextlib.contextmanager
def writing(path: Path, *, needs: int | Callable[[], int] | None = None) -> Iterator[None]:
    """Has errors of the disk name the file that is written inside.

    Args:
        path: of the file, not of the temporary one that becomes it.
        needs: bytes, counted only where they do not fit; None: unknown.

    Raises:
        DiskError: the disk refused it.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        if (number := _number(error)) not in REASONS:
            raise
        needed = needs() if callable(needs) else needs
        raise DiskError(number, told(path, number, needed=needed)) from error


def explained(error: BaseException, folder: Path) -> BaseException:
    """The error, or one that says what the disk refused in a folder where it does not itself."""
    number = None if isinstance(error, DiskError) else _number(error)
    if number not in OF_WRITING:
        return error
    named = getattr(error, "filename", None)
    more = DiskError(number, told(Path(named) if named else folder, number))
    more.__cause__ = error
    return more


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Has errors of the disk name the folder that is written to, where they name no file.

    Raises:
        DiskError: the disk refused something.
    """
    try:
        yield
    except OSError as error:
        if (words := explained(error, folder)) is error:
            raise
        raise words from error


def told(path: Path, number: int, *, needed: int | None = None) -> str:
    """One line on a refusal.

    Args:
        path: what could not be written.
        number: of the error.
        needed: bytes.
    """
    wanted = "" if needed is None else f", {_size(needed)} needed"
    return f"{path} could not be written: {REASONS[number]}{wanted}{_free(path)}"


def _free(path: Path) -> str:
    there = next((p for p in (path, *path.parents) if p.is_dir()), None)
    if there is None:
        return ""
    try:
        usage = shutil.disk_usage(there)
    except OSError:
        return ""
    return f", {_size(usage.free)} of {_size(usage.total)} free in {there}"


def _size(count: int) -> str:
    return f"{count:,} bytes"


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    if type(error).__name__ == "SafetensorError" and (found := _IN_TEXT.search(str(error))):
        return int(found[1])
    return None
