"""What the page says, in which order."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tlx.report import (
    curves,
    factors,
    kept_stages,
    plot_arms,
    plot_search,
    reuse,
    robustness,
    tables_runs,
    view,
)
from tlx.report.data import MANY_RUNS, StudyView
from tlx.report.figure import Figure, styles
from tlx.report.formats import Table
from tlx.report.numbers import bracket, counted, decimals, p_value, plain, shorten
from tlx.report.page import Card, Head, Listing, Part, listed
from tlx.report.tables_runs import first_line
from tlx.report.terminal import MARKS
from tlx.results import wording
from tlx.results.looks import ALPHA
from tlx.results.verdict import Verdict

HOW = (
    "Difference: mean of the first minus the second over seeds{interval}. A claim is "
    "held where a two-sided test, Holm-corrected over all claims, rejects at 0.05 in its "
    "direction; not held where it rejects in the other; undecided otherwise. Intervals are "
    "corrected as the verdicts are. {looks}"
)
AGAIN = (
    "Each number follows from the runs below. A run's command trains it under the same id, or "
    "finds that it is there; the line under it trains it again."
)
FOOT = (
    "Means are over seeds{interval}, n counts seeds. "
    "Differences are paired by seed. Hyperparameters were chosen on validation only."
)


def head(study: StudyView) -> Head:
    """The top of the page."""
    spec = study.manifest
    better = "higher" if spec.mode == "max" else "lower"
    facts = {
        "Design": spec.design.replace("_", " "),
        "Arms": f"{len(spec.arms):,}",
        "Seeds": f"{len(spec.seeds):,}",
        "Primary figure": f"{spec.metric} ({better} is better)",
        "Baseline": spec.baseline or "none",
        "Started": spec.created[:16].replace("T", " "),
    }
    return Head(
        counts=study.statuses,
        facts=facts,
        warnings=_warnings(study),
        verdicts=[_card(verdict) for verdict in study.verdicts],
        trouble=study.trouble,
        how=HOW.format(
            interval=", with its interval" if study.repeated else "", looks=wording.looks(spec)
        ),
        foot=FOOT.format(interval=", intervals are Student's t at 95%" if study.repeated else ""),
    )


def _card(verdict: Verdict) -> Card:
    digits = decimals([verdict.high - verdict.difference], [verdict.difference])
    facts = f"n = {counted(verdict.n, 'seed')}, {verdict.metric}"
    if not math.isnan(verdict.p):
        of = "" if verdict.alpha == ALPHA else f", of {verdict.alpha:g}"
        facts += f", p = {p_value(verdict.p)} (Holm {p_value(verdict.p_holm)}{of}), "
        facts += f"{verdict.test} test, interval at {100 * verdict.level:.4g}%"
    if verdict.margin:
        facts += f", against the claimed margin of {verdict.margin:g}"
    if verdict.missing:
        facts += f"; {counted(verdict.missing, 'seed')} without a figure"
    waits = wording.waiting(verdict) if verdict.waiting else ""
    notes = [text for text in (waits, verdict.note, wording.needed(verdict)) if text]
    needs = "; ".join(notes)
    return Card(
        kind=verdict.status.replace(" ", "-"),
        mark=MARKS.get(verdict.status, "?"),
        status=verdict.status,
        claim=verdict.claim,
        difference=plain(verdict.difference, digits, signed=True) if verdict.n else "no figure",
        interval=bracket(verdict.low, verdict.high, digits, signed=True),
        facts=facts.replace("= <", "< "),
        needs=needs[:1].upper() + needs[1:],
    )


def _warnings(study: StudyView) -> list[str]:
    texts = []
    without = {status: n for status, n in study.statuses.items() if status != "finished"}
    if without:
        listed = ", ".join(f"{n:,} {status}" for status, n in without.items())
        texts.append(
            f"{sum(without.values()):,} of {len(study.manifest.runs):,} runs gave no result "
            f"({listed}). Every figure rests on the runs that did; its n says how many."
            + _reasons(study)
        )
    diverged = [s for s in study.summaries(study.manifest.metric) if s.nan]
    if diverged:
        listed = ", ".join(f"{s.nan} of {s.arm}" for s in diverged[:10])
        texts.append(f"Runs that finished without a number, left out of the means: {listed}.")
    if earlier := kept_stages.warning(study):
        texts.append(earlier)
    few = [s for s in study.summaries(study.manifest.metric) if 0 < s.interval.n < 3]
    if few:
        which = f"{len(few):,} of {len(study.arms):,} arms rest{'s' if len(few) == 1 else ''}"
        if len(few) == len(study.arms):
            which = "All arms rest" if len(few) > 1 else "The one arm rests"
        says = "their intervals say little" if study.repeated else "there are no intervals"
        texts.append(f"{which} on fewer than 3 seeds: {says}.")
    if study.manifest.claims and (n := len(study.manifest.looks)) > 1:
        texts.append(
            f"The study was looked at {n} times, with more seeds each time. The verdicts account "
            "for that; the p and intervals of tables and figures are those of a single look."
        )
    if study.many:
        texts.append(
            f"The study has {len(study.manifest.runs):,} runs. Above {MANY_RUNS:,} the page draws "
            "and lists a part, and says where; the files in tables/ hold everything."
        )
    return texts


def _reasons(study: StudyView) -> str:
    """The commonest reasons of failed runs, as a sentence."""
    failed = (record for record in study.records.values() if record.status == "failed")
    found = Counter(first_line(record) for record in failed)
    listed = "; ".join(f"{shorten(text, 100)} ({n:,})" for text, n in found.most_common(3))
    return f" Commonest reasons of failure: {listed}." if listed else ""


def sections(study: StudyView, tables: Mapping[str, Table]) -> list[Part]:
    """The parts of the page that have something to show."""
    drawn = styles(study)

    def listing(name: str, **options: Any) -> list[Listing]:
        return [listed(tables[name], many=study.many, **options)] if name in tables else []

    searched, left_out = plot_search.figures(study)
    parts = [
        Part(
            name="problems", title="Runs without a result",
            items=listing("problems", closed="Which, and why"),
        ),
        Part(name="search", title="Search", text=left_out, items=[
            *searched, *listing("trials", heading="Trials"),
        ]),
        Part(name="results", title="Results", items=[
            *listing("main"), *(listing("splits") if len(study.splits) > 1 else []),
            *listing("folds"), *listing("ranks", heading="Ranks over datasets"),
        ]),
        Part(name="differences", title="Differences", items=[
            *_there(plot_arms.forest(study, drawn)),
            *listing("differences", closed="The same as a table"),
        ]),
        Part(name="effects", title="Factors", items=[
            *_there(factors.labels(study), factors.figure(study)),
            *listing("effects", heading="Levels of each factor"),
        ]),
        Part(name="curves", title="Learning curves", items=_there(curves.figure(study, drawn))),
        Part(name="robustness", title="Robustness",
             items=_there(robustness.robustness(study, drawn))),
        *view.parts(study, drawn),
        Part(name="cost", title="Cost", text=_cost(study), items=[
            *_there(plot_arms.tradeoff(study, drawn)), *listing("cost", heading="Cost by arm"),
        ]),
        Part(name="figures", title="Every figure",
             items=listing("figures", closed="Every split and figure of every arm",
                           endings=("csv", "parquet"))),
        Part(name="again", title="Getting it again", commands=again(study), text=AGAIN,
             items=listing("provenance", heading="Runs")),
    ]  # fmt: skip
    return [part for part in parts if part.items]


def _cost(study: StudyView) -> str:
    return " ".join(text for text in (reuse.sentences(study), kept_stages.line(study)) if text)


def _there(*figures: Figure | None) -> list[Figure]:
    return [figure for figure in figures if figure is not None]


def again(study: StudyView) -> list[tuple[str, str]]:
    """Commands that give the study and its report again."""
    name = study.manifest.study
    return [
        (shlex.join(study.manifest.command), "trains what is missing, then reports"),
        (tables_runs.again(study, "report", name), "this page and its tables"),
        (
            tables_runs.again(study, "rerun", "RUN"),
            "one run again, from its own frozen configuration",
        ),
    ]
