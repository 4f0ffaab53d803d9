"""metrics.csv: one row a step, appended at once, never duplicated or lost."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from pytorch_lightning.utilities import rank_zero_only

from tlx.base import disk, durable
from tlx.training.logs.run_logger import RunInfo, RunLogger

FILE = "metrics.csv"
STEP = "step"
Row = dict[str, str]


@final
class CsvLogger(RunLogger):
    """Writes `metrics.csv`: `step`, then one column a metric in the order of appearance.

    Rows go to the file by one system call, so that a killed process leaves whole rows. A
    new column, or a figure logged again for the same step, rewrites the file through a rename.
    """

    def __init__(self, run: RunInfo) -> None:
        """Keeps the path; the file is opened with the first row."""
        super().__init__(run)
        self.path = Path(run.dir) / FILE
        self._columns: list[str] | None = None  # None: not read yet
        self._last: Row = {}
        self._last_at = 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds figures to the row of this global step."""
        if step is None:
            raise ValueError("step=None; metrics.csv is keyed by the global step, pass it")
        self.log_rows([(step, metrics)])

    @rank_zero_only
    def log_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Adds figures to the rows of several steps, in ascending order, by one system call."""
        made = _merged(rows)
        if not made:
            return
        if self._columns is None:
            self.resume(int(made[0][STEP]))
        assert self._columns is not None
        again = self._last.get(STEP) == made[0][STEP]
        new = dict.fromkeys(name for row in made for name in row if name not in self._columns)
        repeated = again and any(self._last.get(name) for name in made[0] if name != STEP)
        at = self._last_at if again else self._size()
        if again:
            made[0] = self._last | made[0]
        if new or repeated:
            self._columns += new
            before = self._read()
            self._replace([*(before[:-1] if again else before), *made], durably=bool(before))
            return
        # A row only ever gains cells here, hence grows: overwriting it leaves no remainder.
        lines = [self._line(row) for row in made]
        self._last, self._last_at = made[-1], at + sum(map(len, lines[:-1]))
        self._write_at(b"".join(lines), at)

    @rank_zero_only
    def resume(self, step: int | None) -> None:
        """Drops rows after this step (all of them for None), and half a row left by a crash."""
        self._columns = [STEP]
        rows = [] if step is None else self._read()
        by_step: dict[int, Row] = {}
        for row in rows:
            at = int(row[STEP])
            if step is not None and at <= step:
                by_step[at] = by_step.get(at, {}) | {k: v for k, v in row.items() if v}
        kept = list(by_step.values())
        names = [name for row in kept for name in row]
        self._columns = list(dict.fromkeys([STEP, *names]))
        self._replace(kept, durably=bool(kept))

    def _read(self) -> list[Row]:
        if not self.path.exists():
            return []
        text = self.path.read_bytes().decode("utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]  # what a crash cut off has no end of line
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
        return [row for row in rows if (row.get(STEP) or "").isdigit() and None not in row]

    def _replace(self, rows: list[Row], *, durably: bool) -> None:
        """Rewrites the file; durably where rows that it holds are rewritten."""
        lines = [self._line({name: name for name in self._columns or ()})]
        lines += [self._line(row) for row in rows]
        durable.write(self.path, b"".join(lines), sync=durably)
        self._last = {name: text for name, text in rows[-1].items() if text} if rows else {}
        self._last_at = self._size() - len(lines[-1])

    def _line(self, row: Row) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(
            [row.get(c, "") for c in self._columns or ()]
        )
        return text.getvalue().encode()

    def _size(self) -> int:
        return self.path.stat().st_size

    def _write_at(self, data: bytes, offset: int) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            with disk.writing(self.path, needs=len(data)):
                written = os.pwrite(descriptor, data, offset)
                if written < len(data):  # the rest says why
                    os.pwrite(descriptor, data[written:], offset + written)
        finally:
            os.close(descriptor)


def _merged(rows: Sequence[tuple[int, Mapping[str, float]]]) -> list[Row]:
    """Rows as text, those of one step as one."""
    made: list[Row] = []
    for step, metrics in rows:
        row = {STEP: str(step), **{name: repr(float(value)) for name, value in metrics.items()}}
        if made and made[-1][STEP] == row[STEP]:
            made[-1] |= row
        else:
            made.append(row)
    return made
