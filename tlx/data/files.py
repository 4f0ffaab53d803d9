"""Images in files: looked at before training, read again when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, final

from PIL import Image

from tlx.data.assemble import FLIPS, Images, assemble
from tlx.data.images import BadImage, load_image
from tlx.data.scan import OnBadFile, refuse, scan
from tlx.data.splits import Labels, Splits
from tlx.data.subset import Draw

MAX_SHOWN = 20
"""Of a list in an error, except for bad images, which are all shown."""


@final
@dataclass(frozen=True)
class ImageFiles:
    """Images by place, read when asked for."""

    paths: Sequence[Path]

    def __call__(self, place: int) -> Image.Image:
        """The image at a place.

        Raises:
            BadImage: the file has changed since it was looked at.
        """
        try:
            return load_image(self.paths[place])
        except BadImage as error:
            raise BadImage(f"{self.paths[place]} {error}") from None


@dataclass(frozen=True)
class Listed:
    """Files of a split before they are looked at: id, path and target of each."""

    ids: Sequence[str]
    paths: Sequence[Path]
    targets: Sequence[Any]


def from_files(
    listed: Mapping[str, Listed],
    labels: Labels,
    *,
    draw: Draw,
    on_bad_file: OnBadFile,
    drop_duplicates: bool,
    flips: bool,
    notes: Mapping[str, Any] | None = None,
) -> Splits:
    """Looks at all files of all splits, so that an error names every bad one, and divides them."""
    if on_bad_file not in ("error", "skip"):
        raise ValueError(f"dataset.on_bad_file={on_bad_file!r}; give error or skip")
    seen = scan([path for files in listed.values() for path in files.paths])
    names = [name for files in listed.values() for name in files.ids]
    bad = refuse(seen, names, on_bad_file=on_bad_file)
    pools, start = {}, 0
    for split, files in listed.items():
        part = slice(start, start + len(files.ids))
        pool = Images(
            files.ids,
            files.targets,
            seen.keys[part],
            ImageFiles(files.paths),
            thumbnails=seen.thumbnails[part],
        )
        pools[split] = pool.without([i for i in range(len(pool)) if start + i in seen.bad])
        start += len(files.ids)
    return assemble(
        pools,
        labels,
        draw=draw,
        drop_duplicates=drop_duplicates,
        label_changing=frozenset() if flips else FLIPS,
        notes={**(notes or {}), **({"quarantined": bad} if bad else {})},
    )


def path_in(base: Path, name: str) -> str:
    r"""A path of a table as it stands, or as Windows means it, where only that is a file.

    Args:
        base: what the path starts from.
        name: the path, as `dogs\rex.jpg` or `dogs/rex.jpg`.
    """
    if "\\" not in name or (base / name).exists():
        return name
    slashes = PureWindowsPath(name).as_posix()
    return slashes if (base / slashes).exists() else name


def quoted(names: Sequence[str]) -> str:
    """Names in quotes, the first of them if there are many."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_SHOWN else ""
    return ", ".join(repr(name) for name in names[:MAX_SHOWN]) + more


def refuse_lines(wrong: Sequence[str], head: str) -> None:
    """Raises a ValueError that lists wrong lines, the first of them if there are many."""
    if wrong:
        more = f"\n  ... ({len(wrong)} in all)" if len(wrong) > MAX_SHOWN else ""
        lines = "\n".join(f"  {text}" for text in wrong[:MAX_SHOWN])
        raise ValueError(f"{head}:\n{lines}{more}")
