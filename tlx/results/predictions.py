"""predictions/: a CSV with one line an item, its id first; tags in columns as well.

CSV is written as the csv module would write it.
"""

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.base import durable, sealed

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""As `json` spells them."""

QUOTED = re.compile(r'[,"\r\n]')
LONGEST_TEXT = 300
"""Characters of an item's text that its line holds; the data has the whole of it."""
SAMPLES = "samples.json"


def write(path: Path, ids: Iterable[Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a line an item; mappings and lists are JSON, None is empty.

    Args:
        path: of the file, whose folder is made where it is missing.
        ids: of the items.
        rows: of the items, all with the same keys.

    Raises:
        ValueError: there are more ids than rows, or fewer.
    """
    lines: list[str] = []
    for identity, row in zip(ids, rows, strict=True):
        if not lines:
            lines.append(",".join(map(_cell, ("id", *row))))
        lines.append(",".join(map(_cell, (identity, *row.values()))))
    _save(path, "".join([f"{line}\r\n" for line in lines]))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Predictions that are classes, with probabilities of the K likeliest of C.

    Attributes:
        names: of the classes.
        labels: true class of each item.
        predicted: predicted class of each item, -1 for none.
        classes: K columns: of each item its likeliest class, the next, ...
        values: K columns: their probabilities.
    """

    names: Sequence[str]
    labels: Sequence[int]
    predicted: Sequence[int]
    classes: Sequence[Sequence[int]]
    values: Sequence[Sequence[float]]


def write_ranked(
    path: Path, ids: Iterable[Any], found: Ranked, *, texts: Sequence[str] | None = None
) -> None:
    """Writes what `write` would of `label`, `prediction`, `probabilities`, column by column.

    Args:
        path: of the file, whose folder is made where it is missing.
        ids: of the items.
        found: what was predicted.
        texts: of the items, as the last column `text`; None: no such column.

    Raises:
        ValueError: there are more ids or texts than items, or fewer.
    """
    cells = [_cell(name) for name in found.names]
    keys = [json.dumps(name).replace('"', '""') for name in found.names]
    starts = [
        f'{_cell(identity)},{cells[label]},{cells[predicted] if predicted >= 0 else ""},"{{'
        for identity, label, predicted in zip(ids, found.labels, found.predicted, strict=True)
    ]
    ranks = len(found.values)
    parts = [""] * (len(starts) * (2 * ranks + 2))
    width = 2 * ranks + 2
    parts[::width] = starts
    ends = [""] * len(starts) if texts is None else [f",{_cell(text)}" for text in texts]
    parts[width - 1 :: width] = [f'}}"{end}\r\n' for end in ends]
    for rank, (classes, values) in enumerate(zip(found.classes, found.values, strict=True)):
        before = [f"{', ' if rank else ''}{key}: " for key in keys]
        parts[2 * rank + 1 :: width] = [before[c] for c in classes]
        parts[2 * rank + 2 :: width] = _numbers(values)
    head = f"id,label,prediction,probabilities{'' if texts is None else ',text'}\r\n"
    _save(path, head + "".join(parts) if starts else "")


def excerpt(text: str | Sequence[str]) -> str:
    """The beginning of a text, or of each of several, of `LONGEST_TEXT` characters in all.

    >>> excerpt("short"), excerpt(("one", "other")), len(excerpt("x" * 1000))
    ('short', 'one ‖ other', 300)
    """
    parts = [text] if isinstance(text, str) else list(text)
    room = LONGEST_TEXT // max(len(parts), 1)
    cut = [part if len(part) <= room else f"{part[: room - 1]}…" for part in parts]
    return " ‖ ".join(cut)


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file that `write` or `write_ranked` wrote; none where it is missing.

    Raises:
        Damaged: it is not what the run wrote.
    """
    if not path.is_file():
        return []
    with _reading(path), open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a line has more cells than the first, or fewer")
        if rows and "id" not in rows[0]:
            raise ValueError("the first line names no column id")
    return rows


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Compares a file with its seal; what is raised while it is read names the file."""
    sealed.check(path)
    try:
        yield
    except (ValueError, csv.Error, RecursionError) as error:
        raise sealed.Damaged(f"{path} is damaged ({error})", folder=path.parent.parent) from error


def read_tags(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """True and predicted tags of each sentence of a .conll file; none where it is missing.

    Raises:
        Damaged: it is not what the run wrote.
    """
    if not path.is_file():
        return [], []
    with _reading(path):
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        rows = [[line.rsplit(" ", 2) for line in block.split("\n") if line] for block in blocks]
        sentences = [sentence for sentence in rows if sentence]
        if any(len(row) != 3 for sentence in sentences for row in sentence):
            raise ValueError("a line is not a word and two tags")
    target, predicted = ([[row[i] for row in each] for each in sentences] for i in (1, 2))
    return target, predicted


def _save(path: Path, text: str) -> None:
    # synced with all else that the run leaves, before its record
    durable.write(path, text, sync=False)


def _numbers(values: Sequence[float]) -> list[str]:
    texts = list(map(repr, values))
    if math.isfinite(sum(values)):
        return texts
    return [NOT_FINITE.get(text, text) for text in texts]


def _cell(value: Any) -> str:
    """A cell as csv.writer writes it, in its dialect `excel`."""
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    if QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def write_samples(folder: Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """Writes what a language model wrote into the folder of predictions."""
    text = json.dumps(list(samples), indent=1, ensure_ascii=False)
    _save(folder / SAMPLES, f"{text}\n")


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """What a language model wrote; nothing where there is no such file.

    Raises:
        Damaged: it is not what the run wrote.
    """
    path = folder / SAMPLES
    if not path.is_file():
        return []
    with _reading(path):
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and {"prompt", "continuations"} <= each.keys() for each in found
        ):
            raise ValueError("it holds no list of prompts and continuations")
    return found
