"""Heatmaps of classes, with a name a cell."""

from collections.abc import Sequence

from tlx.report.figure import safe

MOST_CLASSES = 50
"""Classes that one heatmap draws."""


def heatmap(
    rows: Sequence[object], x: Sequence[str], y: Sequence[str], name: str
) -> dict[str, object]:
    """A trace of rows of numbers; `name` is what a number is."""
    trace: dict[str, object] = {
        "type": "heatmap", "z": rows, "x": [*range(len(x))], "y": [*range(len(y))],
        "colorscale": "@scale", "xgap": 1, "ygap": 1,
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11}},
        "hovertemplate": f"%{{y}}<br>class %{{x}}<br>{safe(name)} %{{z:.3f}}<extra></extra>",
    }  # fmt: skip
    if len(x) <= 14:
        trace["texttemplate"] = "%{z:.2f}"
    return trace


def square(x: Sequence[str], y: Sequence[str]) -> dict[str, dict[str, object]]:
    """Axes with a name a cell; numbers stand below, since shortened names may coincide."""
    across = {"tickvals": [*range(len(x))], "ticktext": list(x), "range": [-0.5, len(x) - 0.5]}
    down = {"tickvals": [*range(len(y))], "ticktext": list(y), "range": [len(y) - 0.5, -0.5]}
    axis = {"showgrid": False, "automargin": True}
    return {"xaxis": {**axis, **across}, "yaxis": {**axis, **down}}
