"""Finding every bad file before training, and what tells equal and near items, in one look."""

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from tlx.base import cores, durable
from tlx.data.items import LazyInputs, Medium, Pool
from tlx.data.listed import Listed
from tlx.data.splits import Unreadable

OnBadFile = Literal["error", "skip"]
LOG = logging.getLogger(__name__)
MENDABLE = frozenset({ENOENT, EACCES, EISDIR, ENOTDIR, ENAMETOOLONG, ELOOP})


@final
@dataclass(frozen=True)
class Looks:
    """How a modality looks at its files.

    Attributes:
        medium: what an item is.
        load: a file -> its item; raises Unreadable.
        seen: an item -> its key, equal for equal contents, and the mark by which near copies are
            found; raises Unreadable.
        version: of what is remembered: what another decoder read is looked at again.
    """

    medium: Medium
    load: Callable[[Path], Any]
    seen: Callable[[Any], tuple[str, bytes]]
    version: str


@dataclass(frozen=True)
class Scan:
    """What a look at all items gave.

    Attributes:
        keys: of each item, in order; empty text for a bad one.
        bad: position -> reason.
        marks: in order; empty for a bad one.
    """

    keys: tuple[str, ...]
    bad: dict[int, str]
    marks: tuple[bytes, ...]

    @property
    def good(self) -> list[int]:
        """Positions of the items that can be read."""
        return [i for i in range(len(self.keys)) if i not in self.bad]


@final
@dataclass(frozen=True)
class OpenedFiles:
    """Items by place, read when asked for."""

    paths: Sequence[Path]
    load: Callable[[Path], Any]

    def __call__(self, place: int) -> Any:
        """The item at a place.

        Raises:
            Unreadable: the file has changed since it was looked at.
        """
        try:
            return self.load(self.paths[place])
        except Unreadable as error:
            raise type(error)(f"{self.paths[place]} {error}") from None


def read_files(
    listed: Mapping[str, Listed], looks: Looks, *, on_bad_file: OnBadFile
) -> tuple[dict[str, Pool], dict[str, object]]:
    """The items of each split's files, all looked at, so that an error names every bad one.

    See `tlx.data.files.FileReader.read`.
    """
    if on_bad_file not in ("error", "skip"):
        raise ValueError(f"dataset.on_bad_file={on_bad_file!r}; give error or skip")
    found = scan([path for files in listed.values() for path in files.paths], looks)
    names = [name for files in listed.values() for name in files.ids]
    bad = refuse(found, names, on_bad_file=on_bad_file, noun=looks.medium.noun)
    pools, start = {}, 0
    for split, files in listed.items():
        part = slice(start, start + len(files.ids))
        keys = found.keys[part]
        load = OpenedFiles(files.paths, looks.load)
        inputs = LazyInputs(load, range(len(keys)), keys.__getitem__)
        pool = Pool(files.ids, files.targets, keys, inputs, marks=found.marks[part])
        pool = replace(pool, groups=files.groups)
        pools[split] = pool.without([i for i in range(len(pool)) if start + i in found.bad])
        start += len(files.ids)
    return pools, {"quarantined": bad} if bad else {}


def to_predict(paths: Sequence[Path], load: Callable[[Path], Any]) -> Pool:
    """Files as items without targets, read when asked for; a bad one raises Unreadable then."""
    inputs = LazyInputs(partial(_loaded, paths, load), range(len(paths)), lambda place: "")
    return Pool([str(path) for path in paths], [None] * len(paths), [""] * len(paths), inputs)


def _loaded(paths: Sequence[Path], load: Callable[[Path], Any], place: int) -> Any:
    return load(paths[place])


def content_of(source: str | Path | bytes, bad: type[Unreadable]) -> bytes:
    """The bytes of a file, at least one.

    Args:
        source: the file, or its bytes.
        bad: what is raised where the file is at fault.

    Raises:
        OSError: the system failed (too many open files, an unreachable disk), not the file.
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        raise bad(f"cannot be opened: {error.strerror}") from None
    if not data:
        raise bad("is empty (0 bytes)")
    return data


def scan(paths: Sequence[Path], looks: Looks) -> Scan:
    """Decodes every file in full, in threads; files that have not changed are not read again.

    What was found is kept in the user's cache folder, by path, size and time.
    """
    stamps, names = [_stamp(path) for path in paths], [str(path.absolute()) for path in paths]
    cache = _cache_file(names, looks) if names else None
    known = _recall(cache) if cache else {}

    def look(position: int) -> tuple[str, bytes, str]:
        found = known.get(names[position])
        if found and stamps[position] and found[0] == stamps[position]:
            return found[1], base64.b64decode(found[2]), ""
        return _seen(partial(looks.load, paths[position]), looks)

    with ThreadPoolExecutor(min(cores.usable(), 8)) as pool:
        found = _scan(list(pool.map(look, range(len(paths)))))
    small = {i: base64.b64encode(found.marks[i]).decode() for i in found.good}
    fresh = {names[i]: (stamps[i], found.keys[i], text) for i, text in small.items()}
    if cache and fresh != known:
        _keep(cache, fresh, looks.medium.noun)
    return found


def scan_each(loads: Iterable[Callable[[], Any]], looks: Looks) -> Scan:
    """Loads items one after the other, by functions that may raise Unreadable."""
    return _scan([_seen(load, looks) for load in loads])


def _seen(load: Callable[[], Any], looks: Looks) -> tuple[str, bytes, str]:
    """Key and mark of an item, or why there are none."""
    try:
        key, mark = looks.seen(load())
        return key, mark, ""
    except Unreadable as error:
        return "", b"", str(error)


def _scan(seen: Sequence[tuple[str, bytes, str]]) -> Scan:
    return Scan(
        keys=tuple(key for key, _, _ in seen),
        bad={i: reason for i, (_, _, reason) in enumerate(seen) if reason},
        marks=tuple(mark for _, mark, _ in seen),
    )


def refuse(
    found: Scan, names: Sequence[str], *, on_bad_file: OnBadFile, noun: str
) -> list[dict[str, str]]:
    """What is set aside, as id and reason.

    Raises:
        ValueError: there are bad files, and `on_bad_file` is `error`; it lists them all.
    """
    bad = [{"id": names[i], "reason": reason} for i, reason in found.bad.items()]
    if not bad:
        return []
    lines = "\n".join(f"  {entry['id']} {entry['reason']}" for entry in bad)
    if on_bad_file == "error":
        raise ValueError(
            f"{len(bad)} of {len(names)} {noun}s cannot be used:\n{lines}\n"
            "Mend or remove them, or set dataset.on_bad_file=skip to go on without them"
        )
    LOG.warning("left out %d of %d %ss:\n%s", len(bad), len(names), noun, lines)
    return bad


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def cache_dir() -> Path:
    """The user's cache folder for tlx."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tlx"


def _cache_file(names: Sequence[str], looks: Looks) -> Path:
    common = os.path.commonpath(names)
    digest = hashlib.blake2b(
        f"{looks.version}\0{common}".encode("utf-8", "replace"), digest_size=12
    )
    return cache_dir() / f"{looks.medium.noun}s" / f"{digest.hexdigest()}.json"


def _recall(file: Path) -> dict[str, tuple[str, str, str]]:
    """By name: stamp, key and mark of what was seen."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(name): (str(stamp), str(key), str(small))
            for name, (stamp, key, small) in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(file: Path, content: dict[str, tuple[str, str, str]], noun: str) -> None:
    """Writes what was seen (a mutator); a folder that cannot be written to is no error."""
    try:
        durable.write(file, json.dumps(content))
    except (OSError, UnicodeEncodeError) as error:
        LOG.info("%ss will be looked at again next time: %s", noun, error)
