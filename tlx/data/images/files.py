"""Images in files: looked at before training, read again when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from tlx.data.draw import Draw
from tlx.data.images.assemble import FLIPS, assemble
from tlx.data.images.scan import LOOKS, MEDIUM
from tlx.data.items import Medium, Pool
from tlx.data.listed import Listed
from tlx.data.scan import OnBadFile, read_files
from tlx.data.splits import Labels, Splits


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
        """See `tlx.data.scan.read_files`."""
        return read_files(listed, LOOKS, on_bad_file=self.on_bad_file)

    def splits(
        self, pools: Mapping[str, Pool], labels: Labels, *, draw: Draw, notes: Mapping[str, object]
    ) -> Splits:
        """The splits of a source of images."""
        changing = frozenset() if self.flips else FLIPS
        return assemble(pools, labels, draw=draw, label_changing=changing, notes=notes)
