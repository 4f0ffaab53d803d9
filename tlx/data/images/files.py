"""Images in files: looked at before training, read again when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from PIL import Image

from tlx.data.draw import Draw
from tlx.data.images.assemble import FLIPS, assemble, image_pool
from tlx.data.images.read import BadImage, load_image
from tlx.data.images.scan import OnBadFile, refuse, scan
from tlx.data.listed import Listed
from tlx.data.splits import Labels, Splits


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


def from_files(
    listed: Mapping[str, Listed],
    labels: Labels,
    *,
    draw: Draw,
    on_bad_file: OnBadFile,
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
        pool = image_pool(
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
        label_changing=frozenset() if flips else FLIPS,
        notes={**(notes or {}), **({"quarantined": bad} if bad else {})},
    )
