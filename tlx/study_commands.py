"""What the commands on studies do: train, status, report, cancel, clean."""

import argparse
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tlx.base import disk, interrupts
from tlx.base.nodes import Node
from tlx.base.secrecy import masked
from tlx.base.shown import Lines
from tlx.config.run import Option, typed
from tlx.execution import rehearsal
from tlx.results import manifest as manifests
from tlx.results import reading, record
from tlx.sweeps import cleaning, driven
from tlx.sweeps import status as states
from tlx.sweeps.driver import Driver
from tlx.sweeps.slurm_task import SUBMITTED
from tlx.sweeps.studies import CANCEL, PlannedStudy, drive, study

if TYPE_CHECKING:
    from tlx.report.formats import Table

INTERRUPTED = interrupts.STATUS

IN_WANDB = ("claims", "main", "splits", "differences", "effects", "entities", "trials", "cost")
"""Tables that W&B shows; those that hold texts of the data stay here."""


def train(args: argparse.Namespace, *, config: Node | None = None) -> int:
    """Trains what is missing of a study, and prints its report."""
    made = study(
        args.overrides, config_dir=args.config_dir, multirun=args.multirun, force=args.force
    )
    if args.check:
        return _check(made, config)
    if args.dry_run:
        return _dry_run(made)
    own = ["--config-dir", args.config_dir] if args.config_dir else []
    line = ["tlx", "train", *(["-m"] if args.multirun else []), *own, *args.overrides]
    with disk.inside(made.runs_dir):
        driver = drive(made, command=line, retry_failed=args.retry_failed)
        if driver.stopping:
            print("stopped; the same command goes on from there")
            return INTERRUPTED
        return _conclude(made, driver)


def _conclude(made: PlannedStudy, driver: Driver) -> int:
    failures = _failures(driver)
    _show_report(made.folder, made.runs_dir, loggers=typed(made.plan.cells[0].config).logger)
    return failures


def _failures(driver: Driver) -> int:
    """1 where a run failed or could not be started, which its own line tells of."""
    states = Counter(task.state for task in driver.tasks.values())
    if states["blocked"] and not states["failed"]:
        print(f"not started: {states['blocked']}, of which each line says why")
    if states["failed"]:
        blocked = f", and {states['blocked']} that start from them" if states["blocked"] else ""
        print(
            f"failed: {states['failed']}{blocked}; the same line with --retry-failed starts again "
            "what failed"
        )
    return int(bool(states["failed"] or states["blocked"]))


def _check(made: PlannedStudy, config: Node | None) -> int:
    notes = rehearsal.rehearse((cell.arm, typed(cell.config)) for cell in made.plan.cells)
    if config is not None:
        print(yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True).rstrip())
    print("".join(f"# {note}\n" for note in notes), end="")
    for task in made.tasks:
        print(f"# run id: {task.run}  ({task.title})")
    return 0


def _dry_run(made: PlannedStudy) -> int:
    """Prints the runs, how many are done, and what the others will cost."""
    counts: Counter[str] = Counter()
    seconds: list[float] = []
    if made.space is not None:
        known = manifests.read(made.folder) if (made.folder / manifests.FILE).is_file() else None
        begun = len({run.trial for run in known.runs}) if known else 0
        print(f"a search of {made.space.node.trials} trials, {begun} of them begun")
    for task in made.tasks:
        status = reading.status_of(task.found.folder) or "missing"
        counts[status] += 1
        if status == "finished":
            seconds.append(record.read(task.found.folder).wall_s)
        print(f"{status:12} {task.title:40} {task.run}")
    print(f"{len(made.tasks)} runs: {', '.join(f'{n} {name}' for name, n in counts.items())}")
    if made.plan.max_seeds is not None:
        print(
            f"seeds are added to these, up to {made.plan.max_seeds} in all, for the arms of claims "
            "that are not decided"
        )
    left = len(made.tasks) - counts["finished"]
    if left and seconds:
        each = statistics.mean(seconds)
        print(
            f"the {left} others take about {left * each / 60:.1f} minutes of a worker's time, "
            f"{each:.1f} s each like the {len(seconds)} that are finished"
        )
    elif left:
        print("no run of it has finished yet, so that there is no estimate of the cost")
    return 0


def status(args: argparse.Namespace) -> int:
    """Prints how far studies are."""
    if not args.watch:
        print(states.text(args.study, runs_dir=args.runs_dir))
        return 0
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        while True:
            live.update(Text(states.text(args.study, runs_dir=args.runs_dir)), refresh=True)
            time.sleep(2)


def report(args: argparse.Namespace) -> int:
    """Writes a study's tables and page, and prints the main table."""
    folder = manifests.find(args.study, runs_dir=args.runs_dir)
    _show_report(folder, folder.parent.parent)
    return 0


def _show_report(
    folder: Path, runs_dir: Path, *, loggers: Mapping[str, Option] | None = None
) -> None:
    from tlx.report import build, data, terminal

    found = data.read(folder, runs_dir=runs_dir)
    width = shutil.get_terminal_size((100, 24)).columns
    print(terminal.of_study(found, max(width, 80), colour=sys.stdout.isatty()))
    built = build.of_study(found)
    if wandb := (loggers or {}).get("wandb"):
        _log_summary(wandb, folder, build.all_tables(found))
    print(f"tables: {folder / build.TABLES}")
    print(f"report: {built.html}")


def _log_summary(option: Option, folder: Path, tables: "Mapping[str, Table]") -> None:
    """Shows a study's tables in W&B, as a run of its own in the study's group."""
    from tlx.building.calls import instantiate
    from tlx.report import writing
    from tlx.training.logs.run_logger import RunInfo

    info = RunInfo(
        id=f"study-{folder.name}",
        dir=folder,
        name=folder.name,
        group=folder.name,
        job_type="summary",
        config={"study": folder.name},
    )
    logger = instantiate(option, info)
    for name in IN_WANDB:
        if name in tables:
            columns, rows = writing.flat(tables[name])
            logger.log_view(name, partial(Lines, columns, rows))
    logger.finish("finished")


def cancel(args: argparse.Namespace) -> int:
    """Asks a study's drivers to stop."""
    folder = manifests.find(args.study, runs_dir=args.runs_dir)
    (folder / CANCEL).touch()
    runs_dir = folder.parent.parent
    own = [runs_dir / run.run for run in manifests.read(folder).runs]
    if jobs := [path for path in own if (path / SUBMITTED).is_file()]:
        from tlx.sweeps import slurm

        print(f"asked: {slurm.cancel(jobs)} jobs of Slurm's are ended, those that run save first")
    print(f"asked: the drivers of {folder.name} let their runs save, and stop, within seconds")
    return 0


def clean(args: argparse.Namespace) -> int:
    """Lists what can go of a study; deletes it with --yes, while nobody is at work on it.

    Raises:
        Busy: somebody is; it says who.
    """
    folder = manifests.find(args.study, runs_dir=args.runs_dir)
    runs_dir, study, own = folder.parent.parent, folder.name, cleaning.run_names(folder)
    if args.yes:
        with driven.alone(runs_dir, study, own):
            return _list_disposable(folder, whole_runs=args.runs, delete=True)
    _list_disposable(folder, whole_runs=args.runs)
    if others := driven.at_work(runs_dir, study, own):
        print(driven.busy_text(study, others))
    return 0


def _list_disposable(folder: Path, *, whole_runs: bool, delete: bool = False) -> int:
    found = cleaning.disposable(folder, whole_runs=whole_runs)
    for path, size in found:
        print(f"{size / 1e6:10.1f} MB  {path}")
    total = sum(size for _, size in found)
    if not found:
        print("nothing to delete")
    elif not delete:
        print(f"{total / 1e6:10.1f} MB in all; --yes deletes it")
    else:
        for path, _ in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"{total / 1e6:10.1f} MB deleted")
    return 0
