"""Confusion of classes, summed over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tlx.report.arms_shown import MOST_SPLITS, arms_drawn, on_split
from tlx.report.data import StudyView
from tlx.report.figure import Figure, Style, Variant, safe, titled
from tlx.report.formats import Table
from tlx.report.heatmap import MOST_CLASSES, heatmap, square
from tlx.report.numbers import counted
from tlx.results.record import SplitRecord

PART = "Classes"
Floats = npt.NDArray[np.float64]


def tables(study: StudyView) -> list[Table]:
    """None."""
    return []


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """Rows are true classes; a variant an arm and split."""
    arms, note = arms_drawn(study)
    variants = []
    largest = 0
    for arm in arms:
        for split in study.splits[:MOST_SPLITS]:
            items = [item for item in on_split(study, arm, split) if item.confusion]
            sizes = {len(item.confusion or ()) for item in items}
            if len(sizes) == 1 and next(iter(sizes)) > 1:
                variants.append(_confusion(arm, split, items, note))
                largest = max(largest, min(MOST_CLASSES, next(iter(sizes))))
    if not variants:
        return []
    made = Figure(
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
    return [made]


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
    trace = heatmap(rows, labels, labels, "% of the true class")
    trace |= {"zmin": 0, "zmax": 100}
    if trace.pop("texttemplate", None):
        trace["text"] = [[f"{x:.0f}" if x >= 0.5 else "" for x in row] for row in rows]
        trace["texttemplate"] = "%{text}"
    trace["hovertemplate"] = "true %{y}<br>predicted %{x}<br>%{z:.1f}%<extra></extra>"
    layout = square(labels, labels)
    layout["xaxis"] |= titled("predicted")
    layout["yaxis"] |= titled("true")
    caption = f"n = {counted(len(items), 'run')} of {items[0].n:,} items. {more}{note}"
    return Variant(key=(arm, split), traces=[trace], layout=layout, caption=caption)
