"""The page: one file that needs nothing else."""

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tlx.base import durable
from tlx.report import factors, formats, sections
from tlx.report.data import StudyView
from tlx.report.figure import Figure, dumped, styles
from tlx.report.formats import Table
from tlx.report.numbers import finite
from tlx.results.stats import Interval

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class HtmlCell:
    """A cell as the template draws it.

    Attributes:
        text: its value.
        detail: small print behind it.
        sort: what it is sorted by; None sorts last.
        kind: of its column.
        cls: its class in the style sheet.
        under: what other columns set under it.
    """

    text: str
    detail: str
    sort: float | str | None
    kind: str
    cls: str
    under: "Sequence[HtmlCell]" = ()


def write(path: Path, study: StudyView, tables: Mapping[str, Table]) -> Path:
    """Writes the page, atomically; returns its path.

    Args:
        path: of the page.
        study: read.
        tables: by name.
    """
    durable.write(path, rendered(study, tables), sync=False)  # each report writes it anew
    return path


def rendered(study: StudyView, tables: Mapping[str, Table]) -> str:
    """The page as one text."""
    import jinja2  # slow to import
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(rows=rows, dumped=lambda figure: Markup(dumped(figure)))
    parts = sections.sections(study, tables)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    theme = (TEMPLATES / "theme.js").read_text(encoding="utf-8").strip()
    drawn = any(isinstance(item, Figure) for part in parts for item in part.items)
    packed, library = plotly() if drawn else ("", "")
    return environment.get_template("page.html").render(
        study=study,
        head=sections.head(study),
        parts=parts,
        styles={**factors.series_styles(study), **styles(study)},
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        theme=Markup(theme),
        packed=Markup(packed),
        hashes=" ".join(_hash(text) for text in (theme, f"\n{script}", library) if text),
    )


def rows(table: Table, most: int) -> list[list[HtmlCell]]:
    """The first `most` rows as cells, one a column that is under no other."""
    best = [_best(table, place) for place in range(len(table.columns))]
    found = [
        [
            _cell(column, value, first is not None and value is first)
            for column, value, first in zip(table.columns, row, best, strict=True)
        ]
        for row in table.rows[:most]
    ]
    return [_folded(table, row) for row in found]


def _folded(table: Table, row: Sequence[HtmlCell]) -> list[HtmlCell]:
    """A row whose cells have those under them that belong there; empty ones are left out.

    A number says what it is, as it has no heading of its own.
    """
    if not any(column.under for column in table.columns):
        return list(row)
    under: dict[str, list[HtmlCell]] = {}
    for column, cell in zip(table.columns, row, strict=True):
        if column.under and cell.sort is not None:
            text = f"{column.label.lower()} {cell.text}" if column.numeric else cell.text
            under.setdefault(column.under, []).append(replace(cell, text=text))
    return [
        replace(cell, under=under.get(column.key, ()))
        for column, cell in zip(table.columns, row, strict=True)
        if not column.under
    ]


def _best(table: Table, place: int) -> Interval | None:
    """The best value of a column of intervals; None where none is to stand out."""
    better = table.columns[place].better
    there = [row[place] for row in table.rows] if better else []
    intervals = [item for item in there if isinstance(item, Interval) and finite(item.value)]
    best = max if better == "max" else min
    return best(intervals, key=lambda item: item.value, default=None)


def _cell(column: formats.Column, value: object, best: bool) -> HtmlCell:
    text, detail = formats.parts(column, value)
    if column.kind in ("interval", "delta"):
        cls = "right stack best" if best else "right stack"
    elif column.numeric:
        cls = "right"
    else:
        cls = "prose" if len(text) > 48 and column.kind == "text" else _WRAPPED.get(column.kind, "")
    sort = formats.sort_key(value)
    return HtmlCell(text=text, detail=detail, sort=sort, kind=column.kind, cls=cls)


_WRAPPED = {"passage": "prose passage", "code": "id", "line": "line", "command": "line"}


@cache
def plotly() -> tuple[str, str]:
    """plotly.js, gzipped in base64 (a third of its size), and as it is."""
    from plotly.offline import get_plotlyjs  # slow to import

    text: str = get_plotlyjs()
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode(), text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
