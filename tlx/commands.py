"""What each command does; imported only once a command is known."""

import argparse
import csv
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import yaml

from tlx import study_commands
from tlx.base import interrupts
from tlx.base.ends import Interrupted
from tlx.base.secrecy import masked, masked_text
from tlx.config.check import CheckError
from tlx.config.compose import Composer, compose
from tlx.config.keys import value_at
from tlx.config.run import typed
from tlx.execution import execute, preparing, rehearsal, runs
from tlx.execution.lineage import finished
from tlx.results.record import Record

INTERRUPTED = interrupts.STATUS

TRAINING = frozenset(("train", "sweep"))

ROUNDING = 1e-4
"""How far figures of a run may be from those of the same run trained in other company."""


def guarded(args: argparse.Namespace) -> int:
    """Runs a command; mistakes of the person end in a message, not in a traceback."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "train": train,
        "sweep": train,
        "status": study_commands.status,
        "report": study_commands.report,
        "cancel": study_commands.cancel,
        "clean": study_commands.clean,
        "evaluate": evaluate,
        "predict": predict,
        "rerun": rerun,
        "export": export,
        "list": list_options,
        "init": init,
        "doctor": doctor,
    }
    try:
        with interrupts.at_work():
            return commands[args.command](args)
    except (CheckError, runs.RunError, ValueError, OSError) as error:
        if args.debug:
            raise
        print(masked_text(f"tlx {args.command}: {error}"), file=sys.stderr)
        return 2
    except (interrupts.Stopped, KeyboardInterrupt):
        again = "; the same command goes on from the last checkpoint" * (args.command in TRAINING)
        print(f"\nstopped{again}", file=sys.stderr)
        return INTERRUPTED
    except Interrupted as stop:
        print(f"{stop}; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if args.debug:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        print(
            masked_text(f"tlx {args.command}: {type(error).__name__}: {error}") + f"\n  at {place} "
            "(tlx --debug shows the whole traceback)",
            file=sys.stderr,
        )
        return 1


def train(args: argparse.Namespace) -> int:
    """Trains one run, or every run of a study."""
    if args.multirun:
        return study_commands.train(args)
    config = compose(args.overrides, config_dir=args.config_dir)
    if config.get("study"):
        return study_commands.train(args, config=config)
    if args.dry_run or args.retry_failed:
        wrong = "--dry-run" if args.dry_run else "--retry-failed"
        raise ValueError(f"{wrong} is for studies; this line is one run (--check shows it)")
    if args.check:
        run = typed(config)
        run_id = execute.identify(run, config_dir=args.config_dir)
        notes = rehearsal.rehearse([("", run)])
        print(yaml.safe_dump(masked(config), sort_keys=False, allow_unicode=True).rstrip())
        print("".join(f"# {note}\n" for note in notes), end="")
        for key, source in Composer(args.config_dir).derived(args.overrides).items():
            print(f"# {key}={value_at(config, key)}: {source}")
        print(f"# run id: {run_id}")
        return 0
    execute.run(config, force=args.force, overrides=args.overrides, config_dir=args.config_dir)
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Evaluates a finished run, on its own data or on what the overrides say."""
    from tlx.use.evaluate import evaluate

    folder = runs.find(args.run, runs_dir=args.runs_dir)
    found = evaluate(folder, overrides=args.overrides, config_dir=args.config_dir)
    for split, report in found.items():
        for name, value in report["metrics"].items():
            low, high = value["low"], value["high"]
            # items that all agree on a figure without a highest value leave no interval
            ends = "no interval" if math.isnan(low) else f"{low:.4f}, {high:.4f}"
            print(f"{split}/{name}  {value['value']:.4f}  [{ends}]  n = {value['n']}")
    return 0


def predict(args: argparse.Namespace) -> int:
    """Predicts files with a finished run."""
    from tlx.use.predict import Predictor

    rows = Predictor(runs.find(args.run, runs_dir=args.runs_dir)).predict(args.inputs)
    if args.output is None:
        write_rows(sys.stdout, rows)
        return 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with open(args.output, "w", encoding="utf-8", newline="") as file:
        write_rows(file, rows)
    return 0


def write_rows(file: TextIO, rows: list[dict[str, Any]]) -> None:
    """Writes rows as CSV; what is not one value, such as all probabilities, as JSON."""
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {k: json.dumps(v) if isinstance(v, Mapping) else v for k, v in row.items()}
        writer.writerow(plain)


def rerun(args: argparse.Namespace) -> int:
    """Trains a run anew from its frozen config, and compares the figures; 1 where they differ."""
    folder = runs.find(args.run, runs_dir=args.runs_dir)
    before = finished(folder)
    if before is None:
        raise runs.RunError(f"{folder.name} has not finished; train it first")
    run = runs.read_run(folder)
    into = args.into or folder.parent / "rerun"
    after = execute.rerun(run, into=into, parents=folder.parent, original=folder)
    for line in preparing.changed_inputs(folder, run):
        print(line)
    different = 0
    stored = any(stage.boundary not in (None, "input") for stage in before.stages)
    allowed = ROUNDING if before.fused_with or stored else 0.0
    for split, found in before.splits.items():
        for name, value in found.metrics.items():
            if split not in after.splits or name not in after.splits[split].metrics:
                different += 1
                print(f"{split}/{name}  {value.value:.6f}  again nothing")
                continue
            again = after.splits[split].metrics[name].value
            mark = _likeness(value.value, again, allowed=allowed)
            different += mark.startswith("differs")
            print(f"{split}/{name}  {value.value:.6f}  again {again:.6f}  {mark}")
    if different:
        print(f"{different} figures differ")
    elif allowed:
        print(f"every figure is equal up to rounding, {allowed:g}: {_why_rounding(before)}")
    else:
        print("every figure is equal")
    return int(different > 0)


def _likeness(before: float, again: float, *, allowed: float) -> str:
    """Whether a figure is the same as it was, in words."""
    if before == again or (before != before and again != again):
        return "equal"
    near = abs(again - before) <= allowed
    return f"{'rounding' if near else 'differs by'} {again - before:+.3g}"


def _why_rounding(before: Record) -> str:
    if before.fused_with:
        return f"it was trained as one with {len(before.fused_with)} others, and now alone"
    return "its stored activations were computed in other batches"


def export(args: argparse.Namespace) -> int:
    """Writes weights and config that timm, transformers or peft loads."""
    from tlx.use.export import export as write

    folder = runs.find(args.run, runs_dir=args.runs_dir)
    into = args.into or folder / "export"
    for path in write(folder, into=into, onnx=args.onnx, adapter=args.adapter):
        print(path)
    return 0


def list_options(args: argparse.Namespace) -> int:
    """Prints the options of a group with the first line of their comments."""
    from tlx.config import listing

    print(listing.text(args.group, config_dir=args.config_dir, runs_dir=args.runs_dir))
    return 0


def init(args: argparse.Namespace) -> int:
    """Writes a project of one's own."""
    from tlx import init_command

    print(init_command.text(init_command.init(args.folder)))
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Prints versions, devices and known bad pairings; 1 where something needs mending."""
    from tlx import diagnose

    found = diagnose.examine()
    print(diagnose.text(found))
    return int(bool(found.problems))
