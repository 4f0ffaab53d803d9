"""How much a file that somebody else wrote may ask for; looked at before it is read.

A few kilobytes can stand for gigabytes: aliases of aliases, nesting without end, zeros that were
packed, a number of layers. What is over a bound is refused with the bound.
"""

import json
import os
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

MOST_YAML_BYTES = 4_000_000
MOST_NODES = 50_000
"""Of one YAML file, aliases written out: the list of ImageNet-21k's classes has 22,000."""
MOST_DEPTH = 50
MOST_JSON_BYTES = 200_000_000
"""The largest tokenizers have 40 MB."""
MOST_UNPACKED = 4.0
"""Times its own size that a file of weights may unpack to; weights hardly shrink."""
FREE_BYTES = 100_000_000
"""What a packed file may unpack to in any case."""

MOST_TENSORS = 100_000
"""The largest mixtures of experts have 92,000 in all their files."""
MOST_NAME = 1_000
"""Characters of a tensor's name."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_BY_NAME: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"n_?layers?|num_.*layers|.*_layers|.*depth|num_.*blocks|n_blocks"), 1_000),
    (re.compile(r".*heads?|n_groups|num_.*groups|.*experts"), 10_000),
    (re.compile(r".*vocab_size|max_position.*|n_positions|n_ctx|.*_length"), 1 << 31),
    (re.compile(r".*(size|dim|hidden|embd|inner|width|d_model|d_ff|ffn|features).*"), 10_000_000),
)
"""Names of entries of a network's config, and the most that they may be; the first fits."""


class TooMuch(ValueError):
    """A file asks for more than a bound."""


def require_yaml(text: str, place: str) -> None:
    """Passes a YAML text whose aliases, written out, stay within the bounds.

    It is read as a stream of events, so that nothing is built, and nothing recurses.

    Args:
        text: of the file.
        place: the file, for messages.

    Raises:
        TooMuch: it is too large, too deep, or stands for too much.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > MOST_YAML_BYTES:
        raise TooMuch(f"{place} has {len(text):,} characters; at most {MOST_YAML_BYTES:,} are read")
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and nodes that were there before it
    nodes = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise TooMuch(f"{place}: *{event.anchor} stands inside of what it stands for")
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before
        if nodes > MOST_NODES:
            raise TooMuch(
                f"{place} stands for more than {MOST_NODES:,} values, aliases written out"
            )
        if len(open_nodes) > MOST_DEPTH:
            raise TooMuch(f"{place} is nested more than {MOST_DEPTH} deep")


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        TooMuch: it is too large, or nested too deep.
        OSError, ValueError: it cannot be read.
    """
    if (size := path.stat().st_size) > MOST_JSON_BYTES:
        raise TooMuch(f"{path} has {size:,} bytes; at most {MOST_JSON_BYTES:,} are read")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise TooMuch(f"{path} is nested too deep to be read") from error


def read_object(path: Path) -> dict[str, object]:
    """The content of a JSON file that holds a mapping.

    Raises:
        TooMuch: it is too large, or nested too deep.
        OSError, ValueError: it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping of names to values")
    return content


def require_numbers(config: Mapping[str, object], place: str) -> None:
    """Passes a network's config without numbers that would build for ever, or fill any memory.

    Raises:
        TooMuch: a number is over its bound.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            require_numbers(value, f"{place}: {key}")
        items = value if isinstance(value, list) else [value]
        numbers = [item for item in items if isinstance(item, int | float) and item == item]
        if not numbers:
            continue
        most = next((most for name, most in MOST_BY_NAME if name.fullmatch(key)), None)
        if most is not None and max(numbers) > most:
            raise TooMuch(f"{place}: {key} is {max(numbers):,}; at most {most:,} is built")


def require_unpacked(path: Path) -> None:
    """Passes a file of weights that unpacks to about its own size; others than zips pass.

    Raises:
        TooMuch: it is packed, and stands for many times its size.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # what is wrong with it is said where it is read
    size = path.stat().st_size
    if unpacked > max(MOST_UNPACKED * size, FREE_BYTES) or unpacked > 2 * memory():
        raise TooMuch(
            f"{path} has {size:,} bytes and unpacks to {unpacked:,}; at most "
            f"{MOST_UNPACKED:g} times its size is read: torch.save packs nothing, save it anew"
        )


def require_names(names: Collection[str], path: Path) -> None:
    """Passes the tensors of a file, by their names, where they are as many as a network has.

    Raises:
        TooMuch: there are too many, or a name is too long.
    """
    if len(names) > MOST_TENSORS:
        raise TooMuch(f"{path} has {len(names):,} tensors; at most {MOST_TENSORS:,} are read")
    if (longest := max(map(len, names), default=0)) > MOST_NAME:
        raise TooMuch(
            f"{path} has a name of {longest:,} characters; at most {MOST_NAME:,} are read"
        )


def require_stored(bytes_: int, path: Path) -> None:
    """Passes tensors that are about as large as the file that holds them.

    Args:
        bytes_: of all of them, written out: a tensor may be a number that is said to be repeated.
        path: the file.

    Raises:
        TooMuch: they stand for many times its size.
    """
    size = path.stat().st_size
    if bytes_ > max(MOST_UNPACKED * size, FREE_BYTES):
        raise TooMuch(
            f"{path} has {size:,} bytes and its tensors stand for {bytes_:,}; at most "
            f"{MOST_UNPACKED:g} times its size is read: write them out (contiguous, dense), and "
            "save them anew"
        )


def require_memory(bytes_: int, what: str) -> None:
    """Passes what fits into this machine's memory.

    Raises:
        TooMuch: it does not.
    """
    if bytes_ > memory():
        raise TooMuch(
            f"{what} needs {bytes_ / 2**30:,.1f} GiB; this machine has {memory() / 2**30:,.1f} GiB"
        )


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
