"""The tables of runs: what they cost, what went wrong, where each number comes from."""

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence

from tlx.base.nodes import mapping, texts
from tlx.report import data, kept_stages, reuse
from tlx.report.data import MANY_RUNS, StudyView
from tlx.report.formats import Column, Table
from tlx.results.record import Record

RUNS_DIR = "runs"
"""The folder of runs that every command takes unless told otherwise."""

SHARED = (
    " Computed, reused: activations of frozen parts, and decoded inputs of runs that have none. "
    "Spared: computing that the store saved, as each run measured it. Fused, jobs: how many of the "
    "n runs trained together with others, and in how many jobs; their wall time is a share of the "
    "job's, their memory the whole job's."
)


def cost(study: StudyView) -> Table:
    """What each arm cost: parameters, time, memory, steps; means over its finished runs."""
    columns = [
        Column(key="arm", label="Arm"),
        Column(key="trainable", label="Trainable", kind="count"),
        Column(key="total", label="Parameters", kind="count"),
        Column(key="wall_s", label="Wall time", kind="seconds"),
        Column(key="peak_memory_bytes", label="Peak memory", kind="bytes"),
        Column(key="steps", label="Steps", kind="count"),
        *kept_stages.columns_of_arms(),
        Column(key="budget_steps", label="Budget", kind="count"),
        Column(key="samples_per_s", label="Samples/s", kind="count"),
        *(reuse.columns_of_arms() if study.shared else []),
        Column(key="n", label="n", kind="count"),
    ]
    rows = []
    for arm in study.arms:
        found = study.finished(arm)
        sizes = [record.parameters for record in found if record.parameters]
        rows.append(
            [
                arm,
                mean(item.trainable for item in sizes),
                mean(item.total for item in sizes),
                mean(record.wall_s for record in found),
                mean(record.peak_memory_bytes for record in found),
                mean(record.used_steps for record in found),
                *kept_stages.of_arm(found),
                mean(record.budget_steps for record in found),
                mean(record.samples_per_s for record in found),
                *(reuse.of_arm(found) if study.shared else []),
                len(found),
            ]
        )
    note = (
        "Means over the n finished runs of each arm's chosen candidate. Kept: step of the weights "
        "that a run was judged by. Early: how many runs of several stages kept those of a stage "
        "before the last."
    )
    if study.shared:
        note += SHARED
    title = f"{study.manifest.study}: cost"
    return Table(name="cost", title=title, columns=columns, rows=rows, note=note)


def problems(study: StudyView) -> Table | None:
    """Runs that failed, stopped, are missing or unreadable; None where all went well."""
    columns = [
        Column(key="run", label="Run", kind="code"),
        Column(key="arm", label="Arm"),
        Column(key="seed", label="Seed", kind="count"),
        Column(key="status", label="Status"),
        Column(key="reason", label="Reason"),
    ]
    missing = set(study.missing)
    rows = []
    for planned in study.manifest.runs:
        record = study.records.get(planned.run)
        if record is None:
            status = "missing" if planned.run in missing else "unreadable"
            reason = "no record yet" if status == "missing" else _unreadable(study, planned.run)
        elif record.status != "finished":
            status, reason = record.status, first_line(record)
        else:
            continue
        rows.append([planned.run, planned.arm, planned.seed, status, reason])
    if not rows:
        return None
    title = f"{study.manifest.study}: runs without a result"
    return Table(name="problems", title=title, columns=columns, rows=rows, marked=False)


def runs(study: StudyView) -> Table:
    """Every run with all of its figures, its cost and its command."""
    every = list(
        dict.fromkeys(
            (split, metric)
            for record in study.records.values()
            for split, item in record.splits.items()
            for metric in item.metrics
        )
    )
    columns = [
        Column(key="run", label="Run", kind="code"),
        Column(key="arm", label="Arm"),
        Column(key="seed", label="Seed", kind="count"),
        Column(key="candidate", label="Tuned", kind="tuned"),
        Column(key="status", label="Status"),
        Column(key="selected", label="Best on val", kind="number", digits=4),
        *kept_stages.columns_of_runs(),
        Column(key="trainable", label="Trainable", kind="count"),
        Column(key="wall_s", label="Wall time", kind="seconds"),
        *(reuse.columns_of_runs() if study.shared else []),
        *(Column(key="/".join(pair), label="/".join(pair), kind="number") for pair in every),
        Column(key="command", label="Command", kind="line"),
    ]
    rows = []
    for planned in study.manifest.runs:
        record = study.records.get(planned.run)
        rows.append(
            [planned.run, planned.arm, planned.seed, planned.candidate,
             record.status if record else "missing", *_of_run(record),
             *(reuse.of_run(record) if study.shared else []),
             *(_figure(record, *pair) for pair in every), command(study, planned.overrides)]
        )  # fmt: skip
    title = f"{study.manifest.study}: every run"
    return Table(name="runs", title=title, columns=columns, rows=rows, prose=False)


def provenance(study: StudyView) -> Table:
    """Where each number comes from: run, code, machine, and the lines that give it again."""
    columns = [
        Column(key="run", label="Run", kind="code"),
        Column(key="kept", label="Kept", under="run"),
        *([Column(key="training", label="Training", under="run")] if study.shared else []),
        Column(key="arm", label="Arm"),
        Column(key="seed", label="Seed", kind="count"),
        Column(key="value", label=study.manifest.metric, kind="number", digits=4),
        Column(key="command", label="Train, and again", kind="command"),
        Column(key="rerun", label="Again", kind="line", under="command"),
        Column(key="commit", label="Commit, machine", kind="code"),
        Column(key="machine", label="Machine", under="commit"),
        Column(key="started", label="Started", under="commit"),
    ]
    rows = []
    for planned in study.manifest.runs[:MANY_RUNS]:  # a file each
        record = study.records.get(planned.run)
        facts = data.provenance(study, planned.run) if record else {}
        rows.append(
            [planned.run, kept_stages.hint(record),
             *([reuse.hint(record)] if study.shared else []), planned.arm, planned.seed,
             _figure(record, study.split, study.metric), command(study, planned.overrides),
             again(study, "rerun", planned.run), *_origin(facts)]
        )  # fmt: skip
    note = ""
    if study.many:
        note = f"The first {MANY_RUNS:,} of {len(study.manifest.runs):,} runs; runs.csv has all."
    title = f"{study.manifest.study}: provenance"
    return Table(
        name="provenance",
        title=title,
        columns=columns,
        rows=rows,
        note=note,
        marked=False,
        prose=False,
    )


def command(study: StudyView, overrides: Iterable[str]) -> str:
    """The line that trains a run with the study's own configs, quoted for a shell."""
    return shlex.join(["tlx", "train", *_config_dir(study.manifest.command), *overrides])


def again(study: StudyView, verb: str, *names: str) -> str:
    """A line on what is there already, `tlx rerun RUN`, quoted for a shell."""
    elsewhere = study.runs_dir.name != RUNS_DIR
    options = ["--runs-dir", str(study.runs_dir)] if elsewhere else []
    return shlex.join(["tlx", verb, *options, *names])


def _config_dir(line: Sequence[str]) -> list[str]:
    """`--config-dir X` of a line, the last one as argparse has it; empty where it has none."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--config-dir")
    folder = parser.parse_known_args(line)[0].config_dir
    return [] if folder is None else ["--config-dir", folder]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there; None where none is."""
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def first_line(record: Record) -> str:
    """Why a run ended, in a line."""
    lines = (record.error or "").strip().splitlines()
    return lines[0] if lines else "no reason recorded"


def _origin(facts: Mapping[str, object]) -> list[object]:
    """Commit, machine and start, as far as they are known."""
    code, machine = mapping(facts.get("code")), mapping(facts.get("hardware"))
    sha = str(code.get("sha", ""))[:10]
    if sha and code.get("dirty"):
        sha += " + changes"
    parts = [machine.get("system"), machine.get("machine")]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    gpus = texts(machine.get("gpus"))
    parts += [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    described = ", ".join(str(part) for part in parts if part)
    return [sha or None, described or None, str(facts.get("started", ""))[:16] or None]


def _unreadable(study: StudyView, run: str) -> str:
    return next((text for text in study.problems if run in text), "its record cannot be read")


def _of_run(record: Record | None) -> list[object]:
    if record is None:
        return [None] * 6
    return [
        record.selected.value if record.selected else None,
        *kept_stages.of_run(record),
        record.parameters.trainable if record.parameters else None,
        record.wall_s,
    ]


def _figure(record: Record | None, split: str, metric: str) -> float | None:
    found = record.splits.get(split) if record else None
    value = found.metrics.get(metric) if found else None
    return value.value if value else None
