"""The tables of results: by arm, by split, against the baseline, and the verdicts."""

from collections.abc import Sequence

from tlx.report.data import ArmSummary, Difference, StudyView
from tlx.report.formats import Column, Table
from tlx.report.numbers import counted, decimals, finite, known, span
from tlx.results.stats import Interval


def main(study: StudyView, *, split: str = "", name: str = "main") -> Table:
    """Every arm on one split: mean, deviation, n, chosen candidate, difference to the baseline.

    Args:
        study: read.
        split: the primary one by default.
        name: of the files.
    """
    split = split or study.split
    metric = f"{split}/{study.metric}"
    summaries = study.summaries(metric)
    differences = {item.arm: item for item in study.differences(metric)}
    digits = digits_of(summaries)
    columns = [Column(key="arm", label="Arm"), value_column(study, split, digits)]
    columns += [
        Column(key="sd", label="sd", kind="number", digits=digits),
        Column(key="n", label="n", kind="share"),
    ]
    if study.manifest.tuned:
        columns.append(Column(key="candidate", label="Tuned", kind="tuned"))
    if differences:
        label = f"Δ to {study.manifest.baseline}"
        columns += [
            Column(key="difference", label=label, kind="delta", digits=digits, with_n=True),
            Column(key="p_holm", label="p (Holm)", kind="p"),
        ]
    rows = []
    for item in summaries:
        row: list[object] = [item.arm, item.interval, known(item.sd)]
        row.append((item.interval.n, item.planned))
        row += [study.chosen[item.arm]] if study.manifest.tuned else []
        if differences:
            found = differences.get(item.arm)
            row += [difference(found), known(found.p_holm)] if found else [None, None]
        rows.append(row)
    title = f"{study.manifest.study}: {study.metric} on {split}"
    note = _note(study, metric, summaries)
    return Table(name=name, title=title, columns=columns, rows=rows, note=note)


def by_split(study: StudyView) -> Table:
    """Every arm on every evaluation split."""
    columns, found = [Column(key="arm", label="Arm")], []
    for split in study.splits:
        summaries = study.summaries(f"{split}/{study.metric}")
        column = value_column(study, split, digits_of(summaries), name=False)
        columns.append(column)
        found.append([item.interval for item in summaries])
    rows = [[arm, *(values[i] for values in found)] for i, arm in enumerate(study.arms)]
    title = f"{study.manifest.study}: {study.metric} on every evaluation split"
    note = f"Mean over seeds{_interval(study)}; n counts seeds."
    return Table(name="splits", title=title, columns=columns, rows=rows, note=note)


def differences(study: StudyView) -> Table | None:
    """Paired differences to the baseline on every evaluation split; None without a baseline."""
    rows: list[list[object]] = []
    spreads = []
    for split in study.splits:
        for item in study.differences(f"{split}/{study.metric}"):
            spreads.append(item.comparison.high - item.comparison.difference)
            rows.append(
                [item.arm, split, difference(item), known(item.comparison.p), known(item.p_holm),
                 item.comparison.test]
            )  # fmt: skip
    if not rows:
        return None
    base, digits = study.manifest.baseline, decimals(spreads)
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="split", label="Split"),
        Column(key="difference", label=f"Δ to {base}", kind="delta", digits=digits, with_n=True),
        Column(key="p", label="p", kind="p"),
        Column(key="p_holm", label="p (Holm)", kind="p"),
        Column(key="test", label="Test"),
    ]
    note = f"Mean of arm minus {base} over the seeds that both have (n)"
    if any(finite(spread) for spread in spreads):
        note += (
            ", with its 95% interval; p is two-sided, and corrected over the arms of each split."
        )
    else:
        note += ". An interval and a test need 2 of them."
    title = f"{study.manifest.study}: {study.metric}, paired differences to {base}"
    return Table(name="differences", title=title, columns=columns, rows=rows, note=note)


def figures(study: StudyView) -> Table:
    """Every figure of every arm on every split, `val` too."""
    splits = list(dict.fromkeys(name for r in study.records.values() for name in r.splits))
    rows: list[list[object]] = []
    for split in splits:
        for metric in study.metrics:
            for item in study.summaries(f"{split}/{metric}"):
                if item.interval.n or item.nan:
                    share = (item.interval.n, item.planned)
                    rows.append([item.arm, split, metric, item.interval, known(item.sd), share])
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="split", label="Split"),
        Column(key="metric", label="Figure"),
        Column(key="value", label="Mean", kind="interval", digits=4),
        Column(key="sd", label="sd", kind="number", digits=4),
        Column(key="n", label="n", kind="share"),
    ]
    title = f"{study.manifest.study}: every figure"
    note = f"Mean over seeds{_interval(study)}; n counts seeds with a figure."
    return Table(name="figures", title=title, columns=columns, rows=rows, note=note, prose=False)


def claims(study: StudyView) -> Table | None:
    """The verdict on each claim; None where nothing is claimed."""
    if not study.verdicts:
        return None
    spreads = [v.high - v.difference for v in study.verdicts]
    columns = [
        Column(key="claim", label="Claim", kind="code"),
        Column(key="verdict", label="Verdict"),
        Column(key="difference", label="Difference", kind="delta", digits=decimals(spreads),
               with_n=True),
        Column(key="p", label="p", kind="p"),
        Column(key="p_holm", label="p (Holm)", kind="p"),
        Column(key="level", label="Level", kind="number", digits=4),
        Column(key="sentence", label="In words"),
    ]  # fmt: skip
    rows = [
        [v.claim, v.status, Interval(value=v.difference, low=v.low, high=v.high, n=v.n),
         known(v.p), known(v.p_holm), known(v.level), v.sentence]
        for v in study.verdicts
    ]  # fmt: skip
    title = f"{study.manifest.study}: verdicts"
    return Table(name="claims", title=title, columns=columns, rows=rows)


def value_column(study: StudyView, split: str, digits: int, *, name: bool = True) -> Column:
    """The column of a split's mean and interval."""
    label = f"{split} {study.metric}" if name else split
    return Column(
        key=split,
        label=label,
        kind="interval",
        digits=digits,
        with_n=not name,
        better=study.better(study.metric) if len(study.arms) > 1 else "",
    )


def difference(found: Difference) -> Interval:
    """A paired difference as an interval."""
    item = found.comparison
    return Interval(value=item.difference, low=item.low, high=item.high, n=item.n)


def digits_of(summaries: Sequence[ArmSummary]) -> int:
    """Decimals for a column of means."""
    intervals = [item.interval for item in summaries]
    return decimals([i.high - i.value for i in intervals], [i.value for i in intervals])


def _interval(study: StudyView) -> str:
    return " with its 95% interval (Student's t)" if study.repeated else ""


def _note(study: StudyView, metric: str, summaries: Sequence[ArmSummary]) -> str:
    counts = [item.interval.n for item in summaries]
    note = f"Mean over {span(counts, 'seed')}" if any(counts) else "No arm has a figure yet."
    if max(counts, default=0) > 1:
        note += " with its 95% interval (Student's t); sd: over seeds."
    elif any(counts):
        note += "; an interval, an sd and a test need 2."
    if study.manifest.folds:
        note += f" A seed's figure is its mean over {len(study.manifest.folds)} folds."
    if any(counts) and not all(counts):
        none = counts.count(0)
        note += f" {counted(none, 'arm')} {'has' if none == 1 else 'have'} no figure yet."
    compared = study.differences(metric)
    if any(item.comparison.n for item in compared):
        note += " Δ: mean paired difference to the baseline"
        tested = sum(finite(item.comparison.p) for item in compared)
        if tested:
            note += f", p two-sided, Holm-corrected over {counted(tested, 'comparison')}"
        note += "."
    diverged = [f"{item.arm} ({item.nan})" for item in summaries if item.nan]
    if diverged:
        note += f" Finished without a number, and left out: {', '.join(diverged)}."
    return note
