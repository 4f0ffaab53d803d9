"""The report as text for the terminal."""

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tlx.report import data, formats, kept_stages, reuse, tables, tables_runs, trials
from tlx.report.data import StudyView
from tlx.report.formats import Column, Table
from tlx.report.numbers import counted
from tlx.results import wording
from tlx.results.verdict import UNDECIDED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn

MOST_ROWS = 60
MOST_TRIALS = 10
MARKS = {"held": "✓", "not held": "✗", "undecided": "?"}
STYLES = {"held": "green", "not held": "red", "undecided": "yellow"}
SILENT = ("missing", "running")
FIRST_TO_GO = ("sd", "p_holm", "status")
"""Columns that a narrow terminal does without before any other."""


def text(
    study_folder: Path | str, *, runs_dir: Path | str, width: int = 100, colour: bool = False
) -> str:
    """Tables of every evaluation split, verdicts, and what went wrong.

    Args:
        study_folder: with the manifest.
        runs_dir: where runs live.
        width: of the terminal.
        colour: whether to write colours for one.

    Raises:
        ManifestError: there is no manifest, or it is broken.
    """
    return of_study(data.read(Path(study_folder), runs_dir=Path(runs_dir)), width, colour=colour)


def of_study(study: StudyView, width: int, *, colour: bool = False) -> str:
    """The same of a study that is read already."""
    from rich.console import Console
    from rich.text import Text

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    if study.manifest.question:
        console.print(Text(study.manifest.question, style="bold"))
    console.print(Text(counts(study)))
    found = trials.table(study)
    if found is not None:
        _print(console, found, MOST_TRIALS)
    for split in study.splits:
        _print(console, tables.main(study, split=split))
    for line in (reuse.line(study), kept_stages.line(study)):
        if line:
            console.print(Text(line))
            console.print()
    if study.trouble:
        console.print(Text(study.trouble, style="red"))
    for verdict in study.verdicts:
        mark = Text(f"{MARKS.get(verdict.status, '?')} ", style=STYLES.get(verdict.status, ""))
        console.print(Text.assemble(mark, f"{verdict.claim}: ", verdict.sentence))
    if any(verdict.status == UNDECIDED for verdict in study.verdicts):
        console.print(Text(wording.looks(study.manifest), style="dim"))
    problems = tables_runs.problems(study)
    if problems is not None:
        _problems(console, problems)
    lines = (line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
    return "\n".join(lines) + "\n"


def counts(study: StudyView) -> str:
    """How many runs there are, and how they ended, in a line."""
    parts = [f"{n:,} {status}" for status, n in study.statuses.items()]
    return f"{study.manifest.study}: {counted(len(study.manifest.runs), 'run')}, {', '.join(parts)}"


def _print(console: "Console", table: Table, most: int = MOST_ROWS) -> None:
    from rich.text import Text

    shown = _leading(table, most)
    drawn, left_out = _fitted(shown, width=console.width)
    console.print(drawn)
    left = len(table.rows) - len(shown.rows)
    if left > 0:
        console.print(Text(f"… and {counted(left, 'more row')}: tables/{table.name}.csv"))
    if left_out:
        names = ", ".join(left_out)
        console.print(Text(f"Too wide for here: {names}; see tables/{table.name}.csv"))
    console.print(Text(table.note, style="dim"))
    console.print()


def _fitted(table: Table, *, width: int) -> tuple["Drawn", list[str]]:
    """The table no wider than the terminal, and labels of the columns that it lost for that.

    First the tuned candidate moves onto a line of its own under the arm; then columns go.
    """
    if _narrowest(table) > width:
        table = _folded(table)
    left_out: list[str] = []
    for key in [*FIRST_TO_GO, *(column.key for column in reversed(table.columns[2:]))]:
        place = next((i for i, column in enumerate(table.columns) if column.key == key), None)
        if place is not None and _narrowest(table) > width:
            left_out.append(table.columns[place].label)
            table = _without(table, place)
    return _drawn(table, width=width), left_out


def _drawn(table: Table, *, width: int) -> "Drawn":
    """The table for rich; what is left of the width goes to the first columns that need it."""
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    title = Text(table.title, style="bold")
    drawn = Drawn(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    spare = width - _narrowest(table)
    for place, column in enumerate(table.columns):
        least, most = _widths(table, place)
        more = max(0, min(spare, most - least))
        spare -= more
        drawn.add_column(
            Text(column.label),
            justify="right" if _right(column) else "left",
            overflow="fold",
            width=least + more if spare >= 0 else None,
        )
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        drawn.add_row(*(Text(formats.text(column, value)) for column, value in cells))
    return drawn


def _narrowest(table: Table) -> int:
    """Characters it needs: of its columns, three between two of them, one at each end."""
    columns = range(len(table.columns))
    return sum(_widths(table, place)[0] for place in columns) + 3 * (len(columns) - 1) + 2


def _widths(table: Table, place: int) -> tuple[int, int]:
    """Characters of a column's longest word, or number, and of its longest line."""
    from rich.cells import cell_len

    column = table.columns[place]
    texts = [formats.text(column, row[place]) for row in table.rows]
    lines = [line for text in (column.label, *texts) for line in text.split("\n")]
    whole = texts if _right(column) else []
    words = [word for line in lines for word in line.split()]
    least = max(map(cell_len, [*words, *whole]), default=1)
    return least, max(map(cell_len, lines), default=1)


def _right(column: Column) -> bool:
    return column.numeric and column.kind != "value"


def _folded(table: Table) -> Table:
    """The tuned candidate under the arm instead of beside it."""
    place = next((i for i, column in enumerate(table.columns) if column.kind == "tuned"), None)
    if place is None:
        return table
    tuned = table.columns[place]
    rows = [
        [f"{row[0]}\n  {formats.text(tuned, row[place])}" if row[place] else row[0], *row[1:]]
        for row in table.rows
    ]
    return _without(replace(table, rows=rows), place)


def _without(table: Table, place: int) -> Table:
    columns = [column for i, column in enumerate(table.columns) if i != place]
    rows = [[cell for i, cell in enumerate(row) if i != place] for row in table.rows]
    return replace(table, columns=columns, rows=rows)


def _leading(table: Table, most: int) -> Table:
    """The first rows; of trials those that are best come first."""
    names = [column.key for column in table.columns]
    rows = list(table.rows)
    if "best" in names and len(rows) > most:
        rows.sort(key=lambda row: not row[names.index("best")])
    return replace(table, rows=rows[:most])


def _problems(console: "Console", table: Table) -> None:
    from rich.text import Text

    names = [column.key for column in table.columns]
    found: list[dict[str, object]] = [dict(zip(names, row, strict=True)) for row in table.rows]
    loud = [line for line in found if line["status"] not in SILENT]
    for line in loud[:MOST_ROWS]:
        status = (f"{line['status']} ", "red")
        console.print(Text.assemble(status, f"{line['run']}: {line['reason']}"))
    if len(loud) > MOST_ROWS:
        console.print(Text(f"… and {len(loud) - MOST_ROWS:,} more: tables/problems.csv"))
    for quiet in SILENT:
        n = sum(line["status"] == quiet for line in found)
        if n:
            console.print(Text(f"{counted(n, 'run')} {quiet}"))
