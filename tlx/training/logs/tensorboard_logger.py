"""TensorBoard event files in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from pytorch_lightning.utilities import rank_zero_only

from tlx.base.shown import Making, Matrix, Pictures
from tlx.training.logs.run_logger import RunInfo, RunLogger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
FLUSH_S = 10


@final
class TensorboardLogger(RunLogger):
    """Writes `tensorboard/` in the run's folder; a restart hides the steps that it repeats."""

    def __init__(self, run: RunInfo) -> None:
        """Keeps the run; the event file is opened with what is logged first.

        Raises:
            ModuleNotFoundError: the package tensorboard is missing.
        """
        super().__init__(run)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(
                "logger=tensorboard needs the package tensorboard: "
                "`pip install tensorboard`, or leave it out (logger=[csv])"
            ) from error
        self._open = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None
        self._step = 0

    @property
    def experiment(self) -> "SummaryWriter | None":
        """The SummaryWriter; None on other ranks."""
        return rank_zero_only(self._opened)()

    @rank_zero_only
    def resume(self, step: int | None) -> None:
        """Hides what was logged after this step; everything for None."""
        self._purge_step = 0 if step is None else step + 1

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds scalars."""
        self._step = self._step if step is None else step
        for name, value in metrics.items():
            self._opened().add_scalar(name, float(value), self._step)

    @rank_zero_only
    def log_view(self, key: str, make: Making, *, step: int | None = None) -> None:
        """Shows pictures one by one, a matrix as a grey picture too, and tables as text."""
        at, shown = self._step if step is None else step, make()
        if isinstance(shown, Pictures):
            self._pictures(key, shown, at)
        elif isinstance(shown, Matrix):
            self._matrix(key, shown, at)
        elif shown is not None:
            self._opened().add_text(key, _table(shown.columns, shown.rows), at)

    def _pictures(self, key: str, shown: Pictures, at: int) -> None:
        for index, image in enumerate(shown.images):
            pixels = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
            self._opened().add_image(f"{key}/{index}", pixels, at, dataformats="HWC")
        lines = "\n".join(f"{index}. {text}" for index, text in enumerate(shown.captions))
        self._opened().add_text(f"{key}/captions", lines, at)

    def _matrix(self, key: str, shown: Matrix, at: int) -> None:
        counts = np.asarray(shown.counts, dtype=np.float64)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        side = max(1, 256 // len(counts))
        pixels = np.kron((255 * (1 - shares)).astype(np.uint8), np.ones((side, side), np.uint8))
        self._opened().add_image(key, pixels, at, dataformats="HW")
        named = zip(shown.names, shown.counts, strict=True)
        rows = [[f"**{name}**", *(int(count) for count in row)] for name, row in named]
        self._opened().add_text(f"{key}/counts", _table([" ", *shown.names], rows), at)

    @rank_zero_only
    def log_summary(self, figures: Mapping[str, object]) -> None:
        """Adds final numbers as scalars at the last step."""
        for name, value in figures.items():
            if isinstance(value, (int, float)):
                self._opened().add_scalar(f"summary/{name}", float(value), self._step)

    def save(self) -> None:
        """Flushes."""
        if self._writer is not None:
            self._writer.flush()

    @rank_zero_only
    def finish(self, status: str) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self) -> "SummaryWriter":
        if self._writer is None:
            folder = str(Path(self.run.dir) / FOLDER)
            self._writer = self._open(folder, purge_step=self._purge_step, flush_secs=FLUSH_S)
            self._purge_step = None
        return self._writer


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    head = [columns, ["-"] * len(columns)]
    return "\n".join(f"|{'|'.join(map(str, line))}|" for line in [*head, *rows])
