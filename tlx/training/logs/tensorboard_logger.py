"""TensorBoard event files in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from pytorch_lightning.utilities import rank_zero_only

from tlx.training.logs.run_logger import RunInfo, RunLogger

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
        self._writer: Any = None
        self._purge_step: int | None = None
        self._step = 0

    @property
    def experiment(self) -> Any:
        """The SummaryWriter; None on other ranks."""
        self._start()
        return self._writer

    @rank_zero_only
    def resume(self, step: int | None) -> None:
        """Hides what was logged after this step; everything for None."""
        self._purge_step = 0 if step is None else step + 1

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds scalars."""
        self._step = self._step if step is None else step
        for name, value in metrics.items():
            self.experiment.add_scalar(name, float(value), self._step)

    @rank_zero_only
    def log_images(
        self,
        key: str,
        images: Sequence[Any],
        captions: Sequence[str] | None = None,
        *,
        step: int | None = None,
    ) -> None:
        """Shows images (PIL, or uint8 arrays [H, W, 3]); the captions as a list below."""
        at = self._step if step is None else step
        for index, image in enumerate(images):
            pixels = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
            self.experiment.add_image(f"{key}/{index}", pixels, at, dataformats="HWC")
        if captions is not None:
            lines = "\n".join(f"{index}. {text}" for index, text in enumerate(captions))
            self.experiment.add_text(f"{key}/captions", lines, at)

    @rank_zero_only
    def log_confusion(
        self,
        key: str,
        matrix: Sequence[Sequence[int]],
        names: Sequence[str],
        *,
        step: int | None = None,
    ) -> None:
        """Shows a confusion matrix as a grey picture, rows normalised, and as a table."""
        counts = np.asarray(matrix, dtype=np.float64)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        side = max(1, 256 // len(counts))
        pixels = np.kron((255 * (1 - shares)).astype(np.uint8), np.ones((side, side), np.uint8))
        at = self._step if step is None else step
        self.experiment.add_image(key, pixels, at, dataformats="HW")
        head = ["| |" + "|".join(names) + "|", "|-" * (len(names) + 1) + "|"]
        lines = [
            f"|**{name}**|" + "|".join(str(int(count)) for count in row) + "|"
            for name, row in zip(names, matrix, strict=True)
        ]
        self.experiment.add_text(f"{key}/counts", "\n".join(head + lines), at)

    @rank_zero_only
    def log_summary(self, figures: Mapping[str, Any]) -> None:
        """Adds final numbers as scalars at the last step."""
        for name, value in figures.items():
            if isinstance(value, (int, float)):
                self.experiment.add_scalar(f"summary/{name}", float(value), self._step)

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

    @rank_zero_only
    def _start(self) -> None:
        if self._writer is None:
            folder = str(Path(self.run.dir) / FOLDER)
            self._writer = self._open(folder, purge_step=self._purge_step, flush_secs=FLUSH_S)
            self._purge_step = None
