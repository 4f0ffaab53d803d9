"""Factors: the effect of each level, labels per class, ranks over datasets."""

from collections.abc import Mapping, Sequence

from tlx.report.data import ArmSummary, StudyView
from tlx.report.figure import (
    COLOURS,
    Figure,
    Style,
    Variant,
    errors,
    labels_key,
    lines_axis,
    safe,
    series_of,
    style,
    titled,
)
from tlx.report.formats import Column, Table
from tlx.report.numbers import bracket, counted, decimals, distinct, known, p_value, plain
from tlx.report.plot_arms import ZERO
from tlx.results import effects, ranks
from tlx.results.effects import Effect
from tlx.results.stats import Interval

DATASET = "dataset"
MOST_SERIES = 12
MOST_LEVELS = 60


def found(study: StudyView) -> list[Effect]:
    """Main effects on the primary figure; empty where the study has no factors to part."""
    if len(study.manifest.factors) == 0 or study.manifest.design == "search":
        return []
    return effects.main_effects(study.manifest, study.records, metric=study.manifest.metric)


def table(study: StudyView) -> Table | None:
    """The effect of each level; None without factors."""
    items = found(study)
    if not items:
        return None
    digits = decimals([e.high - e.difference for e in items], [e.mean for e in items])
    columns = [
        Column(key="factor", label="Factor", kind="code"),
        Column(key="level", label="Level"),
        Column(key="mean", label=f"Mean {study.manifest.metric}", kind="number", digits=digits),
        Column(key="runs", label="Runs", kind="share"),
        Column(key="baseline", label="Against"),
        Column(key="difference", label="Δ", kind="delta", digits=digits, with_n=True),
        Column(key="p_holm", label="p (Holm)", kind="p"),
    ]
    rows = []
    for item in items:
        first = item.level == item.baseline
        rows.append(
            [item.factor, str(item.level), known(item.mean), (item.runs, item.planned),
             "" if first else str(item.baseline), None if first else _interval(item),
             None if first else known(item.p_holm)]
        )  # fmt: skip
    note = (
        "Each level averaged over the levels of the other factors; Δ to the factor's first level, "
        "paired by cell and seed, n counts seeds; p two-sided, Holm-corrected over all levels."
    )
    title = f"{study.manifest.study}: effect of each factor on {study.manifest.metric}"
    return Table(name="effects", title=title, columns=columns, rows=rows, note=note, marked=False)


def figure(study: StudyView) -> Figure | None:
    """Main effects, a variant a factor."""
    variants = []
    longest = 1
    every = found(study)
    for factor in study.manifest.factors:
        items = [e for e in every if e.factor == factor and e.n][:MOST_LEVELS]
        if items:
            variants.append(_effects(study, factor, items))
            longest = max(longest, len(items))
    if not variants:
        return None
    return Figure(
        name="effects",
        title="Effect of each factor",
        caption=(
            f"Change of {study.manifest.metric} against the factor's first level, averaged over "
            f"the other factors{study.with_interval}; pairs matched by cell and seed."
        ),
        variants=variants,
        dims=("Factor",),
        height=130 + 36 * longest,
    )


def _effects(study: StudyView, factor: str, items: Sequence[Effect]) -> Variant:
    places = list(range(len(items)))[::-1]
    shown = [_interval(item) for item in items]
    digits = decimals([i.high - i.value for i in shown])
    trace = {
        "type": "scatter", "mode": "markers", "x": [i.value for i in shown], "y": places,
        "error_x": {**errors(shown), "color": "@accent"},
        "marker": {"color": "@accent", "size": 10},
        "text": [
            f"<b>{safe(e.level)}</b> {plain(i.value, digits, signed=True)} "
            f"{bracket(i.low, i.high, digits, signed=True)}<br>"
            f"Holm p {p_value(e.p_holm).replace('<', '&lt;')}, n = {counted(e.n, 'seed')}, "
            f"{counted(e.pairs, 'pair')}"
            for e, i in zip(items, shown, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    first = str(items[0].baseline)
    names = distinct([str(item.level) for item in items], 28)
    labels = [
        f"{safe(name, len(name))}  n={item.n}" for name, item in zip(names, items, strict=True)
    ]
    layout = {
        "xaxis": {**titled(f"Δ {study.metric} to {factor.split('.')[-1]}={first}"), **ZERO},
        "yaxis": lines_axis(labels),
    }
    return Variant(key=(factor,), traces=[trace], layout=layout)


def labels(study: StudyView) -> Figure | None:
    """The figure against labels per class, a curve a combination of the other factors."""
    key = labels_key(study)
    if key is None:
        return None
    variants = []
    names: list[str] = []
    for split in study.splits:
        summaries = {s.arm: s for s in study.summaries(f"{split}/{study.metric}")}
        series = _series(study, key, summaries)
        names = list(series)
        traces = [
            _labels(name, place, points) for place, (name, points) in enumerate(series.items())
        ]
        ticks = sorted({x for points in series.values() for x, _ in points})
        if ticks:
            layout = {
                "xaxis": {**titled("labels per class"), "type": "log", "tickvals": ticks,
                          "ticktext": [f"{x:g}" for x in ticks]},
                "yaxis": titled(f"{split}/{study.metric}"),
            }  # fmt: skip
            variants.append(Variant(key=(split,), traces=traces, layout=layout))
    if not variants:
        return None
    return Figure(
        name="labels",
        title=f"{study.metric} against labels per class",
        caption=f"Mean over seeds{study.with_interval}; points say their n.",
        variants=variants,
        dims=("Split",),
        arms=names,
        height=400,
    )


def _series(
    study: StudyView, key: str, summaries: Mapping[str, ArmSummary]
) -> dict[str, list[tuple[float, Interval]]]:
    factors = {run.arm: run.factors for run in study.manifest.runs}
    series: dict[str, list[tuple[float, Interval]]] = {}
    for arm, summary in summaries.items():
        count = factors[arm].get(key)
        if isinstance(count, (int, float)) and count > 0 and summary.interval.n:
            name = series_of(factors[arm], key)
            series.setdefault(name, []).append((float(count), summary.interval))
    kept = list(series.items())[:MOST_SERIES]
    return {name: sorted(points, key=lambda point: point[0]) for name, points in kept}


def _labels(name: str, place: int, points: Sequence[tuple[float, Interval]]) -> dict[str, object]:
    mine = style(place)
    items = [interval for _, interval in points]
    return {
        "type": "scatter", "mode": "lines+markers", "name": safe(name), "meta": {"arm": name},
        "x": [x for x, _ in points], "y": [i.value for i in items], "marker": mine.marker,
        "line": {"color": mine.token(), "dash": mine.dash, "width": 2},
        "error_y": {**errors(items), "color": mine.token(0.6)},
        "customdata": [i.n for i in items],
        "hovertemplate": f"<b>{safe(name)}</b><br>%{{x:g}} labels per class: %{{y:.4~g}}<br>"
                         "n = %{customdata}<extra></extra>",
    }  # fmt: skip


def series_styles(study: StudyView) -> dict[str, Style]:
    """Styles of the curves over labels per class, for their legend."""
    key = labels_key(study)
    if key is None:
        return {}
    factors = {run.arm: run.factors for run in study.manifest.runs}
    names = dict.fromkeys(series_of(factors[arm], key) for arm in study.arms)
    return {name: style(place % (COLOURS * 6)) for place, name in enumerate(names)}


def rank_table(study: StudyView) -> Table | None:
    """Average ranks over datasets; None where the study has no factor of two datasets."""
    key = next((k for k in study.manifest.factors if k.split(".")[-1] == DATASET), None)
    if key is None or len(study.manifest.factors[key]) < 2:
        return None
    scores = ranks.scores_by(
        study.manifest, study.records, metric=study.manifest.metric, factor=key
    )
    try:
        mean = ranks.average_ranks(scores, mode=study.manifest.mode)
        test = ranks.friedman(scores, mode=study.manifest.mode)
        apart = ranks.critical_difference(test.arms, test.n)
    except ValueError:
        return None
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="rank", label="Average rank", kind="number", digits=2),
        Column(key="n", label="n (datasets)", kind="count"),
    ]
    rows = [[arm, rank, test.n] for arm, rank in sorted(mean.items(), key=lambda item: item[1])]
    note = (
        f"Rank 1 is best; Friedman (Iman and Davenport) p = {p_value(test.p_f)}, n = {test.n} "
        f"datasets; ranks {plain(apart, 2)} or more apart differ (Nemenyi, 0.05)."
    ).replace("= <", "< ")
    title = f"{study.manifest.study}: ranks over datasets, {study.manifest.metric}"
    return Table(name="ranks", title=title, columns=columns, rows=rows, note=note)


def _interval(item: Effect) -> Interval:
    return Interval(value=item.difference, low=item.low, high=item.high, n=item.n)
