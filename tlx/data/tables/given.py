"""Files that a finished run is to predict: found in folders, and read as its own tables were."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tlx.data.decoding import refuse_empty
from tlx.data.listed import path_in, quoted
from tlx.data.split_names import SPLITS
from tlx.data.tables import rows as text_rows
from tlx.data.tables.items import USUAL_NAMES, place_of
from tlx.data.tables.rows import FORMATS
from tlx.data.tables.separated import Column, SeparatedTable
from tlx.data.tree import refuse_unwritable, visible_files

LOG = logging.getLogger(__name__)
Config = Mapping[str, object]
Usual = TypeVar("Usual", str, None)


def word_of(dataset: Config, key: str, usual: Usual) -> str | Usual:
    """An option that is a word, or what it is where nobody says so."""
    value = dataset.get(key)
    return value if isinstance(value, str) else usual


def column_of(dataset: Config, key: str, usual: Usual) -> Column | Usual:
    """An option that is a column, by name or position, or what it is where nobody says so."""
    value = dataset.get(key)
    return value if isinstance(value, str | int) else usual


def formats_of(dataset: Config, *, paths: bool = False) -> dict[str, str]:
    """Ending of a table -> its format: the usual ones, and those of the run's own tables.

    Args:
        dataset: of the run.
        paths: whether its tables hold paths of files.
    """
    form = dataset.get("format")
    if not str(dataset.get("_target_", "")).endswith("_csv"):
        return FORMATS
    named = endings_named(dataset)
    if not dataset.get("path"):
        named.discard("")  # `train` names train.csv
    if form is None:  # as the source takes what no ending tells
        return FORMATS | ({ending: "csv" for ending in named - {*FORMATS}} if paths else {})
    if not named and form in ("csv", "tsv"):
        named = {ending for ending, usual in FORMATS.items() if usual in ("csv", "tsv")}
    return FORMATS | dict.fromkeys(named, str(form))


def endings_named(dataset: Config) -> set[str]:
    """Endings of the tables that the run's options name."""
    names = [dataset["path"]] if dataset.get("path") else [dataset.get(key) for key in SPLITS]
    extra = dataset.get("extra")
    if not dataset.get("path") and isinstance(extra, Mapping):
        names += extra.values()
    return {Path(name).suffix.lower() for name in names if isinstance(name, str) and name}


def there(path: Path) -> Path:
    """The path.

    Raises:
        FileNotFoundError: nothing is there.
    """
    try:
        exists = path.exists()
    except OSError:  # too long for a name
        exists = False
    if not exists:
        raise FileNotFoundError(f"{path} does not exist")
    return path


def of_folder(
    folder: Path, endings: Collection[str] | None, *, also: Callable[[str], bool] | None = None
) -> list[Path]:
    """All visible files with one of the endings, or of a name that is right; it warns of others."""
    files = visible_files(folder)
    fitting = [
        path
        for path in files
        if endings is None or path.suffix.lower() in endings or (also and also(path.name))
    ]
    if len(fitting) < len(files):
        others = sorted(str(path) for path in set(files) - set(fitting))
        LOG.warning("%s: %d files are not used: %s", folder, len(others), quoted(others))
    return fitting


def paths_of(
    inputs: Iterable[str | Path], dataset: Config, *, endings: Collection[str], argument: str
) -> list[Path]:
    """Files that are an item each, by files, folders and tables.

    Args:
        inputs: files; folders, of which all visible files of the endings are taken; tables of
            paths.
        dataset: of the run, which says how a table is read.
        endings: of files that are items, in small letters.
        argument: of the source, that names the column of paths.

    Raises:
        FileNotFoundError: something is not there.
        ValueError: there are no files, or a table is wrong.
    """
    given, formats = list(inputs), formats_of(dataset, paths=True)
    paths: list[Path] = []
    for each in given:
        path = there(Path(each).expanduser())
        if path.is_dir():
            paths += of_folder(path, endings)
        elif path.suffix.lower() in formats:
            column = column_of(dataset, argument, "path")
            table = read_table(path, dataset, {argument: column}, paths=True)
            base = Path(word_of(dataset, "root", str(path.parent))).expanduser()
            cells = cells_of(table, dataset, [argument])
            paths += [base / path_in(base, name) for _, (name,) in cells]
        else:
            paths.append(path)
    if not paths:
        raise ValueError(f"no files in {', '.join(map(str, given))}")
    refuse_unwritable(map(str, paths))
    return paths


def read_table(
    file: Path, dataset: Config, named: Mapping[str, Column], *, paths: bool = False
) -> SeparatedTable:
    """A table by the run's options, which need not have labels."""
    label = dataset.get("label_column")
    labels = label if isinstance(label, list) else [label]
    usual = [*labels, dataset.get("split_column")]
    names = [c for c in (*named.values(), *usual) if isinstance(c, str) and c != "split"]
    header = dataset.get("header")
    table = text_rows.read(
        file,
        format=formats_of(dataset, paths=paths)[file.suffix.lower()],
        header=bool(names if header is None else header),
        quoting=word_of(dataset, "quoting", "standard"),
        encoding=word_of(dataset, "encoding", "utf-8"),
        delimiter=word_of(dataset, "delimiter", None),
        wanted=list(named.values()),
    )
    places = [place_of(table, argument, column) for argument, column in named.items()]
    if header is None and table.delimiter and not table.columns and table.rows:
        number, fields = table.rows[0]
        if {str(fields[place]).strip().lower() for place in places} <= USUAL_NAMES:
            raise ValueError(
                f"{file}:{number} looks like the names of columns, which the run's data has not "
                "(dataset.header); remove the line"
            )
    rows = [(number, [fields[place] for place in places]) for number, fields in table.rows]
    return replace(table, rows=rows)


def cells_of(
    table: SeparatedTable, dataset: Config, names: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """File and line, and what the columns hold.

    Raises:
        ValueError: lines are wrong, or empty where the run's data may not be; all are listed.
    """
    wrong, empty = list(table.wrong), []
    cells = []
    for number, contents in table.rows:
        place = f"{table.path}:{number}"
        odd = next((c for c in contents if not isinstance(c, str | None)), None)
        texts = [content.strip() if isinstance(content, str) else "" for content in contents]
        if odd is not None:
            wrong.append(f"{place}: {odd!r} is no {names[0].partition('_')[0]}")
        elif not all(texts):
            empty.append(place)
        else:
            cells.append((place, texts))
    total = len(table.rows) + len(table.wrong)
    on_empty = word_of(dataset, "on_empty", "error")
    refuse_empty(empty, wrong, on_empty=on_empty, total=total, noun="line")
    return cells
