"""Figures by class: per-class figures, confusion, calibration; averaged over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tlx.report import plot_arms
from tlx.report.data import Study
from tlx.report.figure import Figure, Style, Variant, safe, titled
from tlx.report.numbers import counted
from tlx.results.record import SplitRecord

MOST_CLASSES = 50
MOST_ARMS = 12
MOST_SPLITS = 6
Floats = npt.NDArray[np.float64]


def arms_of(study: Study) -> tuple[list[str], str]:
    """Arms to draw by class, and a sentence on the others."""
    summaries = [s for s in study.summaries(study.manifest.metric) if study.finished(s.arm)]
    shown, note = plot_arms.fewer(study, summaries, MOST_ARMS, plot_arms.worth(study))
    return [s.arm for s in shown], note


def found(study: Study, arm: str, split: str) -> list[SplitRecord]:
    """An arm's results on a split, one a finished run."""
    return [r.splits[split] for r in study.finished(arm) if split in r.splits]


def per_class(study: Study) -> Figure | None:
    """Arms × classes, a variant a figure and split."""
    arms, note = arms_of(study)
    variants = []
    for split in study.splits[:MOST_SPLITS]:
        tables = {arm: found(study, arm, split) for arm in arms}
        keys = _keys(tables)
        for key in keys:
            variants += _per_class(tables, split, key, note)
    if not variants:
        return None
    first = variants[0].traces[0]
    return Figure(
        name="per-class",
        title="Figures by class",
        caption="Mean over the finished runs of each arm; n counts them.",
        variants=variants,
        dims=("Split", "Figure"),
        height=150 + 30 * len(arms),
        wide=26 * len(first["x"]) if len(first["x"]) > 14 else 0,
    )


def _keys(tables: Mapping[str, Sequence[SplitRecord]]) -> list[str]:
    lines = (line for items in tables.values() for item in items for line in item.per_class[:1])
    keys = dict.fromkeys(key for line in lines for key in line)
    order = [key for key in keys if key not in ("name", "support")]
    return sorted(order, key=lambda key: key != "recall")  # the others in their order


def _per_class(
    tables: Mapping[str, Sequence[SplitRecord]], split: str, key: str, note: str
) -> list[Variant]:
    means: dict[str, dict[str, float]] = {}
    counts = {}
    for arm, items in tables.items():
        values: dict[str, list[float]] = {}
        for item in items:
            for line in item.per_class:
                value = line.get(key)
                if isinstance(value, (int, float)) and np.isfinite(value):
                    values.setdefault(str(line.get("name")), []).append(float(value))
        means[arm] = {name: float(np.mean(v)) for name, v in values.items()}
        counts[arm] = len(items)
    names = list(dict.fromkeys(name for items in means.values() for name in items))
    if not names:
        return []
    kept, more = _spread(names, means)
    rows = [[means[arm].get(name) for name in kept] for arm in means]
    labels = [f"{safe(arm, 28)}  n={counts[arm]}" for arm in means]
    columns = [safe(name, 18) for name in kept]
    trace, layout = _heatmap(rows, columns, labels, key), _square(columns, labels)
    caption = f"Colour: {key} on {split}. {more}{note}"
    return [Variant(key=(split, key), traces=[trace], layout=layout, caption=caption)]


def _spread(
    names: Sequence[str], means: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], str]:
    if len(names) <= MOST_CLASSES:
        return list(names), ""

    def spread(name: str) -> float:
        there = [items[name] for items in means.values() if name in items]
        return max(there) - min(there)

    keep = set(sorted(names, key=spread, reverse=True)[:MOST_CLASSES])
    text = f"Drawn are the {MOST_CLASSES} of {len(names):,} classes in which arms differ most. "
    return [name for name in names if name in keep], text


def confusion(study: Study) -> Figure | None:
    """Rows are true classes; a variant an arm and split."""
    arms, note = arms_of(study)
    variants = []
    largest = 0
    for arm in arms:
        for split in study.splits[:MOST_SPLITS]:
            items = [item for item in found(study, arm, split) if item.confusion]
            sizes = {len(item.confusion or ()) for item in items}
            if len(sizes) == 1 and next(iter(sizes)) > 1:
                variants.append(_confusion(arm, split, items, note))
                largest = max(largest, min(MOST_CLASSES, next(iter(sizes))))
    if not variants:
        return None
    return Figure(
        name="confusion",
        title="Confusion",
        caption=(
            "Rows are true classes and sum to 100%, columns predicted ones; summed over the "
            "finished runs of the arm."
        ),
        variants=variants,
        dims=("Arm", "Split"),
        height=min(900, 170 + 26 * largest),
        wide=22 * largest if largest > 14 else 0,
    )


def _confusion(arm: str, split: str, items: Sequence[SplitRecord], note: str) -> Variant:
    total: Floats = np.sum([np.array(item.confusion, dtype=float) for item in items], axis=0)
    names = [str(line.get("name")) for line in items[0].per_class]
    if len(names) != len(total):
        names = [str(i) for i in range(len(total))]
    share = total / np.maximum(total.sum(1, keepdims=True), 1)
    more = ""
    if len(total) > MOST_CLASSES:
        wrong = share.sum(1) - np.diag(share)
        keep = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
        share, names = share[np.ix_(keep, keep)], [names[i] for i in keep]
        more = f"Drawn are the {MOST_CLASSES} of {len(total):,} classes most often mistaken. "
    labels = [safe(name, 18) for name in names]
    rows = [[round(100 * float(x), 1) for x in row] for row in share]
    trace = _heatmap(rows, labels, labels, "% of the true class")
    trace |= {"zmin": 0, "zmax": 100}
    if trace.pop("texttemplate", None):
        trace["text"] = [[f"{x:.0f}" if x >= 0.5 else "" for x in row] for row in rows]
        trace["texttemplate"] = "%{text}"
    trace["hovertemplate"] = "true %{y}<br>predicted %{x}<br>%{z:.1f}%<extra></extra>"
    layout = _square(labels, labels)
    layout["xaxis"] |= titled("predicted")
    layout["yaxis"] |= titled("true")
    caption = f"n = {counted(len(items), 'run')} of {items[0].n:,} items. {more}{note}"
    return Variant(key=(arm, split), traces=[trace], layout=layout, caption=caption)


def _heatmap(rows: Sequence[Any], x: Sequence[str], y: Sequence[str], name: str) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "heatmap", "z": rows, "x": [*range(len(x))], "y": [*range(len(y))],
        "colorscale": "@scale", "xgap": 1, "ygap": 1,
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11}},
        "hovertemplate": f"%{{y}}<br>class %{{x}}<br>{safe(name)} %{{z:.3f}}<extra></extra>",
    }  # fmt: skip
    if len(x) <= 14:
        trace["texttemplate"] = "%{z:.2f}"
    return trace


def _square(x: Sequence[str], y: Sequence[str]) -> dict[str, Any]:
    """Axes with a name a cell; numbers stand below, since shortened names may coincide."""
    across = {"tickvals": [*range(len(x))], "ticktext": list(x), "range": [-0.5, len(x) - 0.5]}
    down = {"tickvals": [*range(len(y))], "ticktext": list(y), "range": [len(y) - 0.5, -0.5]}
    axis = {"showgrid": False, "automargin": True}
    return {"xaxis": {**axis, **across}, "yaxis": {**axis, **down}}


def calibration(study: Study, styles: Mapping[str, Style]) -> Figure | None:
    """Reliability: accuracy against confidence, bins pooled over seeds; a variant a split."""
    arms, note = arms_of(study)
    variants = []
    for split in study.splits:
        traces = []
        for arm in arms:
            items = [item for item in found(study, arm, split) if item.calibration.get("bins")]
            if items:
                traces.append(_reliability(arm, styles[arm], items))
        if traces:
            variants.append(_calibration(split, traces, note))
    if not variants:
        return None
    return Figure(
        name="calibration",
        title="Calibration",
        caption=(
            "Accuracy within bins of confidence, pooled over the finished runs of each arm; on the "
            "diagonal a model is as right as it is sure."
        ),
        variants=variants,
        dims=("Split",),
        arms=arms,
        height=420,
    )


def _reliability(arm: str, style: Style, items: Sequence[SplitRecord]) -> dict[str, Any]:
    pooled: dict[float, list[float]] = {}
    for item in items:
        for cell in item.calibration["bins"]:
            n, sums = cell["n"], pooled.setdefault(round(cell["low"], 6), [0.0, 0.0, 0.0])
            for place, value in enumerate((n, n * cell["confidence"], n * cell["accuracy"])):
                sums[place] += value
    lines = [pooled[low] for low in sorted(pooled) if pooled[low][0]]
    return {
        "type": "scatter", "mode": "lines+markers", "name": safe(arm), "meta": {"arm": arm},
        "x": [c / n for n, c, _ in lines], "y": [a / n for n, _, a in lines],
        "customdata": [int(n) for n, _, _ in lines],
        "line": {"color": style.token(), "dash": style.dash, "width": 2},
        "marker": {**style.marker, "size": 7},
        "hovertemplate": (
            f"<b>{safe(arm)}</b>, {len(items)} runs<br>confidence %{{x:.3f}}<br>"
            "accuracy %{y:.3f}<br>%{customdata:,} items<extra></extra>"
        ),
    }  # fmt: skip


def _calibration(split: str, traces: Sequence[Mapping[str, Any]], note: str) -> Variant:
    diagonal = {
        "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
        "line": {"color": "@soft", "dash": "dot", "width": 1.5},
    }  # fmt: skip
    lowest = min(min(*trace["x"], *trace["y"]) for trace in traces)
    span = [max(0.0, lowest - 0.04), 1.02]
    layout = {
        "xaxis": {**titled("confidence"), "range": span},
        "yaxis": {**titled("accuracy"), "range": span},
    }
    return Variant(key=(split,), traces=[diagonal, *traces], layout=layout, caption=note)
