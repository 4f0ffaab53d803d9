"""Figures of a search: parallel coordinates, progress, Pareto front, importances."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlx.report import trials
from tlx.report.data import MANY_RUNS, StudyView
from tlx.report.figure import Figure, Variant, log_axis, safe, titled
from tlx.report.numbers import compact, counted, finite, plain
from tlx.report.trials import TrialView, short

SHADES = 6
DECADE = 10
"""Ratio of the ends from which on an axis is logarithmic."""
MOST_TICKS, CLOSEST = 6, 0.05
"""Values that get a tick each, and how near ticks may lie, as a share of the axis."""


def figures(study: StudyView) -> tuple[list[Figure], str]:
    """All figures of a search, and a sentence on what is left out."""
    items = trials.trials(study)
    whole = [item for item in items if item.whole]
    if not whole:
        return [], ""
    goals = trials.objectives(study)
    found = [parallel(whole, goals), progress(whole, goals)]
    if len(goals) == 2:
        found.append(pareto(whole, trials.best(study, items), goals))
    name, shares, why = trials.importances(study)
    if shares:
        found.append(_importances(name, shares))
    return found, why


def parallel(items: Sequence[TrialView], goals: Mapping[str, str]) -> Figure:
    """A line a trial through its parameters and objectives, a variant an objective's shades."""
    shown, note = _fewer(items)
    names = trials.keys(shown)
    axes = [_axis(name, [item.params.get(name) for item in shown]) for name in names]
    axes += [
        _axis(goal, [item.values[place] for item in shown]) for place, goal in enumerate(goals)
    ]
    variants = [
        Variant(key=(goal,), traces=_lines(shown, axes, place, mode), layout=_layout(axes),
                caption=note)
        for place, (goal, mode) in enumerate(goals.items())
    ]  # fmt: skip
    return Figure(
        name="parallel",
        title="Parallel coordinates",
        caption=(
            "A line a trial; the strongest shade is the best sixth in the chosen objective. "
            f"n = {counted(len(shown), 'finished trial')}."
        ),
        variants=variants,
        dims=("Shade by",),
        height=420,
        wide=130 * len(axes),
    )


@dataclass(frozen=True)
class Upright:
    """A vertical axis: where each value lies on it, between 0 and 1, and its ticks."""

    name: str
    places: Sequence[float | None]
    ticks: Sequence[tuple[float, str]]


def _axis(name: str, values: Sequence[object]) -> Upright:
    there = [value for value in values if value is not None]
    numbers = [value for value in there if finite(value) and not isinstance(value, bool)]
    if there and len(numbers) == len(there):
        return _numeric(name, [value if finite(value) else None for value in values])
    texts = [None if value is None else str(value) for value in values]
    levels = sorted({text for text in texts if text is not None})
    place = {level: (i + 0.5) / len(levels) for i, level in enumerate(levels)}
    places = [None if text is None else place[text] for text in texts]
    return Upright(name, places, [(place[level], level) for level in levels])


def _numeric(name: str, values: Sequence[float | None]) -> Upright:
    """Places and ticks of numbers; logarithmic where they span a decade, few get a tick each."""
    levels = sorted({float(value) for value in values if value is not None})
    low, high = levels[0], levels[-1]
    log = low > 0 and high / low >= DECADE
    first, last = (math.log10(low), math.log10(high)) if log else (low, high)

    def place(value: float) -> float:
        if low == high:
            return 0.5
        return ((math.log10(value) if log else value) - first) / (last - first)

    if len(levels) > MOST_TICKS:
        even = [first + (last - first) * i / 4 for i in range(5)]
        levels = [10**value for value in even] if log else even
    ticks: list[tuple[float, str]] = []
    for height, text in [(place(level), compact(level, 4)) for level in (low, high, *levels)]:
        if all(abs(height - other) >= CLOSEST and text != seen for other, seen in ticks):
            ticks.append((height, text))
    return Upright(name, [None if v is None else place(v) for v in values], ticks)


def _lines(
    items: Sequence[TrialView], axes: Sequence[Upright], goal: int, mode: str
) -> list[dict[str, object]]:
    order = sorted(range(len(items)), key=lambda i: items[i].values[goal], reverse=mode == "min")
    traces = []
    for shade in range(SHADES):  # the best last, hence on top
        part = order[len(order) * shade // SHADES : len(order) * (shade + 1) // SHADES]
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for index in part:
            for place, axis in enumerate(axes):
                x.append(place)
                y.append(axis.places[index])
                text.append(_described(items[index]))
            x.append(None)
            y.append(None)
            text.append("")
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "text": text,
             "line": {"color": f"@line{shade}", "width": 2.4 if shade == SHADES - 1 else 1.2},
             "marker": {"color": f"@line{shade}", "size": 5}, "connectgaps": False,
             "opacity": 1 if shade == SHADES - 1 else 0.75,
             "hovertemplate": "%{text}<extra></extra>"}
        )  # fmt: skip
    return traces


def _described(item: TrialView) -> str:
    values = ", ".join(f"{value:.4g}" for value in item.values)
    return f"trial {item.number}: {values} (n={item.n})"


def _layout(axes: Sequence[Upright]) -> dict[str, object]:
    lines, notes = [], []
    for place, axis in enumerate(axes):
        lines.append(
            {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "layer": "below",
             "line": {"color": "@soft", "width": 1}}
        )  # fmt: skip
        for height, text in axis.ticks:
            notes.append(
                {"x": place, "y": height, "text": safe(text, 14), "showarrow": False,
                 "xanchor": "right", "xshift": -5, "bgcolor": "@bg/0.8", "borderpad": 1,
                 "font": {"size": 11, "color": "@text"}}
            )  # fmt: skip
    names = [safe(short(axis.name), 20) for axis in axes]
    return {
        "xaxis": {"tickvals": [*range(len(axes))], "ticktext": names, "showgrid": False,
                  "side": "top", "tickangle": 0, "fixedrange": True,
                  "range": [-0.55, len(axes) - 0.5]},
        "yaxis": {"visible": False, "range": [-0.05, 1.05], "fixedrange": True},
        "shapes": lines, "annotations": notes, "margin": {"l": 20, "t": 40, "b": 10},
    }  # fmt: skip


def progress(items: Sequence[TrialView], goals: Mapping[str, str]) -> Figure:
    """Each trial's objective in order, and the best so far."""
    variants = []
    for place, (goal, mode) in enumerate(goals.items()):
        values = [item.values[place] for item in items]
        so_far, best = [], values[0]
        for value in values:
            best = max(best, value) if mode == "max" else min(best, value)
            so_far.append(best)
        numbers = [item.number for item in items]
        traces = [
            {"type": "scatter", "mode": "markers", "x": numbers, "y": values,
             "marker": {"color": "@accent/0.6", "size": 7},
             "text": [_described(item) for item in items],
             "hovertemplate": "%{text}<extra></extra>"},
            {"type": "scatter", "mode": "lines", "x": numbers, "y": so_far,
             "line": {"color": "@text", "shape": "hv", "width": 2},
             "hovertemplate": "best so far %{y:.4~g}<extra></extra>"},
        ]  # fmt: skip
        layout = {"xaxis": titled("trial"), "yaxis": titled(goal)}
        variants.append(Variant(key=(goal,), traces=traces, layout=layout))
    return Figure(
        name="progress",
        title="Progress of the search",
        caption=(
            f"A point a finished trial (n = {len(items):,}), its objective averaged over seeds; "
            "the line is the best so far."
        ),
        variants=variants,
        dims=("Objective",),
        height=360,
    )


def pareto(
    items: Sequence[TrialView], front: Sequence[TrialView], goals: Mapping[str, str]
) -> Figure:
    """Two objectives against each other; the front is of trials that no other beats in both."""
    first, second = goals
    line = sorted(front, key=lambda item: item.values[1])
    traces = [
        {"type": "scatter", "mode": "markers", "x": [i.values[1] for i in items],
         "y": [i.values[0] for i in items], "marker": {"color": "@soft/0.6", "size": 7},
         "text": [_described(i) for i in items], "hovertemplate": "%{text}<extra></extra>"},
        {"type": "scatter", "mode": "lines+markers", "x": [i.values[1] for i in line],
         "y": [i.values[0] for i in line], "line": {"color": "@arm1", "shape": "hv", "width": 2},
         "marker": {"color": "@arm1", "size": 10, "symbol": "diamond"},
         "text": [_described(i) for i in line], "hovertemplate": "%{text}<extra></extra>"},
    ]  # fmt: skip
    x = [item.values[1] for item in items]
    log = min(x) > 0 and max(x) / min(x) >= 20
    title = f"{second} ({goals[second]})"
    across = log_axis(title, x) if log else titled(title)
    layout = {"xaxis": across, "yaxis": titled(f"{first} ({goals[first]})")}
    return Figure(
        name="pareto",
        title="Pareto front",
        caption=(
            f"Diamonds: {len(line):,} of n = {counted(len(items), 'finished trial')}, which no "
            "other beats in both objectives."
        ),
        variants=[Variant(key=(), traces=traces, layout=layout)],
        height=400,
    )


def _importances(name: str, shares: Mapping[str, Mapping[str, float]]) -> Figure:
    variants = []
    for goal, found in shares.items():
        order = sorted(found, key=lambda key: found[key])
        trace = {
            "type": "bar", "orientation": "h", "x": [found[key] for key in order],
            "y": [*range(len(order))], "marker": {"color": "@accent"},
            "text": [plain(found[key], 2) for key in order], "textposition": "auto",
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        }  # fmt: skip
        axis = {"tickvals": [*range(len(order))], "ticktext": [safe(key, 34) for key in order]}
        layout = {"xaxis": titled("importance (sums to 1)"), "yaxis": {**axis, "automargin": True}}
        variants.append(Variant(key=(goal,), traces=[trace], layout=layout))
    return Figure(
        name="importances",
        title=f"Importances by {name}",
        caption=(
            f"Share of each parameter by Optuna's {name} evaluator; other evaluators may rank "
            "parameters otherwise."
        ),
        variants=variants,
        dims=("Objective",),
        height=130 + 34 * max(len(found) for found in shares.values()),
    )


def _fewer(items: Sequence[TrialView]) -> tuple[list[TrialView], str]:
    if len(items) <= MANY_RUNS:
        return list(items), ""
    step = len(items) / MANY_RUNS
    kept = [items[int(i * step)] for i in range(MANY_RUNS)]
    return kept, f"Drawn are {len(kept):,} of {len(items):,} trials, evenly spaced."
