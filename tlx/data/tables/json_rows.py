"""Rows of JSON: an object in each line, a list of objects, or columns; and fields within fields."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tlx.data.decoding import lines_of
from tlx.data.tables.separated import SeparatedTable

Numbered = tuple[int, dict[str, object]]


def rows(path: Path, text: str) -> SeparatedTable:
    """The rows of a file of JSON: of one value (see `whole`), or else of JSON lines.

    Raises:
        ValueError: the file is empty, or one value that is no table.
    """
    try:
        value = _parsed(text)
    except RecursionError:
        raise ValueError(f"{path}: JSON that is nested too deep to be read") from None
    except ValueError as error:
        if not text.lstrip().startswith("["):
            return lines(path, text)  # several values, one a line; if not, it names the line
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{path}{line}: no JSON: {error}") from None
    return whole(path, value)


def lines(path: Path, text: str) -> SeparatedTable:
    """The rows of JSON lines; what is wrong is listed.

    Raises:
        ValueError: the file is empty.
    """
    if text.lstrip().startswith("["):
        raise ValueError(f"{path} is a list, and no JSON lines; set dataset.format=json")
    held: list[Numbered] = []
    wrong: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            value = _parsed(line)
        except ValueError as error:
            wrong.append(f"{path.name}:{number}: no JSON: {error}")
            continue
        except RecursionError:
            wrong.append(f"{path.name}:{number}: JSON that is nested too deep to be read")
            continue
        if isinstance(value, dict):
            held.append((number, value))
        else:
            wrong.append(f"{path.name}:{number}: no object, as {{...}} is")
    return _table(path, held, wrong)


def whole(path: Path, value: object) -> SeparatedTable:
    """The rows of one value: a list of objects, or an object that holds one; or columns.

    Columns are lists of one length, or, as pandas writes them, objects with the same keys. Rows
    are counted from 1.

    Raises:
        ValueError: it is none of these.
    """
    items = value if isinstance(value, list) else _items(path, value)
    held: list[Numbered] = []
    wrong: list[str] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            held.append((number, item))
        else:
            wrong.append(f"{path.name}:{number}: no object, as {{...}} is")
    return _table(path, held, wrong)


def _items(path: Path, value: object) -> Sequence[object]:
    """The objects of the rows of one value that is no list."""
    fields = value if isinstance(value, dict) else {}
    lists = [key for key, held in fields.items() if _objects(held)]
    lengths = {len(held) if isinstance(held, list) else -1 for held in fields.values()}
    if len(lengths) == 1 and min(lengths) > 0 and len(lists) < len(fields):
        cells = zip(*fields.values(), strict=True)
        return [dict(zip(fields, each, strict=True)) for each in cells]
    if len(lists) == 1:
        items: list[object] = fields[lists[0]]
        return items
    if len(lists) > 1:
        raise ValueError(f"{path} holds several lists of objects: {', '.join(lists)}; part them")
    if fields and all(isinstance(held, dict) for held in fields.values()):
        indices = list(next(iter(fields.values())))
        if indices and all(list(held) == indices for held in fields.values()):
            return [{key: held[i] for key, held in fields.items()} for i in indices]
    if fields and not any(isinstance(held, dict) for held in fields.values()):
        return [fields]
    raise ValueError(
        f"{path} is no table: give a list of objects, as [{{...}}, {{...}}], an object in each "
        "line, or columns of one length"
    )


def _objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _parsed(text: str) -> object:
    """A value of JSON.

    Raises:
        ValueError: it is none, a key is there twice, or it has half a character.
    """
    value = json.loads(text, object_pairs_hook=_unique)
    json.dumps(value, ensure_ascii=False).encode()  # half characters, as "\\ud800"
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; of a key that is there twice, Python keeps the last without a word."""
    held = dict(pairs)
    if len(held) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} is there twice")
    return held


def _table(path: Path, held: Sequence[Numbered], wrong: Sequence[str]) -> SeparatedTable:
    if not held and not wrong:
        raise ValueError(f"{path} is empty")
    columns = list(dict.fromkeys(key for _, value in held for key in value))
    cells = [(number, [value.get(key) for key in columns]) for number, value in held]
    return SeparatedTable(path, columns, len(columns), cells, wrong)


# -- fields within fields -------------------------------------------------------------------------


def reached(table: SeparatedTable, names: Sequence[object]) -> SeparatedTable:
    """A table with further columns for names that are ways to inner fields, as `data.text`.

    Args:
        table: of a typed format.
        names: of columns; those that the table has, and positions, are left alone.
    """
    columns, rows = list(table.columns or ()), table.rows
    for name in dict.fromkeys(each for each in names if isinstance(each, str)):
        first, dot, rest = name.partition(".")
        if name in columns or not dot or columns.count(first) != 1:
            continue
        place, keys = columns.index(first), rest.split(".")
        cells = [_inner(fields[place], keys) for _, fields in rows]
        if all(cell is None for cell in cells):  # no such field: the name is refused as any other
            continue
        columns.append(name)
        rows = [
            (number, [*fields, cell]) for (number, fields), cell in zip(rows, cells, strict=True)
        ]
    return replace(table, columns=columns, width=len(columns), rows=rows)


def _inner(value: object, keys: Sequence[str]) -> object:
    """What a value holds below some keys, of lists positions; None: nothing.

    >>> _inner({"a": [{"b": 1}]}, ["a", "0", "b"]), _inner({"a": 1}, ["a", "b"])
    (1, None)
    """
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
