"""How right models are when they are sure, pooled over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from tlx.report.arms_shown import arms_drawn, on_split
from tlx.report.data import StudyView
from tlx.report.figure import Figure, Style, Variant, safe, titled
from tlx.report.formats import Table
from tlx.results.record import SplitRecord

PART = "Classes"


def tables(study: StudyView) -> list[Table]:
    """None."""
    return []


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """Reliability: accuracy against confidence, bins pooled over seeds; a variant a split."""
    arms, note = arms_drawn(study)
    variants = []
    for split in study.splits:
        traces = []
        for arm in arms:
            items = [item for item in on_split(study, arm, split) if item.calibration.get("bins")]
            if items:
                traces.append(_reliability(arm, styles[arm], items))
        if traces:
            variants.append(_calibration(split, traces, note))
    if not variants:
        return []
    made = Figure(
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
    return [made]


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
