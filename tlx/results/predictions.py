"""predictions/*.csv: one line an item, its id first, as the csv module would write it."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    lines: list[str] = []
    for identity, row in zip(ids, rows, strict=True):
        if not lines:
            lines.append(",".join(map(_cell, ("id", *row))))
        cells = [_cell(identity)]
        for value in row.values():
            kind = type(value)
            if kind is str:
                text = known.get(value)
                if text is None:
                    text = known[value] = _cell(value)
                cells.append(text)
            elif kind is dict:
                cells.append(_mapping(value, known))
            else:
                cells.append(_cell(value))
        lines.append(",".join(cells))
    text = "".join([f"{line}\r\n" for line in lines])
    path.write_bytes(text.encode())


def _mapping(value: Mapping[str, Any], known: dict[str, str]) -> str:
    """A mapping as a cell; those of names and numbers, by far the most, faster than by `json`."""
    parts = []
    for name, number in value.items():
        if type(number) is not float or type(name) is not str or number - number != 0:
            return _cell(value)
        key = "\0" + name  # beside the texts that are cells
        text = known.get(key)
        if text is None:
            text = known[key] = json.dumps(name).replace('"', '""') + ": "
        parts.append(text + repr(number))
    return '"{' + ", ".join(parts) + '}"' if parts else "{}"


def _cell(value: Any) -> str:
    """A cell as csv.writer writes it, in its dialect `excel`."""
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    if QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text
