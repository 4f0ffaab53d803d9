"""Finding every bad image before training, and equal images in different splits."""

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import PIL
from PIL import Image

from tlx.base import cores, durable
from tlx.data.images.near import thumbnail
from tlx.data.images.read import BadImage, load_image

OnBadFile = Literal["error", "skip"]
LOG = logging.getLogger(__name__)
VERSION = f"2-{PIL.__version__}"
"""Of what is remembered: what another Pillow decoded is looked at again."""


@dataclass(frozen=True)
class Scan:
    """What a look at all images gave.

    Attributes:
        keys: hash of each image's pixels, in order; empty text for a bad one.
        bad: position -> reason.
        thumbnails: of `near_images.thumbnail`, in order; empty for a bad one.
    """

    keys: tuple[str, ...]
    bad: dict[int, str]
    thumbnails: tuple[bytes, ...]

    @property
    def good(self) -> list[int]:
        """Positions of the images that can be read."""
        return [i for i in range(len(self.keys)) if i not in self.bad]


def pixel_key(image: Image.Image) -> str:
    """A hash of an image's pixels: equal for equal pixels, whatever the file."""
    head = f"{image.mode} {image.width}x{image.height}:".encode()
    return hashlib.blake2b(head + image.tobytes(), digest_size=16).hexdigest()


def scan(paths: Sequence[Path]) -> Scan:
    """Decodes every file in full, in threads; files that have not changed are not read again.

    What was found is kept in the user's cache folder, by path, size and time.
    """
    stamps, names = [_stamp(path) for path in paths], [str(path.absolute()) for path in paths]
    cache = _cache_file(names) if names else None
    known = _recall(cache) if cache else {}

    def look(position: int) -> tuple[str, bytes, str]:
        found = known.get(names[position])
        if found and stamps[position] and found[0] == stamps[position]:
            return found[1], base64.b64decode(found[2]), ""
        return _seen(lambda: load_image(paths[position]))

    with ThreadPoolExecutor(min(cores.usable(), 8)) as pool:
        found = _scan(list(pool.map(look, range(len(paths)))))
    small = {i: base64.b64encode(found.thumbnails[i]).decode() for i in found.good}
    fresh = {names[i]: (stamps[i], found.keys[i], text) for i, text in small.items()}
    if cache and fresh != known:
        _keep(cache, fresh)
    return found


def scan_each(images: Iterable[Callable[[], Image.Image]]) -> Scan:
    """Loads images one after the other, by functions that may raise BadImage."""
    return _scan([_seen(load) for load in images])


def _seen(load: Callable[[], Image.Image]) -> tuple[str, bytes, str]:
    """Key and thumbnail of an image, or why there are none."""
    try:
        image = load()
        return pixel_key(image), thumbnail(image), ""
    except BadImage as error:
        return "", b"", str(error)


def _scan(seen: Sequence[tuple[str, bytes, str]]) -> Scan:
    return Scan(
        keys=tuple(key for key, _, _ in seen),
        bad={i: reason for i, (_, _, reason) in enumerate(seen) if reason},
        thumbnails=tuple(small for _, small, _ in seen),
    )


def refuse(found: Scan, names: Sequence[str], *, on_bad_file: OnBadFile) -> list[dict[str, str]]:
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
            f"{len(bad)} of {len(names)} images cannot be used:\n{lines}\n"
            "Mend or remove them, or set dataset.on_bad_file=skip to go on without them"
        )
    LOG.warning("left out %d of %d images:\n%s", len(bad), len(names), lines)
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


def _cache_file(names: Sequence[str]) -> Path:
    common = os.path.commonpath(names)
    digest = hashlib.blake2b(f"{VERSION}\0{common}".encode("utf-8", "replace"), digest_size=12)
    return cache_dir() / "images" / f"{digest.hexdigest()}.json"


def _recall(file: Path) -> dict[str, tuple[str, str, str]]:
    """By name: stamp, key and thumbnail of what was seen."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(name): (str(stamp), str(key), str(small))
            for name, (stamp, key, small) in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(file: Path, content: dict[str, tuple[str, str, str]]) -> None:
    """Writes what was seen (a mutator); a folder that cannot be written to is no error."""
    try:
        durable.write(file, json.dumps(content))
    except (OSError, UnicodeEncodeError) as error:
        LOG.info("images will be looked at again next time: %s", error)
