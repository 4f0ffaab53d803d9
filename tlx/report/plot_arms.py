"""Figures that compare arms: differences to the baseline, trade-offs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tlx.report import numbers, tables, tables_runs
from tlx.report.data import ArmSummary, Difference, StudyView
from tlx.report.figure import (
    MOST_ARMS,
    Figure,
    Style,
    Variant,
    errors,
    lines_axis,
    log_axis,
    safe,
    titled,
)
from tlx.results.record import Record
from tlx.results.stats import Interval

T = TypeVar("T")
FOREST = 40
ZERO = {"zeroline": True, "zerolinewidth": 2, "rangemode": "tozero"}
COSTS: Mapping[str, tuple[str, Callable[[Record], float | None]]] = {
    "Trainable parameters": ("trainable parameters", lambda r: _trainable(r)),
    "Wall time": ("wall time [s]", lambda r: r.wall_s),
    "Peak memory": ("peak memory [bytes]", lambda r: r.peak_memory_bytes),
    "Steps": ("optimizer steps", lambda r: r.used_steps),
}


def forest(study: StudyView, styles: Mapping[str, Style]) -> Figure | None:
    """Paired differences to the baseline, a variant a split."""
    base, variants = study.manifest.baseline, []
    for split in study.splits:
        metric = f"{split}/{study.metric}"
        found = [d for d in study.differences(metric) if d.comparison.n]
        if found:
            shown, note = fewer(
                study, found, FOREST, lambda d: abs(d.comparison.difference),
                which="those that differ most",
            )  # fmt: skip
            variants.append(_forest(study, styles, split, shown, note))
    if not variants:
        return None
    better = "right" if study.better(study.metric) == "max" else "left"
    rows = max(len(v.traces) for v in variants)
    return Figure(
        name="forest",
        title=f"Difference to {base}",
        caption=(
            f"Mean paired difference of {study.metric} to {base}{study.with_interval}. "
            f"Better is to the {better}; n is the number of pairs."
        ),
        variants=variants,
        dims=("Split",),
        height=130 + 34 * rows,
    )


def _forest(
    study: StudyView,
    styles: Mapping[str, Style],
    split: str,
    found: Sequence[Difference],
    note: str,
) -> Variant:
    traces = []
    places = list(range(len(found)))[::-1]
    for place, item in zip(places, found, strict=True):
        shown = tables.difference(item)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": [shown.value], "y": [place],
                "error_x": {**errors([shown]), "color": styles[item.arm].token()},
                "marker": {**styles[item.arm].marker, "size": 10}, "showlegend": False,
                "hovertemplate": (
                    f"<b>{safe(item.arm)}</b><br>{interval_text(shown, signed=True)}<br>"
                    f"p = {_p(item.comparison.p)}, Holm {_p(item.p_holm)}<br>"
                    f"n = {numbers.counted(shown.n, 'pair')}<extra></extra>"
                ),
            }
        )  # fmt: skip
    names = numbers.distinct([item.arm for item in found], 32)
    labels = [
        f"{safe(name, len(name))}  n={item.comparison.n}"
        for name, item in zip(names, found, strict=True)
    ]
    layout = {
        "xaxis": {**titled(f"Δ {study.metric} on {split}"), **ZERO},
        "yaxis": lines_axis(labels),
    }  # fmt: skip
    return Variant(key=(split,), traces=traces, layout=layout, caption=note)


def tradeoff(study: StudyView, styles: Mapping[str, Style]) -> Figure | None:
    """The primary figure against what it costs, a variant a cost."""
    found = [s for s in study.summaries(study.manifest.metric) if s.interval.n]
    found, note = fewer(study, found, 10 * MOST_ARMS, worth(study))
    variants = []
    for name, (label, cost) in COSTS.items():
        means = {s.arm: tables_runs.mean(cost(r) for r in study.finished(s.arm)) for s in found}
        costs = {arm: mean for arm, mean in means.items() if mean}
        drawn = [s for s in found if s.arm in costs]
        if drawn:
            variants.append(_tradeoff(study, styles, drawn, costs, name, label, note))
    if not variants:
        return None
    return Figure(
        name="tradeoff",
        title=f"{study.metric} against cost",
        caption=(
            f"Each arm's mean {study.manifest.metric}{study.with_interval}, against "
            "the mean cost of the same runs. The axis of cost is logarithmic where arms differ "
            "fivefold or more."
        ),
        variants=variants,
        dims=("Against",),
        arms=[s.arm for s in found] if len(found) <= MOST_ARMS else (),
        height=400,
    )


def _tradeoff(
    study: StudyView,
    styles: Mapping[str, Style],
    found: Sequence[ArmSummary],
    costs: Mapping[str, float],
    name: str,
    label: str,
    note: str,
) -> Variant:
    bars = len(found) <= MOST_ARMS
    traces = [
        {
            "type": "scatter", "mode": "markers", "x": [costs[s.arm]], "y": [s.interval.value],
            "marker": {**styles[s.arm].marker, "size": 11}, "name": safe(s.arm),
            "meta": {"arm": s.arm}, "showlegend": False,
            **({"error_y": {**errors([s.interval]), "color": styles[s.arm].token(0.6)}}
               if bars else {}),
            "hovertemplate": (
                f"<b>{safe(s.arm)}</b><br>{interval_text(s.interval)}<br>n = {s.interval.n}<br>"
                f"{label}: %{{x:,.4~g}}<extra></extra>"
            ),
        }
        for s in found
    ]  # fmt: skip
    known = [costs[s.arm] for s in found]
    wide = min(known) > 0 and max(known) / min(known) >= 5
    axis = log_axis(label, known) if wide else {**titled(label), "rangemode": "tozero"}
    layout = {"xaxis": axis, "yaxis": titled(study.manifest.metric)}
    return Variant(key=(name,), traces=traces, layout=layout, caption=note)


def fewer(
    study: StudyView,
    items: Sequence[T],
    most: int,
    worth: Callable[[T], float],
    *,
    which: str = "the best and the baseline",
) -> tuple[list[T], str]:
    """The `most` items of the greatest worth in their order, and a sentence on the others."""
    if len(items) <= most:
        return list(items), ""
    keep = {id(item) for item in sorted(items, key=worth, reverse=True)[:most]}
    base = study.manifest.baseline
    kept = [item for item in items if id(item) in keep or getattr(item, "arm", item) == base]
    note = f"Drawn are {len(kept):,} of {len(items):,} arms, {which}; all are in the tables."
    return kept, note


def worth(study: StudyView) -> Callable[[ArmSummary], float]:
    """What arms are ranked by: the primary figure, the better the higher."""
    sign = 1 if study.manifest.mode == "max" else -1
    return lambda summary: sign * summary.interval.value


def interval_text(item: Interval, *, signed: bool = False) -> str:
    """A mean and its interval, with digits to suit it alone."""
    digits = numbers.decimals([item.high - item.value], [item.value])
    value = numbers.plain(item.value, digits, signed=signed)
    return f"{value} {numbers.bracket(item.low, item.high, digits, signed=signed)}".strip()


def _p(value: float) -> str:
    return numbers.p_value(value).replace("<", "&lt;")


def _trainable(record: Record) -> float | None:
    return record.parameters.trainable if record.parameters else None
