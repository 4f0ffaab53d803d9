"""Figures by class, arms × classes, averaged over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from tlx.base.nodes import sequence
from tlx.report.arms_shown import MOST_SPLITS, arms_drawn, on_split
from tlx.report.data import StudyView
from tlx.report.figure import Figure, Style, Variant, safe
from tlx.report.formats import Table
from tlx.report.heatmap import MOST_CLASSES, heatmap, square
from tlx.results.record import SplitRecord

PART = "Classes"


def tables(study: StudyView) -> list[Table]:
    """None."""
    return []


def figures(study: StudyView, styles: Mapping[str, Style]) -> list[Figure]:
    """Arms × classes, a variant a figure and split."""
    arms, note = arms_drawn(study)
    variants = []
    for split in study.splits[:MOST_SPLITS]:
        tables = {arm: on_split(study, arm, split) for arm in arms}
        keys = _keys(tables)
        for key in keys:
            variants += _per_class(tables, split, key, note)
    if not variants:
        return []
    classes = len(sequence(variants[0].traces[0]["x"]))
    made = Figure(
        name="per-class",
        title="Figures by class",
        caption="Mean over the finished runs of each arm; n counts them.",
        variants=variants,
        dims=("Split", "Figure"),
        height=150 + 30 * len(arms),
        wide=26 * classes if classes > 14 else 0,
    )
    return [made]


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
    trace, layout = heatmap(rows, columns, labels, key), square(columns, labels)
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
