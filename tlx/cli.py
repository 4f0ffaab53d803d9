"""The `tlx` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tlx import __version__
from tlx.base import interrupts

EPILOG = """\
examples:
  tlx train dataset=digits backbone=resnet10t freeze_strategy=lp_ft
  tlx train dataset=image_folder dataset.root=photos backbone=resnet50 'augmentation=[standard]'
  tlx train experiment=glyphs_to_digits
  tlx list freeze_strategy
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    args = parsed(argv)
    if interrupts.REQUESTS.install() and argv is not None:  # called, not started: it goes on
        try:
            return performed(args)
        finally:
            interrupts.REQUESTS.restore()
    return performed(args)


def performed(args: argparse.Namespace) -> int:
    """Runs the command that the arguments name; returns the exit status."""
    if args.command is None:
        parser().print_help()
        return 0
    if args.command == "cache":  # needs nothing of what the others import
        from tlx import cache_commands

        return cache_commands.guarded(args)
    from tlx import commands

    return commands.guarded(args)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; overrides may stand before, between and after the options."""
    line = parser()
    args, rest = line.parse_known_args(argv)
    # argparse ends a list of positional arguments at the first option
    if rest and (wrong := [text for text in rest if text.startswith("-")]):
        line.error(f"no such option: {' '.join(wrong)} (tlx {args.command or ''} --help)")
    if rest and not hasattr(args, "overrides"):
        line.error(f"too many arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def parser() -> argparse.ArgumentParser:
    """The command line, built without importing anything heavy."""
    main = argparse.ArgumentParser(
        prog="tlx",
        description="Transfer-learning experiments: composed, checked, resumed, compared.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    main.add_argument("--version", action="version", version=f"tlx {__version__}")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")

    train = commands.add_parser("train", help="train one run, or all runs of an experiment")
    train.add_argument(
        "-m", "--multirun", action="store_true", help="train a run for each combination of values"
    )
    _training(train)
    sweep = commands.add_parser("sweep", help="the same as train -m")
    _training(sweep)
    sweep.set_defaults(multirun=True)

    status = commands.add_parser("status", help="what of a study is done, running, failed, and why")
    _study(status, optional=True)
    status.add_argument("--watch", action="store_true", help="again every two seconds")

    report = commands.add_parser("report", help="a study's tables, and its page")
    _study(report)

    cancel = commands.add_parser("cancel", help="ask the drivers of a study to save and stop")
    _study(cancel)

    clean = commands.add_parser("clean", help="what could be deleted of a study; --yes deletes it")
    _study(clean)
    clean.add_argument(
        "--runs", action="store_true", help="whole runs that no other study has, not only files"
    )
    clean.add_argument("--yes", action="store_true", help="delete it")

    evaluate = commands.add_parser("evaluate", help="evaluate a run on its own or other data")
    _run(evaluate)
    _composing(evaluate)

    predict = commands.add_parser("predict", help="predict with a run: files or texts to labels")
    _run(predict)
    predict.add_argument("inputs", nargs="+", help="files, or folders of files; texts")
    predict.add_argument("--output", type=Path, help="a CSV file; default: standard output")

    rerun = commands.add_parser("rerun", help="train a run anew from its frozen config and compare")
    _run(rerun)
    rerun.add_argument("--into", type=Path, help="runs folder of the copy; default: RUNS_DIR/rerun")

    export = commands.add_parser("export", help="write weights and config that timm loads")
    _run(export)
    export.add_argument("--into", type=Path, help="folder; default: the run's own export/")
    export.add_argument("--onnx", action="store_true", help="write model.onnx too")
    export.add_argument(
        "--adapter",
        choices=("merge", "alone"),
        default="merge",
        help="adapters (LoRA) in the weights, or alone, as peft loads them",
    )

    lists = commands.add_parser("list", help="the options of a config group, or all groups")
    lists.add_argument("group", nargs="?", help="backbone, dataset, ...; experiment; runs; targets")
    lists.add_argument("--config-dir", help="folder with your own groups and experiments")
    lists.add_argument("--runs-dir", default="runs")

    cache = commands.add_parser("cache", help="stored activations: list, verify or clear them")
    _cache(cache)

    init = commands.add_parser(
        "init", help="write a project with code of your own that runs at once"
    )
    init.add_argument("folder", type=Path, help="where to write it; its name is its module's")

    commands.add_parser("doctor", help="versions, devices, known bad pairings and how to mend them")
    return main


def _training(command: argparse.ArgumentParser) -> None:
    _composing(command)
    command.add_argument("--force", action="store_true", help="train again what is finished")
    command.add_argument(
        "--check", action="store_true", help="check the config, print it and its run id, and stop"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the runs of a study, what is done, the cost"
    )
    command.add_argument(
        "--retry-failed", action="store_true", help="start the failed runs of a study again"
    )


def _study(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    command.add_argument(
        "study",
        nargs="?" if optional else None,
        help="its name, or a part of it that is unique" + (" (default: all)" if optional else ""),
    )
    command.add_argument("--runs-dir", default="runs", help="where runs live")


def _cache(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    lists = actions.add_parser("list", help="what is stored, of which network, when last used")
    verify = actions.add_parser("verify", help="compare all with its checksums; 1 where damaged")
    verify.add_argument("--repair", action="store_true", help="delete what is damaged")
    clear = actions.add_parser("clear", help="what could be deleted; --yes deletes it")
    clear.add_argument("key", nargs="?", help="one entry's, or its beginning (default: all)")
    clear.add_argument("--unused-days", type=float, help="only what was not used for these days")
    clear.add_argument("--yes", action="store_true", help="delete it")
    for action in (lists, verify, clear):
        action.add_argument("--dir", type=Path, default=Path("runs/.cache"), help="the store")


def _composing(command: argparse.ArgumentParser) -> None:
    command.add_argument("overrides", nargs="*", help="group=option, key.sub=value, ...")
    command.add_argument("--config-dir", help="folder with your own groups and experiments")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", help="run id, a part of it that is unique, or the run's folder")
    command.add_argument("--runs-dir", default="runs", help="where runs live")


if __name__ == "__main__":
    sys.exit(main())
