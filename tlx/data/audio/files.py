"""Recordings in files: looked at before training, read again when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from tlx.data.audio.inputs import AUDIO
from tlx.data.audio.scan import LOOKS, MEDIUM
from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.items import Medium, Pool
from tlx.data.listed import Listed
from tlx.data.scan import OnBadFile, read_files
from tlx.data.splits import Labels, Splits


@final
@dataclass(frozen=True)
class SoundFiles:
    """Reads recordings, see `tlx.data.files.FileReader`.

    Attributes:
        on_bad_file: `error` lists all recordings that cannot be read; `skip` leaves them out.
    """

    on_bad_file: OnBadFile = "error"
    medium: Medium = MEDIUM

    def read(self, listed: Mapping[str, Listed]) -> tuple[dict[str, Pool], dict[str, object]]:
        """See `tlx.data.scan.read_files`."""
        return read_files(listed, LOOKS, on_bad_file=self.on_bad_file)

    def splits(
        self, pools: Mapping[str, Pool], labels: Labels, *, draw: Draw, notes: Mapping[str, object]
    ) -> Splits:
        """The splits of a source of recordings."""
        return divide(pools, labels, draw=draw, medium=MEDIUM, inputs=AUDIO, notes=notes)
