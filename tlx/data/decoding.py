"""Files as text: decoded, in lines, and with all that is wrong or empty named."""

import codecs
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tlx.data.listed import MAX_SHOWN, quoted, refuse_lines

LOG = logging.getLogger(__name__)
OnEmpty = Literal["error", "skip"]
MARKS = (
    (codecs.BOM_UTF8, ("utf-8", "utf-8-sig")),
    (codecs.BOM_UTF32_LE, ("utf-32", "utf-32-le")),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, ("utf-32", "utf-32-be")),
    (codecs.BOM_UTF16_LE, ("utf-16", "utf-16-le")),
    (codecs.BOM_UTF16_BE, ("utf-16", "utf-16-be")),
)
"""Byte order marks, and names of the encodings that begin with them."""


def check_on_empty(on_empty: str) -> None:
    """Raises a ValueError where it is no choice."""
    if on_empty not in ("error", "skip"):
        raise ValueError(f"dataset.on_empty={on_empty!r}; give error or skip")


def refuse_empty(
    empty: list[str], wrong: list[str], *, on_empty: str, total: int, noun: str = "file"
) -> None:
    """Raises a ValueError that lists what is wrong or without text; warns of what is left out."""
    lines, hint = list(wrong), ""
    if empty and on_empty == "error":
        lines += [f"{name}: no text" for name in empty]
        hint = f"; dataset.on_empty=skip leaves {noun}s without text out"
    elif empty:
        LOG.warning("%d %ss without text are left out: %s", len(empty), noun, quoted(empty))
    refuse_lines(lines, f"{len(lines)} of {total} {noun}s are wrong{hint}")


def decoded(path: Path, encoding: str) -> str:
    """The text of a file, without a byte order mark.

    A mark tells UTF-16 and UTF-32 from UTF-8, where that is what was asked for. Other encodings
    are not guessed: many bytes are right in several of them, and only one has the right letters.

    Raises:
        ValueError: there is no such encoding, or the file is in another one; lines are named.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ValueError(
            f"dataset.encoding={encoding!r} is no encoding that Python knows; give utf-8, "
            "gb18030, latin-1, ..."
        ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    name = _marked(path, content, name)
    try:
        text = content.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        lines = [_line_of(content, error.start, name)]
        if not name.startswith(("utf-16", "utf-32")):
            lines = list(_undecodable(content, name))
        shown = ", ".join(map(str, lines[:MAX_SHOWN])) + (", ..." if len(lines) > MAX_SHOWN else "")
        raise ValueError(
            f"{path} is not in {name}: wrong bytes in line{'s' * (len(lines) > 1)} {shown}; "
            "set dataset.encoding, as gb18030 (Chinese), cp1252 (Western) or shift_jis (Japanese)"
        ) from None
    if text.count("\0") > len(text) // 10:  # ASCII in UTF-16 without a mark is valid UTF-8
        raise ValueError(
            f"{path} is not in {name}: it is full of null characters; set dataset.encoding, as "
            "utf-16-le or utf-16-be"
        )
    if not name.startswith("utf") and _is_utf_8(content):
        LOG.warning("%s is UTF-8 by its bytes, and read as dataset.encoding=%s", path, encoding)
    return text


def _marked(path: Path, content: bytes, name: str) -> str:
    """The encoding that a byte order mark tells; without one, that of this name.

    Raises:
        ValueError: the mark says otherwise than `dataset.encoding`.
    """
    names = next((names for mark, names in MARKS if content.startswith(mark)), None)
    if names is None or name in names:
        return name
    if name == "utf-8":
        LOG.warning("%s is in %s by its byte order mark, and read so", path, names[0])
        return names[0]
    raise ValueError(
        f"{path} is in {names[0]} by its byte order mark, and dataset.encoding={name}; set "
        f"dataset.encoding={names[0]}"
    )


def _is_utf_8(content: bytes) -> bool:
    """Whether bytes are UTF-8, and not only ASCII."""
    try:
        return not content.isascii() and bool(content.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _line_of(content: bytes, place: int, encoding: str) -> int:
    return content[:place].decode(encoding, errors="ignore").count("\n") + 1


def _undecodable(content: bytes, encoding: str) -> Iterator[int]:
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            yield number


def lines_of(text: str) -> list[str]:
    r"""Lines without their ends; only line feeds part them, as editors count.

    Where there are none, carriage returns do, as on old Macs.

    >>> lines_of("a\r\nb\x85c\n"), lines_of("a\rb\r")
    (['a', 'b\x85c'], ['a', 'b'])
    """
    lines = text.split("\n" if "\n" in text else "\r")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
