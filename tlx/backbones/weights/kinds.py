"""What a weights file is, by its first bytes: names of files say anything (`.th`, `.pth.tar`)."""

import re
import zipfile
from pathlib import Path

SAFETENSORS, TORCH = "safetensors", "torch"
ZIP = b"PK\x03\x04"
HEAD_BYTES = 512
"""Enough for a tar archive's mark, which stands at byte 257."""
FOREIGN = (
    (re.compile(rb"\s*$"), "is empty"),
    (
        re.compile(rb"version https://git-lfs"),
        "is a pointer of Git LFS, not the weights: `git lfs pull` fetches them",
    ),
    (
        re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE),
        "is a page of the web, not weights: the download went wrong",
    ),
    (re.compile(rb"\x89HDF\r\n"), "is HDF5 (Keras)"),
    (re.compile(rb"GGUF"), "is GGUF (llama.cpp)"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"), "is compressed: unpack it first"),
    (re.compile(rb"\x93NUMPY"), "is an array of NumPy"),
    (re.compile(rb".{257}ustar", re.DOTALL), "is a tar archive: unpack it first"),
    (re.compile(rb"\s*[\[{]"), "is JSON; give the file of weights itself"),
)
"""Beginnings of files that hold no weights that torch reads, and what is said of them."""


def kind_of(path: Path) -> str:
    """What a file is: `safetensors`, `torch`, or empty for anything else.

    A file that is named `.safetensors` and begins otherwise is a broken one of these.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header <= path.stat().st_size - 8:
        return SAFETENSORS
    if start[:4] == ZIP:
        return "" if _told_of_archive(path) else TORCH
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return TORCH
    return SAFETENSORS if path.suffix == ".safetensors" and not _told(start) else ""


def refusal(path: Path) -> str:
    """Why a file holds no weights that can be read here; empty where it may."""
    if kind_of(path):
        return ""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
    what = _told_of_archive(path) if start[:4] == ZIP else _told(start)
    what = what or f"is neither safetensors nor of torch: it begins with {start[:8]!r}"
    return f"{path} {what}. Weights are read from files of safetensors and of torch.save"


def _told(start: bytes) -> str:
    return next((said for pattern, said in FOREIGN if pattern.match(start)), "")


def _told_of_archive(path: Path) -> str:
    """What is said of a zip file that is not torch's; empty where it may be."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return ""  # a broken one, which its reader tells of
    if names and all(name.endswith(".npy") for name in names):
        return "is of NumPy (.npz)"
    if any("/code/" in name for name in names):
        return (
            "is a program of TorchScript, with its code: torch.jit.load it where you trust it, and "
            "torch.save its state_dict()"
        )
    return ""
