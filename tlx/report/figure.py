"""Figures as plain data for plotly.js, with colours that follow the page's theme.

A colour is written as a token, `@arm3` or `@arm3/0.2` (with its opacity), `@text`, `@grid`, and
turned into a colour where the page is drawn, light or dark.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlx.report.data import LABELS, StudyView
from tlx.report.numbers import compact, log_ticks, shorten
from tlx.results.stats import Interval

COLOURS = 8
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross")
GLYPHS = dict(zip(SYMBOLS, "●■◆▲✖★▼✚", strict=True))
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_ARMS = 24
"""Arms that one figure draws; above it says which are left out."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One state of a figure.

    Attributes:
        key: a choice for each of the figure's dimensions.
        traces: for plotly.
        layout: for plotly.
        caption: what only this state has to say, n above all.
    """

    key: tuple[str, ...]
    traces: Sequence[Mapping[str, object]]
    layout: Mapping[str, object]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the page.

    Attributes:
        name: of its element.
        title: heading.
        caption: what it shows, and n.
        variants: one at least.
        dims: names of what can be chosen; () for a single variant.
        arms: arms to show or hide, by name; () for none.
        height: pixels.
        wide: narrowest width in which it can be read; it scrolls sideways below.
    """

    name: str
    title: str
    caption: str
    variants: Sequence[Variant]
    dims: tuple[str, ...] = ()
    arms: Sequence[str] = ()
    height: int = 380
    wide: int = 0


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an arm is drawn, all over the page."""

    colour: int
    symbol: str
    dash: str

    def token(self, opacity: float | None = None) -> str:
        """Its colour."""
        return f"@arm{self.colour}" + ("" if opacity is None else f"/{opacity}")

    @property
    def glyph(self) -> str:
        """Its symbol as a character, for legends."""
        return GLYPHS[self.symbol]

    @property
    def marker(self) -> dict[str, object]:
        """For plotly."""
        return {"color": self.token(), "symbol": self.symbol, "size": 8}


def styles(study: StudyView) -> dict[str, Style]:
    """Every arm's style; arms that differ in labels per class only share a colour."""
    key = labels_key(study)
    if key is None:
        return {arm: style(place) for place, arm in enumerate(study.manifest.arms)}
    factors = {run.arm: dict(run.factors) for run in study.manifest.runs}
    levels = [repr(level) for level in study.manifest.factors.get(key, ())]
    series = list(dict.fromkeys(series_of(factors.get(arm, {}), key) for arm in study.arms))
    found = {}
    for arm in study.manifest.arms:
        mine = factors.get(arm, {})
        level = repr(mine.get(key))
        place = levels.index(level) if level in levels else 0
        name = series_of(mine, key)
        colour = series.index(name) % COLOURS if name in series else 0
        found[arm] = Style(
            colour=colour, symbol=SYMBOLS[place % len(SYMBOLS)], dash=DASHES[place % len(DASHES)]
        )
    return found


def style(place: int) -> Style:
    """The style of the arm in a place."""
    turn = place // COLOURS
    return Style(
        colour=place % COLOURS,
        symbol=SYMBOLS[(place + turn) % len(SYMBOLS)],
        dash=DASHES[turn % len(DASHES)],
    )


def labels_key(study: StudyView) -> str | None:
    """The factor that counts labels per class; None where there is none."""
    return next((key for key in study.manifest.factors if key.split(".")[-1] == LABELS), None)


def series_of(factors: Mapping[str, object], left_out: str) -> str:
    """Levels of all factors but one, as one name."""
    return ", ".join(str(value) for key, value in factors.items() if key != left_out) or "all"


def safe(text: object, length: int = 40) -> str:
    """A text for plotly, which reads tags in it: escaped, its middle left out where it is long."""
    return html.escape(shorten(" ".join(str(text).split()), length), quote=False)


def titled(text: str) -> dict[str, object]:
    """An axis with a title."""
    return {"title": {"text": safe(text, 60)}, "automargin": True}


def lines_axis(labels: Sequence[str]) -> dict[str, object]:
    """A vertical axis with a line for each label, the first on top, at n - 1."""
    n = len(labels)
    return {
        "tickvals": [*range(n)][::-1], "ticktext": list(labels), "range": [-0.6, n - 0.4],
        "automargin": True, "fixedrange": True, "zeroline": False,
    }  # fmt: skip


def dumped(figure: Figure) -> str:
    """The figure as JSON that may stand in a page."""
    data = {
        "dims": figure.dims,
        "variants": [
            {"key": v.key, "data": v.traces, "layout": v.layout, "caption": v.caption}
            for v in figure.variants
        ],
    }
    text = json.dumps(lean(data), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def lean(value: object) -> object:
    """The same in plain containers, numbers with five digits, none for what is not finite."""
    if isinstance(value, Mapping):
        return {key: lean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [lean(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def log_axis(title: str, values: Sequence[float]) -> dict[str, object]:
    """A logarithmic axis for positive values, with ticks that can be read."""
    low, high = min(values) / 1.25, max(values) * 1.25
    ticks = log_ticks(low, high)
    return {
        **titled(title), "type": "log", "tickvals": ticks,
        "ticktext": [compact(tick) for tick in ticks],
        "range": [math.log10(low), math.log10(high)],
    }  # fmt: skip


def errors(values: Sequence[Interval]) -> dict[str, object]:
    """Bars of intervals, up and down."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [item.high - item.value for item in values],
        "arrayminus": [item.value - item.low for item in values],
        "thickness": 1.5,
        "width": 4,
    }
