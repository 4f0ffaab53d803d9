"""What a name may be that becomes a part of a path: of a study, a run, an evaluation set.

A name that a person chooses now has to be one on every system that the files may be copied to. A
name that is read from a file, as of a study that is shared, need only stay in its folder: what an
earlier tlx allowed is read still.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

LONGEST_BYTES = 100
"""Far below what file systems allow, 255, for names get endings and beginnings."""

FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
"""In names of files, on one system or another."""

RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices of Windows, whatever the ending."""

UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of characters that are not seen: controls, directions, halves of others."""

JOINERS = "\u200c\u200d"
"""Unseen too, but a part of words of Persian and Hindi, and of emoji."""


def fault(name: str) -> str | None:
    """What is wrong with a name that somebody chooses; None: nothing.

    >>> fault("night_photos"), fault("..")
    (None, 'begins with a dot')
    """
    if not name:
        return "is empty"
    if found := FORBIDDEN.search(name):
        return f"has {found[0]!r} in it"
    if unseen := [c for c in name if unicodedata.category(c) in UNSEEN and c not in JOINERS]:
        return f"has {unseen[0]!r} in it, which is not seen"
    if name[0] in ".-":
        return f"begins with a {'dot' if name[0] == '.' else 'dash, as options do'}"
    if name.strip() != name or name[-1] == ".":
        return "begins or ends with a space, or ends with a dot"
    if RESERVED.fullmatch(name):
        return "is a device's on Windows"
    if len(name.encode()) > LONGEST_BYTES:
        return f"is longer than {LONGEST_BYTES} bytes"
    return None


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that would be one file where case, or the way to write an accent, counts not."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def stays_inside(name: object) -> bool:
    """Whether a name that was read from a file names something in its folder, and no other place.

    >>> stays_inside("run-1"), stays_inside("../victim"), stays_inside("")
    (True, False, False)
    """
    return (
        isinstance(name, str)
        and name not in {"", ".", ".."}
        and not any(c in name for c in "/\\\0")
        and len(name.encode("utf-8", "surrogatepass")) <= 255
    )


def is_link(path: Path, *, within: Path) -> bool:
    """Whether a path in a folder leads out of it, or to another place in it, through a link."""
    inside = path.relative_to(within)
    return path.resolve() != within.resolve() / inside
