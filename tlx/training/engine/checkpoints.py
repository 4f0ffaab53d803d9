"""Checkpoints: written atomically, checked by their content, loaded without unpickling code.

None is ever kept that holds a number which is not finite: training cannot go on from it.

A checkpoint is one file that plain `torch.load(path, weights_only=True)` reads. Its name tells
its tag, its serial number in the folder, its step and the start of its SHA-256:
`last-000012-step0000000840-9f86d081884c7d65.pt`. What does not match its own name is damaged.
The newest is the one with the highest serial number: after a resume from an older step, what is
written then is newer than what it replaces. One process writes to a folder at a time.
"""

import hashlib
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, final

import torch
from torch import Tensor, nn

from tlx.base import disk, durable

logger = logging.getLogger(__name__)

Tag = Literal["last", "best"]
PLAIN = (bool, int, float, str, bytes, type(None))
NAME = re.compile(
    r"(?P<tag>last|best)-(?P<serial>\d{6,})-step(?P<step>\d{10,})-(?P<digest>[0-9a-f]{16})\.pt"
)
TEMPORARY = ".tmp-"


class Payload(TypedDict, total=False):
    """What a checkpoint holds: those tagged `best` network and value, the others all else.

    Attributes:
        network: what may differ from the starting weights, by name.
        value: of the monitored figure.
        identity: what a run that goes on must agree on.
        progress: fields of `Progress`.
        optimizer: its state by parameter name.
        scaler: state of the gradient scaler.
        average: state of averaged weights.
        since_logged: step of the last row of the training log, and sums since.
    """

    network: Mapping[str, Tensor]
    value: float | None
    identity: Mapping[str, str]
    progress: Mapping[str, Any]
    optimizer: Mapping[str, Mapping[str, Any]]
    scaler: dict[str, object] | None
    average: Mapping[str, object] | None
    since_logged: tuple[int, dict[str, Tensor]]


class NotFinite(ValueError):
    """What was to be saved holds a number that is not finite; nothing was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's file, as its name tells it.

    Attributes:
        path: the file.
        tag: `last` or `best`.
        serial: counts all that was saved in the folder.
        step: global step.
        digest: first 16 hex digits of the file's SHA-256.
    """

    path: Path
    tag: str
    serial: int
    step: int
    digest: str


def save(
    folder: Path | str,
    step: int,
    payload: Payload,
    *,
    keep: int = 2,
    tag: Tag = "last",
    unusual: Collection[str] = (),
) -> Path:
    """Writes a checkpoint and removes older ones of its tag; returns its path.

    Whatever happens while it writes (a kill, a full disk), earlier checkpoints stay as they were.

    Args:
        folder: made where it is missing.
        step: global step, 0 or more.
        payload: tensors and plain containers only.
        keep: how many steps of this tag are left, this one included, each once.
        tag: `last` or `best`.
        unusual: names of tensors that may hold infinities.

    Raises:
        NotFinite: a tensor holds something that is not finite.
        TypeError: the payload holds something that safe loading would refuse.
        ValueError: a wrong step, tag or keep.
        DiskError: the disk is full, say.
    """
    if step < 0 or keep < 1 or tag not in ("last", "best"):
        raise ValueError(
            f"step={step}, keep={keep}, tag={tag!r}; "
            "step is 0 or more, keep 1 or more, tag `last` or `best`"
        )
    check_plain(payload, place="payload")
    if (place := not_finite(payload, unusual=unusual)) is not None:
        raise NotFinite(place)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{TEMPORARY}*"):
        stale.unlink(missing_ok=True)  # left by a process that was killed here
    serial = 1 + max((found.serial for found in found_in(folder)), default=0)
    temporary = folder / f"{TEMPORARY}{tag}-{os.getpid()}"
    with disk.writing(folder, needs=lambda: _bytes_of(payload)):
        try:
            digest = _write(temporary, payload)
            path = folder / f"{tag}-{serial:06d}-step{step:010d}-{digest}.pt"
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    durable.sync_folder(folder)
    steps: list[int] = []
    for found in found_in(folder, tag=tag):
        # one of the same step replaces it: a run that is killed again and again between a best and
        # the checkpoint that names it must not crowd out the best that it goes on from
        if found.step in steps or len(steps) == keep:
            found.path.unlink(missing_ok=True)
        else:
            steps.append(found.step)
    return path


def sound(
    folder: Path | str, *, tag: Tag, step: int | None = None, unusual: Collection[str] = ()
) -> Iterator[tuple[Payload, Path]]:
    """The checkpoints of a tag that training can go on from, newest first, on the CPU.

    A file that is damaged, or holds what is not finite, is passed over with a warning, and left
    where it is.

    Args:
        folder: of a run's checkpoints.
        tag: `last` or `best`.
        step: at which they were saved; None: any.
        unusual: as of `save`.
    """
    for found in found_in(folder, tag=tag):
        if step not in (None, found.step):
            continue
        digest = _digest(found.path)
        if digest != found.digest:
            logger.warning(
                "checkpoint %s is damaged (its content has SHA-256 %s…): the one before is used",
                found.path,
                digest,
            )
            continue
        payload = load(found.path)
        if (place := not_finite(payload, unusual=unusual)) is not None:
            logger.warning(
                "checkpoint %s is not finite in %s: the one before is used", found.path, place
            )
            continue
        yield payload, found.path


def load_step(folder: Path | str, step: int | None, *, tag: Tag) -> Payload:
    """The newest checkpoint of the tag that was saved at a step.

    Raises:
        FileNotFoundError: there is none, or it is damaged.
    """
    for found in found_in(folder, tag=tag):
        if found.step == step and _digest(found.path) == found.digest:
            return load(found.path)
    raise FileNotFoundError(
        f"no undamaged checkpoint «{tag}» of step {step} in {folder}; the same command trains anew "
        "what it needs"
    )


def load(path: Path | str) -> Payload:
    """What one file holds, on the CPU. Never runs code from it."""
    payload: Payload = torch.load(path, map_location="cpu", weights_only=True)
    return payload


def found_in(folder: Path | str, *, tag: Tag | None = None) -> list[Checkpoint]:
    """The checkpoints of a folder, newest first, undamaged or not."""
    found = []
    for path in Path(folder).glob("*.pt"):
        match = NAME.fullmatch(path.name)
        if match and tag in (None, match["tag"]):
            serial, step = int(match["serial"]), int(match["step"])
            found.append(Checkpoint(path, match["tag"], serial, step, match["digest"]))
    return sorted(found, key=lambda checkpoint: -checkpoint.serial)


def check_plain(value: object, *, place: str) -> None:
    """Raises TypeError, with the place, at whatever is neither a tensor nor a plain container.

    Exact types count: a NumPy number is a `float` too, but safe loading refuses it.
    """
    if type(value) in (*PLAIN, Tensor, nn.Parameter):
        return
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"{place}: key {key!r} is neither str nor int")
            check_plain(item, place=f"{place}[{key!r}]")
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, place=f"{place}[{index}]")
    else:
        raise TypeError(
            f"{place} is of type {type(value).__module__}.{type(value).__qualname__}; "
            "a checkpoint holds tensors, dict, list, tuple, str, bytes, int, float, bool and None "
            "(convert by `.item()`, `.tolist()`, `torch.from_numpy()` or `dict()`)"
        )


def not_finite(value: object, *, unusual: Collection[str] = (), place: str = "") -> str | None:
    """The place of the first tensor that holds NaN or an infinity; None where all are finite.

    Extremes are looked at, which takes one pass and no memory: a sixth of the time of a hash.

    Args:
        value: tensors in plain containers.
        unusual: names of tensors that are not looked at.
        place: of the value.

    >>> not_finite({"network": {"weight": torch.tensor([0.0, torch.nan])}, "step": 1})
    'network.weight'
    """
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items() if key not in unusual]
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    elif isinstance(value, Tensor) and value.numel() and value.is_floating_point():
        wide = value.float() if value.element_size() == 1 else value
        low, high = wide.detach().aminmax()  # which are NaN where one is
        return None if bool(low.isfinite() & high.isfinite()) else place
    else:
        return None
    within = f"{place}." if place else ""
    found = (not_finite(item, unusual=unusual, place=within + key) for key, item in items)
    return next((each for each in found if each is not None), None)


@final
class _HashingFile:
    """A file that hashes what is written; an OSError is kept until `close`.

    torch's writer, interrupted by an exception, hides it behind one of its own.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        if self._error is None:
            self._hash.update(view)
            try:
                rest = view
                while rest:
                    rest = rest[_write_some(self._file.fileno(), rest) :]
            except OSError as error:
                self._error = error
        return len(view)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> str:
        """Syncs and closes; returns the digest, or raises what went wrong."""
        try:
            if self._error is not None:
                raise self._error
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        return self._hash.hexdigest()[:16]


def _bytes_of(value: object) -> int:
    """Of the tensors in a part of a payload; all else is small."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    return sum(map(_bytes_of, value)) if isinstance(value, (list, tuple)) else 0


def _write(path: Path, payload: Payload) -> str:
    file = _HashingFile(path)
    try:
        torch.save(payload, file)  # type: ignore[arg-type]
    except BaseException:
        file._file.close()
        raise
    return file.close()


def _write_some(descriptor: int, data: memoryview) -> int:
    return os.write(descriptor, data)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
