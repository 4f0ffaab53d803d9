"""Learning curves: mean and interval over seeds, and where stages begin."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlx.base import sealed
from tlx.report import plot_arms
from tlx.report.data import StudyView, sound
from tlx.report.figure import Figure, Style, Variant, safe, titled
from tlx.report.numbers import span
from tlx.results.record import Record
from tlx.results.stats import t_interval

MOST_POINTS = 100
MOST_CURVES = 12
BAND_FROM = 3
"""Seeds from which on an interval is drawn: that of two fills the plot."""
Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]
Mean = tuple[Floats, Floats, Floats, Floats, int]


def figure(study: StudyView, styles: Mapping[str, Style]) -> Figure | None:
    """One curve an arm, a variant a column of metrics.csv."""
    summaries = [s for s in study.summaries(study.manifest.metric) if study.finished(s.arm)]
    shown, note = plot_arms.fewer(study, summaries, MOST_CURVES, plot_arms.worth(study))
    arms = [s.arm for s in shown]
    columns = list(dict.fromkeys([f"val/{study.metric}", "val/loss", "train/loss"]))
    nothing = dict.fromkeys(columns, (np.empty(0), np.empty(0)))

    def log_of(run: Record) -> dict[str, Curve]:
        path = study.runs_dir / run.run / "metrics.csv"
        return sound(study, lambda place: read(place, columns), path, nothing=nothing)

    logs = {arm: [log_of(run) for run in study.finished(arm)] for arm in arms}
    variants = []
    for column in columns:
        means = {arm: over_seeds([log[column] for log in logs[arm]]) for arm in arms}
        found = {arm: mean for arm, mean in means.items() if mean is not None}
        if found:
            seeds = {arm: single([log[column] for log in logs[arm]]) for arm in found}
            variants.append(_variant(study, styles, column, found, seeds, note))
    if not variants:
        return None
    return Figure(
        name="curves",
        title="By optimizer step",
        caption=(
            "Mean over the finished runs of each arm, drawn as far as all of them trained"
            f"{_around(study, arms)}. Dotted lines: where a stage begins."
        ),
        variants=variants,
        dims=("Curve",),
        arms=arms,
        height=420,
    )


def _around(study: StudyView, arms: Sequence[str]) -> str:
    """What is drawn around the means."""
    counts = [len(study.finished(arm)) for arm in arms]
    texts = []
    if max(counts) >= BAND_FROM:
        texts.append(f"its pointwise 95% interval where n ≥ {BAND_FROM}")
    if 2 in counts:
        texts.append("thin lines for the seeds where n = 2")
    return f", with {' and '.join(texts)}" if texts else ""


def read(path: Path, columns: Sequence[str]) -> dict[str, Curve]:
    """Steps and finite values of some columns of a metrics.csv; empty where it has none.

    Raises:
        Damaged: it is not what the run wrote.
    """
    sealed.check(path)
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in columns}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                step = _number(row.get("step"))
                for name, (steps, values) in found.items():
                    value = _number(row.get(name))
                    if math.isfinite(value) and math.isfinite(step):
                        steps.append(step)
                        values.append(value)
    except OSError:
        return {name: (np.empty(0), np.empty(0)) for name in columns}
    except (csv.Error, UnicodeDecodeError) as error:
        raise sealed.Damaged(f"{path} is damaged ({error})", folder=path.parent) from error
    return {name: (np.array(s), np.array(v)) for name, (s, v) in found.items()}


def over_seeds(curves: Sequence[Curve]) -> Mean | None:
    """Steps, means, lower and upper ends and n, at most 100 points; None without a curve.

    Where seeds were logged at the same steps these are kept; otherwise each is averaged within
    bins of equal width over the range that all have.
    """
    there = [curve for curve in curves if len(curve[0])]
    if not there:
        return None
    first = there[0][0]
    same = all(len(s) == len(first) and bool((s == first).all()) for s, _ in there)
    if same and len(first) <= MOST_POINTS:
        steps, table = first, np.stack([values for _, values in there])
    else:
        low, high = max(s[0] for s, _ in there), min(s[-1] for s, _ in there)
        if high <= low:
            return None
        edges = np.linspace(low, high, MOST_POINTS + 1)
        steps = (edges[1:] + edges[:-1]) / 2
        table = np.stack([_binned(s, v, edges, steps) for s, v in there])
    intervals = [t_interval(column) for column in table.T]
    low_ends = np.array([i.low for i in intervals])
    high_ends = np.array([i.high for i in intervals])
    return steps, table.mean(0), low_ends, high_ends, len(there)


def single(curves: Sequence[Curve]) -> list[Curve]:
    """Each seed's curve where they are 2 and too few for a band, at most 100 points; else none."""
    there = [curve for curve in curves if len(curve[0])]
    if not 1 < len(there) < BAND_FROM:
        return []
    means = [over_seeds([curve]) for curve in there]
    return [mean[:2] for mean in means if mean is not None]


def _binned(steps: Floats, values: Floats, edges: Floats, middles: Floats) -> Floats:
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    bins = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, len(middles) - 1)
    inside = (steps >= edges[0]) & (steps <= edges[-1])
    counts = np.bincount(bins[inside], minlength=len(middles))
    sums = np.bincount(bins[inside], weights=values[inside], minlength=len(middles))
    between = np.interp(middles, steps, values)
    return np.where(counts > 0, sums / np.maximum(counts, 1), between)


def _variant(
    study: StudyView,
    styles: Mapping[str, Style],
    column: str,
    found: Mapping[str, Mean],
    seeds: Mapping[str, Sequence[Curve]],
    note: str,
) -> Variant:
    traces: list[Mapping[str, object]] = []
    for arm, (steps, means, lows, highs, n) in found.items():
        style = styles[arm]
        common: dict[str, object] = {"meta": {"arm": arm}, "type": "scatter", "mode": "lines"}
        if n >= BAND_FROM:
            around = np.concatenate([highs, lows[::-1]]).tolist()
            traces.append(
                {**common, "x": [*steps.tolist(), *steps[::-1].tolist()], "y": around,
                 "fill": "toself", "fillcolor": style.token(0.16), "line": {"width": 0},
                 "hoverinfo": "skip"}
            )  # fmt: skip
        traces += [
            {**common, "x": x.tolist(), "y": y.tolist(), "hoverinfo": "skip",
             "line": {"color": style.token(0.5), "width": 0.9}}
            for x, y in seeds[arm]
        ]  # fmt: skip
        traces.append(
            {**common, "x": steps.tolist(), "y": means.tolist(), "name": safe(arm),
             "mode": "lines+markers", "marker": {**style.marker, "maxdisplayed": 9},
             "line": {"color": style.token(), "dash": style.dash, "width": 2.2},
             "hovertemplate": f"<b>{safe(arm)}</b> n={n}<br>step %{{x:,.0f}}: %{{y:.4~g}}"
                              "<extra></extra>"}
        )  # fmt: skip
        traces += _boundaries(arm, style, study.finished(arm))
    counts = span([item[4] for item in found.values()], "seed")
    bands = [item[1:4] for item in found.values() if item[4] >= BAND_FROM]
    lines = [item[1] for item in found.values()] + [y for arm in found for _, y in seeds[arm]]
    layout = {
        "xaxis": titled("optimizer step"),
        "yaxis": {**titled(column), "range": _range(lines, bands)},
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    }
    return Variant(key=(column,), traces=traces, layout=layout, caption=f"{counts}. {note}")


def _boundaries(arm: str, style: Style, records: Sequence[Record]) -> list[Mapping[str, object]]:
    """A dotted line where a stage begins, at its median step over seeds."""
    starts: dict[str, list[int]] = {}
    for record in records:
        for stage in record.stages[1:]:
            starts.setdefault(stage.name, []).append(stage.start)
    places = {name: float(np.median(steps)) for name, steps in starts.items()}
    return [
        {"type": "scatter", "mode": "lines", "x": [step] * 21, "yaxis": "y2",
         "y": [i / 20 for i in range(21)], "meta": {"arm": arm},
         "line": {"color": style.token(0.7), "dash": "dot", "width": 1.3},
         "hovertemplate": f"<b>{safe(arm)}</b><br>stage {safe(name)} begins at step {step:,.0f}"
                          "<extra></extra>"}
        for name, step in places.items()
    ]  # fmt: skip


def _range(lines: Sequence[Floats], bands: Sequence[tuple[Floats, Floats, Floats]]) -> list[float]:
    """Room for all lines, and for intervals up to half that room: three seeds have huge ones."""
    points = np.concatenate(lines)
    ends = np.concatenate([np.empty(0), *(end for band in bands for end in band[1:])])
    low, high = float(points.min()), float(points.max())
    room = (high - low) or abs(high) or 1.0
    ends = ends[np.isfinite(ends)]
    if len(ends):
        low = min(low, max(float(ends.min()), low - room / 2))
        high = max(high, min(float(ends.max()), high + room / 2))
    return [low - room * 0.04, high + room * 0.04]


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
