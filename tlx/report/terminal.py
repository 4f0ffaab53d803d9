"""The report as text for the terminal."""

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlx.report import data, formats, tables, tables_runs, trials
from tlx.report.data import Study
from tlx.report.formats import Table

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 60
MOST_TRIALS = 10
MARKS = {"held": "✓", "not held": "✗", "undecided": "?"}
STYLES = {"held": "green", "not held": "red", "undecided": "yellow"}
SILENT = ("missing", "running")


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


def of_study(study: Study, width: int, *, colour: bool = False) -> str:
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
    if study.trouble:
        console.print(Text(study.trouble, style="red"))
    for verdict in study.verdicts:
        mark = Text(f"{MARKS.get(verdict.status, '?')} ", style=STYLES.get(verdict.status, ""))
        console.print(Text.assemble(mark, f"{verdict.claim}: ", verdict.sentence))
    problems = tables_runs.problems(study)
    if problems is not None:
        _problems(console, problems)
    lines = (line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
    return "\n".join(lines) + "\n"


def counts(study: Study) -> str:
    """How many runs there are, and how they ended, in a line."""
    found: dict[str, int] = {}
    for record in study.records.values():
        found[record.status] = found.get(record.status, 0) + 1
    found["missing"] = len(study.missing)
    found["unreadable"] = len(study.problems)
    parts = [f"{n:,} {status}" for status, n in found.items() if n]
    return f"{study.manifest.study}: {len(study.manifest.runs):,} runs, {', '.join(parts)}"


def _print(console: "Console", table: Table, most: int = MOST_ROWS) -> None:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    title = Text(table.title, style="bold")
    drawn = Drawn(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in table.columns:
        right = column.numeric and column.kind != "value"
        drawn.add_column(
            Text(column.label), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    shown = _leading(table, most)
    for row in shown.rows:
        cells = zip(table.columns, row, strict=True)
        drawn.add_row(*(Text(formats.text(column, value)) for column, value in cells))
    console.print(drawn)
    left = len(table.rows) - len(shown.rows)
    if left > 0:
        console.print(Text(f"… and {left:,} more rows: tables/{table.name}.csv"))
    console.print(Text(table.note, style="dim"))
    console.print()


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
    found: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in table.rows]
    loud = [line for line in found if line["status"] not in SILENT]
    for line in loud[:MOST_ROWS]:
        status = (f"{line['status']} ", "red")
        console.print(Text.assemble(status, f"{line['run']}: {line['reason']}"))
    if len(loud) > MOST_ROWS:
        console.print(Text(f"… and {len(loud) - MOST_ROWS:,} more: tables/problems.csv"))
    for quiet in SILENT:
        n = sum(line["status"] == quiet for line in found)
        if n:
            console.print(Text(f"{n:,} run{'' if n == 1 else 's'} {quiet}"))
