"""Every evaluation split side by side."""

from collections.abc import Mapping, Sequence

from tlx.report.data import StudyView
from tlx.report.figure import Figure, Style, Variant, errors, safe, titled
from tlx.report.plot_arms import fewer, interval_text, worth
from tlx.results.stats import Interval, compare


def robustness(study: StudyView, styles: Mapping[str, Style]) -> Figure | None:
    """Every evaluation split side by side: the figure, and its loss against the primary split."""
    if len(study.splits) < 2:
        return None
    found = {split: study.summaries(f"{split}/{study.metric}") for split in study.splits}
    there = [s for s in found[study.split] if s.interval.n]
    shown, note = fewer(study, there, 12, worth(study))
    arms = [s.arm for s in shown]
    if not arms:
        return None
    first, others = study.split, study.splits[1:]
    figures = {split: {s.arm: s for s in items} for split, items in found.items()}
    levels = {arm: [figures[split][arm].interval for split in study.splits] for arm in arms}
    changes = {
        arm: [paired(figures[split][arm].values, figures[first][arm].values) for split in others]
        for arm in arms
    }
    label = f"change of {study.metric} against {first}"
    return Figure(
        name="robustness",
        title=f"{study.metric} on every evaluation split",
        caption=(
            f"{study.metric} on every evaluation split, mean{study.with_interval or ' over seeds'}"
            f"; or the paired change against {study.split}, seed by seed."
        ),
        variants=[
            _dots(styles, levels, study.splits, study.metric, "Figure", note),
            _dots(styles, changes, others, label, "Change", note),
        ],
        dims=("Show",),
        arms=arms,
        height=120 + len(study.splits) * (34 + 13 * len(arms)),
    )


def _dots(
    styles: Mapping[str, Style],
    values: Mapping[str, Sequence[Interval]],
    splits: Sequence[str],
    label: str,
    key: str,
    note: str,
) -> Variant:
    signed = key == "Change"
    traces = []
    for place, (arm, items) in enumerate(values.items()):
        shift = 0.7 * ((place + 0.5) / len(values) - 0.5)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": [i.value for i in items],
                "y": [len(splits) - 1 - row - shift for row in range(len(splits))],
                "error_x": {**errors(items), "color": styles[arm].token(0.7)},
                "marker": styles[arm].marker, "name": safe(arm), "meta": {"arm": arm},
                "showlegend": False,
                "text": [f"{interval_text(i, signed=signed)}<br>n = {i.n}" for i in items],
                "hovertemplate": f"<b>{safe(arm)}</b><br>%{{text}}<extra></extra>",
            }
        )  # fmt: skip
    ticks = list(range(len(splits)))[::-1]
    lines = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": t - 0.5, "y1": t - 0.5,
         "line": {"color": "@grid", "width": 1}}
        for t in ticks[:-1]
    ]  # fmt: skip
    layout = {
        "xaxis": {**titled(label), "zeroline": signed, "zerolinewidth": 2},
        "yaxis": {"tickvals": ticks, "ticktext": [safe(s, 24) for s in splits],
                  "automargin": True, "range": [-0.5, len(splits) - 0.5], "showgrid": False,
                  "zeroline": False, "fixedrange": True},
        "shapes": lines,
    }  # fmt: skip
    return Variant(key=(key,), traces=traces, layout=layout, caption=note)


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """First less second over the seeds that both have."""
    found = compare(first, second)
    return Interval(value=found.difference, low=found.low, high=found.high, n=found.n)
