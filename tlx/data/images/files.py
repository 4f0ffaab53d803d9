"""Images in files: looked at before training, read again when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from PIL import Image

from tlx.data.draw import Draw
from tlx.data.images.assemble import FLIPS, MEDIUM, assemble, image_pool
from tlx.data.images.read import BadImage, load_image
from tlx.data.images.scan import OnBadFile, refuse, scan
from tlx.data.items import Medium, Pool
from tlx.data.listed import Listed
from tlx.data.splits import Labels, Splits


@final
@dataclass(frozen=True)
class OpenedImages:
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


@final
@dataclass(frozen=True)
class ImageFiles:
    """Reads images, see `tlx.data.files.FileReader`.

    Attributes:
        on_bad_file: `error` lists all images that cannot be read; `skip` leaves them out.
        flips: whether a mirrored image keeps its label.
    """

    on_bad_file: OnBadFile = "error"
    flips: bool = True
    medium: Medium = MEDIUM

    def read(self, listed: Mapping[str, Listed]) -> tuple[dict[str, Pool], dict[str, object]]:
        """Looks at all files of all splits, so that an error names every bad one."""
        if self.on_bad_file not in ("error", "skip"):
            raise ValueError(f"dataset.on_bad_file={self.on_bad_file!r}; give error or skip")
        seen = scan([path for files in listed.values() for path in files.paths])
        names = [name for files in listed.values() for name in files.ids]
        bad = refuse(seen, names, on_bad_file=self.on_bad_file)
        pools, start = {}, 0
        for split, files in listed.items():
            part = slice(start, start + len(files.ids))
            pool = image_pool(
                files.ids,
                files.targets,
                seen.keys[part],
                OpenedImages(files.paths),
                thumbnails=seen.thumbnails[part],
            )
            pool = replace(pool, groups=files.groups)
            pools[split] = pool.without([i for i in range(len(pool)) if start + i in seen.bad])
            start += len(files.ids)
        return pools, {"quarantined": bad} if bad else {}

    def splits(
        self, pools: Mapping[str, Pool], labels: Labels, *, draw: Draw, notes: Mapping[str, object]
    ) -> Splits:
        """The splits of a source of images."""
        changing = frozenset() if self.flips else FLIPS
        return assemble(pools, labels, draw=draw, label_changing=changing, notes=notes)
