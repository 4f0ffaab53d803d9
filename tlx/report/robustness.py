"""Every evaluation split side by side."""

from collections.abc import Mapping, Sequence

from tlx.report.data import ArmSummary, StudyView
from tlx.report.figure import Figure, Style, Variant, errors, safe, titled
from tlx.report.plot_arms import fewer, interval_text, worth
from tlx.results.stats import Interval, compare


def robustness(study: StudyView, styles: Mapping[str, Style]) -> Figure | None:
    """Every evaluation split side by side: the figure, and its loss against the primary split."""
    if len(study.splits) < 2:
        return None
    found = {split: study.summaries(f"{split}/{study.metric}") for split in study.splits}
    first = [s for s in found[study.split] if s.interval.n]
    shown, note = fewer(study, first, 12, worth(study))
    arms = [s.arm for s in shown]
    if not arms:
        return None
    levels = _robustness(study, styles, arms, found, note)
    return Figure(
        name="robustness",
        title=f"{study.metric} on every evaluation split",
        caption=(
            f"{study.metric} on every evaluation split, mean{study.with_interval or ' over seeds'}"
            f"; or the paired change against {study.split}, seed by seed."
        ),
        variants=[levels, _change(study, styles, arms, found, note)],
        dims=("Show",),
        arms=arms,
        height=120 + len(study.splits) * (34 + 13 * len(arms)),
    )


def _robustness(
    study: StudyView,
    styles: Mapping[str, Style],
    arms: Sequence[str],
    found: Mapping[str, Sequence[ArmSummary]],
    note: str,
) -> Variant:
    by_arm = {split: {s.arm: s.interval for s in items} for split, items in found.items()}
    values = {arm: [by_arm[split][arm] for split in study.splits] for arm in arms}
    return _dots(study, styles, values, f"{study.metric}", "Figure", note)


def _change(
    study: StudyView,
    styles: Mapping[str, Style],
    arms: Sequence[str],
    found: Mapping[str, Sequence[ArmSummary]],
    note: str,
) -> Variant:
    by_arm = {split: {s.arm: s.values for s in items} for split, items in found.items()}
    values = {
        arm: [paired(by_arm[split][arm], by_arm[study.split][arm]) for split in study.splits[1:]]
        for arm in arms
    }
    label = f"change of {study.metric} against {study.split}"
    return _dots(study, styles, values, label, "Change", note, splits=study.splits[1:])


def _dots(
    study: StudyView,
    styles: Mapping[str, Style],
    values: Mapping[str, Sequence[Interval]],
    label: str,
    key: str,
    note: str,
    *,
    splits: Sequence[str] = (),
) -> Variant:
    splits = splits or study.splits
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
