"""Showing progress: a live bar in a terminal, plain lines in a log file."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tlx.base import durable


@dataclass(kw_only=True, eq=False)
class Display:
    """What a person sees while a run trains; silent on ranks other than 0.

    Attributes:
        total_steps: of the run.
        stages: their names.
        metric: that selection looks at.
        silent: say nothing.
        file: where others read how far the run is.
        every_s: seconds between looks that they need.
    """

    total_steps: int
    stages: Sequence[str]
    metric: str
    silent: bool = False
    file: Path | None = None
    every_s: float = 0.0

    def __post_init__(self) -> None:
        """Shows nothing yet."""
        self.told = -math.inf
        self.started = time.monotonic()
        self.first_step: int | None = None
        self.first_at = self.started
        self.value: float | None = None
        self.latest: dict[str, float] = {}
        self.bar: Progress | None = None
        self.stage = 0

    def __enter__(self) -> "Display":
        """Starts the bar where there is a terminal."""
        if not self.silent and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("training", total=self.total_steps, figures="")
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def line(self, text: str) -> None:
        """One line of text."""
        if self.silent:
            return
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        else:
            print(text, flush=True)

    def trained(self, step: int, stage: int, row: Mapping[str, float]) -> None:
        """Takes note of a row of the training log."""
        self.latest = {
            "loss": row.get("train/loss", float("nan")),
            "samples/s": row.get("train/samples_per_s", 0.0),
        }
        self.stage = stage
        self._tell(step)
        if self.bar is not None:
            name = self.stages[stage]
            figures = f"loss {self.latest['loss']:.3f}"
            self.bar.update(self.task, completed=step, description=name, figures=figures)

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows a validation: one line, with the training figures since the last."""
        width = len(str(self.total_steps))
        self.value = value = metrics[self.metric]
        self._tell(step)
        self.line(
            f"step {step:>{width}}/{self.total_steps}  "
            f"stage {self.stage + 1}/{len(self.stages)} {self.stages[self.stage]}  "
            f"loss {self.latest.get('loss', float('nan')):.4f}  "
            f"val/{self.metric} {value:.4f}  "
            f"{self.latest.get('samples/s', 0.0):.0f} samples/s  "
            f"{time.monotonic() - self.started:.0f} s"
        )

    def _tell(self, step: int) -> None:
        """Replaces the file that says how far the run is; no reader sees a part of it."""
        if self.first_step is None:
            self.first_step, self.first_at = step, time.monotonic()
        if self.file is None or time.monotonic() - self.told < self.every_s:
            return
        self.told = time.monotonic()
        text = json.dumps(
            {
                "step": step,
                "total": self.total_steps,
                "stage": self.stage,
                "stages": self.stages,
                "metric": f"val/{self.metric}",
                "value": self.value,
                "seconds": time.monotonic() - self.first_at,
                "since_step": self.first_step,
            }
        )
        durable.write(self.file, text, sync=False)  # of no use after a power cut
