"""Tables as files: Markdown, LaTeX, CSV, Parquet."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlx.base import durable
from tlx.report.formats import Column, Table, text
from tlx.results.stats import Interval

ENDINGS = (".csv", ".md", ".tex", ".parquet")
LONG = 50
"""Rows from which a LaTeX table may break over pages."""


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown."""
    head = [_markdown(column.label) for column in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    body = [
        [_markdown(text(column, value)) for column, value in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, rules, *body)]
    note = f"\n{_markdown(table.note)}\n" if table.note else ""
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + f"\n{note}"


def _markdown(value: str) -> str:
    value = re.sub(r"([\\|`*<]|\](?=\())", r"\\\1", " ".join(value.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", value)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "−": "$-$", "∞": r"$\infty$", "…": r"\ldots{}", "–": "--", "×": r"$\times$", "Δ": r"$\Delta$",
    "≤": r"$\leq$", "≥": r"$\geq$", "±": r"$\pm$", "→": r"$\to$", "·": r"$\cdot$",
}  # fmt: skip


def latex(table: Table, *, label: str) -> str:
    """The table for LaTeX with booktabs; it may break over pages where it is long.

    Args:
        table: what to set.
        label: for references, behind `tab:`.
    """
    layout = "".join("r" if column.numeric else "l" for column in table.columns)
    head = " & ".join(escape_latex(column.label) for column in table.columns) + r" \\"
    body = [
        " & ".join(
            _guarded(escape_latex(text(column, value)))
            for column, value in zip(table.columns, row, strict=True)
        )
        + r" \\"
        for row in table.rows
    ]
    caption = escape_latex(" ".join(f"{table.title}. {table.note}".split()))
    tag = re.sub(r"[^A-Za-z0-9:-]", "-", label)
    if len(table.rows) > LONG:
        lines = [
            "% needs \\usepackage{booktabs,longtable}", rf"\begin{{longtable}}{{{layout}}}",
            rf"\caption{{{caption}}}\label{{tab:{tag}}}\\", r"\toprule", head, r"\midrule",
            r"\endhead", r"\bottomrule", r"\endfoot", *body, r"\end{longtable}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"
    lines = [
        "% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering",
        rf"\caption{{{caption}}}", rf"\label{{tab:{tag}}}", rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def escape_latex(value: str) -> str:
    r"""The text with everything escaped that LaTeX gives a meaning.

    >>> print(escape_latex("lp_ft 50%"))
    lp\_ft 50\%
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(value.split()))


def _guarded(cell: str) -> str:
    return f"{{}}{cell}" if cell.startswith(("[", "*")) else cell  # `\\ [` would take a length


def flat(table: Table) -> tuple[list[str], list[list[object]]]:
    """Names and rows of plain values: an interval takes four columns, a share two."""
    names: list[str] = []
    for column in table.columns:
        ends = _ENDS.get(column.kind, ("",))
        names += [column.key + end for end in ends]
    rows = [
        [item for column, value in zip(table.columns, row, strict=True)
         for item in _flat(column, value)]
        for row in table.rows
    ]  # fmt: skip
    return names, rows


_ENDS = {
    "interval": ("", "_low", "_high", "_n"),
    "delta": ("", "_low", "_high", "_n"),
    "share": ("", "_planned"),
}


def _flat(column: Column, value: object) -> Sequence[object]:
    if isinstance(value, Interval):
        return [value.value, value.low, value.high, value.n]
    if isinstance(value, tuple):
        return value
    return [value] * len(_ENDS.get(column.kind, ("",)))


def write(folder: Path, table: Table, *, study: str) -> list[Path]:
    """Writes a table in every form that is of use and returns the paths.

    Args:
        folder: which is made.
        table: what to write.
        study: for the label in LaTeX.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / table.name
    names, rows = flat(table)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(_csv, names))
    writer.writerows([_csv(item) for item in row] for row in rows)
    texts = {".csv": buffer.getvalue()}
    if table.prose:
        texts[".md"] = markdown(table)
        texts[".tex"] = latex(table, label=f"{study}-{table.name}")
    paths = []
    for ending, content in texts.items():
        path = base.with_name(base.name + ending)
        durable.write(path, content, sync=False)  # written anew by each report
        paths.append(path)
    return [*paths, *_parquet(base.with_name(base.name + ".parquet"), names, rows)]


def remove(folder: Path, names: Iterable[str], *, but: Sequence[Path]) -> None:
    """Deletes what earlier reports wrote of these tables, except some files."""
    written = {name + ending for name in names for ending in ENDINGS}
    for stale in written - {path.name for path in but}:
        (folder / stale).unlink(missing_ok=True)


FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""How texts begin that a spreadsheet would compute instead of show."""


def _csv(value: object) -> object:
    """A cell of a table that people open: texts of the data that begin as a formula get a quote."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").replace("\r", "\n")  # the csv module quotes no \r
        if value.startswith(FORMULA) and not _number(value):
            return f"'{value}"
    return value


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path: Path, names: list[str], rows: list[list[object]]) -> list[Path]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return []
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    arrays = {}
    for name, column in zip(names, columns, strict=True):
        cells = list(column)
        kinds = {type(cell) for cell in cells if cell is not None}
        mixed = kinds not in ({int}, {float}, {str}, {bool}, set()) and not kinds <= {int, float}
        arrays[name] = pyarrow.array(
            [str(c) if mixed and c is not None else c for c in cells],
            type=pyarrow.float64() if kinds == {int, float} else None,
        )
    parquet.write_table(pyarrow.table(arrays), path)
    return [path]
