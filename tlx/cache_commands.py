"""What `tlx cache` does: list, verify and clear stored activations."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tlx.base.nodes import mapping, texts
from tlx.frozen import entries
from tlx.frozen.entries import Entry, StoreError

DAY_S = 86_400.0


def guarded(args: argparse.Namespace) -> int:
    """Runs an action; mistakes of the person end in a message, not in a traceback."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": show,
        "verify": verify,
        "clear": clear,
    }
    try:
        return actions[args.action](args)
    except (StoreError, ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"tlx cache {args.action}: {error}", file=sys.stderr)
        return 2


def show(args: argparse.Namespace) -> int:
    """Prints the entries of a store, last used first."""
    found = entries.entries(args.dir)
    for entry in found:
        print(f"{_line(entry)}{'  in use' if entry.in_use else ''}")
        print(f"{'':15}{_facts(entry.facts)}")
    total = sum(entry.bytes for entry in found)
    print(f"{total / 1e6:10.1f} MB in {len(found)} entries in {args.dir}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Compares all segments with their checksums; 1 where one is damaged and not deleted."""
    left = count = 0
    for path in entries.paths(args.dir):
        damaged = entries.faults(path)
        count += 1
        for why in damaged.values():
            print(f"{path.name}: {why}")
        if args.repair:
            entries.repair(path, list(damaged), say=print)
            for file in damaged:
                print(f"{path.name}: {file.name} deleted; the next run makes it again")
        else:
            left += len(damaged)
    if left:
        print(f"damaged: {left}; --repair deletes it, and the next run makes it again")
    else:
        print(f"{count} entries in {args.dir} are whole")
    return int(left > 0)


def clear(args: argparse.Namespace) -> int:
    """Lists entries that can go; deletes them with --yes."""
    entries.sweep(args.dir)
    found = _chosen(args)
    for entry in found:
        if entry.in_use:
            print(f"{_line(entry)}  stays, as it is in use")
    free = [entry for entry in found if not entry.in_use]
    for entry in free:
        print(_line(entry))
    total = sum(entry.bytes for entry in free)
    if not free:
        print("nothing to delete")
    elif not args.yes:
        print(f"{total / 1e6:10.1f} MB in all; --yes deletes it")
    else:
        gone = [entry for entry in free if entries.remove(entry.path)]
        for entry in free:
            if entry not in gone:
                print(f"{_line(entry)}  stays, as it is now in use")
        print(f"{sum(entry.bytes for entry in gone) / 1e6:10.1f} MB deleted")
    return 0


def _chosen(args: argparse.Namespace) -> list[Entry]:
    """The entries that the options name.

    Raises:
        ValueError: none, or several, begin with the key.
    """
    found = entries.entries(args.dir)
    if args.key is not None:
        all_of_them, found = found, [e for e in found if e.path.name.startswith(args.key)]
        if len(found) != 1:
            names = "\n  ".join(entry.path.name for entry in all_of_them)
            raise ValueError(f"{args.key!r} begins {len(found)} entries of {args.dir}:\n  {names}")
    if args.unused_days is not None and found:
        before = _now(args.dir) - DAY_S * args.unused_days
        found = [entry for entry in found if entry.used < before]
    return found


def _now(folder: Path) -> float:
    """The time by the clock that dates the files of a folder, which may be a server's."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".now-") as file:
        return os.stat(file.name).st_mtime


def _line(entry: Entry) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    size = f"{entry.bytes / 1e6:10.1f} MB"
    return f"{size}  {entry.path.name}  {entry.items:8} items  last used {when}"


def _facts(identity: Mapping[str, object]) -> str:
    """What rows depend on, in one line."""
    if not identity:
        return f"{entries.FACTS} is damaged"
    shape = "×".join(texts(identity["shape"])) or "1"
    facts = [f"{name}={_plain(value)}" for name, value in mapping(identity["facts"]).items()]
    return ", ".join([*facts, f"rows {shape} {identity['dtype']}"])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
