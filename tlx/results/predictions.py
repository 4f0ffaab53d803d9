"""predictions/*.csv: one line an item, its id first, as the csv module would write it."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""As `json` spells them."""

QUOTED = re.compile(r'[,"\r\n]')


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


def write_ranked(path: Path, ids: Iterable[Any], found: Ranked) -> None:
    """Writes what `write` would of `label`, `prediction`, `probabilities`, column by column.

    Raises:
        ValueError: there are more ids than items, or fewer.
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
    parts[width - 1 :: width] = ['}"\r\n'] * len(starts)
    for rank, (classes, values) in enumerate(zip(found.classes, found.values, strict=True)):
        before = [f"{', ' if rank else ''}{key}: " for key in keys]
        parts[2 * rank + 1 :: width] = [before[c] for c in classes]
        parts[2 * rank + 2 :: width] = _numbers(values)
    _save(path, "id,label,prediction,probabilities\r\n" + "".join(parts) if starts else "")


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


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
