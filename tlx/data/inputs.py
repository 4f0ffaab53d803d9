"""What a finished run is to predict: files and texts, read as its training data was."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlx.data.decoding import decoded, lines_of, refuse_empty
from tlx.data.images.inputs import EXTENSIONS
from tlx.data.listed import path_in, quoted, refuse_lines
from tlx.data.split_names import SPLITS
from tlx.data.tables import rows as text_rows
from tlx.data.tables.items import USUAL_NAMES, place_of
from tlx.data.tables.rows import FORMATS, LATE
from tlx.data.tables.separated import Column, Table
from tlx.data.text import column_files, columns
from tlx.data.text.columns import Format
from tlx.data.text.texts import Text
from tlx.data.tree import refuse_unwritable, visible_files, writable
from tlx.methods import tags

LOG = logging.getLogger(__name__)
Config = Mapping[str, Any]

UNBROKEN = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Letters of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese: no blanks part words."""


@dataclass(frozen=True)
class Given:
    """A text that is to be predicted: where it stands, and what the network reads."""

    place: str
    content: Text


# -- images -----------------------------------------------------------------------------------


def images(inputs: Iterable[str | Path], dataset: Config) -> list[Path]:
    """Images by files, folders and tables.

    Args:
        inputs: files; folders, of which all visible images are taken; tables of paths.
        dataset: of the run, which says how a table is read.

    Raises:
        FileNotFoundError: something is not there.
        ValueError: there are no images, or a table is wrong.
    """
    given, formats = list(inputs), _formats(dataset)
    paths: list[Path] = []
    for each in given:
        path = _there(Path(each).expanduser())
        if path.is_dir():
            paths += _of_folder(path, EXTENSIONS)
        elif path.suffix.lower() in formats:
            table = _read_table(
                path, dataset, {"image_column": dataset.get("image_column", "path")}
            )
            base = (
                path.parent if dataset.get("root") is None else Path(dataset["root"]).expanduser()
            )
            cells = _cells(table, dataset, ["image_column"])
            paths += [base / path_in(base, name) for _, (name,) in cells]
        else:
            paths.append(path)
    if not paths:
        raise ValueError(f"no files in {', '.join(map(str, given))}")
    refuse_unwritable(map(str, paths))
    return paths


# -- texts ------------------------------------------------------------------------------------


def texts(
    inputs: Iterable[str | Path], dataset: Config, *, words: bool, known: Sequence[str] = ()
) -> list[Given]:
    """Texts by files, folders and tables, or as they stand.

    A run of `text_folder` has one text a file, one whose words have tags may have files of
    columns; all others have a text in each line of a file.

    Args:
        inputs: what names no file is a text itself.
        dataset: of the run, which says how files are read.
        words: whether the network reads lists of words.
        known: words as the run's data has them, by which texts without blanks are parted.

    Raises:
        FileNotFoundError: something is not there that can be no text.
        ValueError: there are no texts, they are no pairs where the run reads pairs, or files are
            wrong; all lines are listed.
    """
    given = list(inputs)
    reader = Reader(dataset, words=words, known=known)
    found = [text for place, each in enumerate(given, 1) for text in reader.read(each, place)]
    if not found:
        raise ValueError(f"no texts in {', '.join(map(str, given))}")
    refuse_unwritable(text.place for text in found)
    return found


@dataclass(frozen=True)
class Reader:
    """How texts of a run are read; the arguments are those of `texts`."""

    dataset: Config
    words: bool
    known: Sequence[str]

    @property
    def source(self) -> str:
        """The function that read the training data."""
        return str(self.dataset.get("_target_", "")).rpartition(".")[2]

    @property
    def encoding(self) -> str:
        """Of files."""
        return str(self.dataset.get("encoding", "utf-8"))

    @property
    def ending(self) -> str | None:
        """Of files that are texts as a whole; None: of all."""
        ending = self.dataset.get("ending", ".txt")
        return None if ending is None else str(ending)

    @property
    def pair(self) -> Column | None:
        """Column of the second text, where the network reads pairs."""
        return self.dataset.get("pair_column")

    def read(self, given: str | Path, place: int) -> Iterator[Given]:
        """The texts of one input, the so-manieth."""
        formats = _formats(self.dataset)
        path = _path(given, formats)
        if path is None:
            if not str(given).strip():  # as a path, the working directory
                raise ValueError(f"text {place} is empty; leave it out")
            if not writable(str(given)):
                raise ValueError(f"text {place} is not in UTF-8: {ascii(given)[:40]}")
            self._single(f"text {place}")
            yield self._of(f"text {place}", str(given))
            return
        tables = {*formats} - ({*LATE} - _named(self.dataset))  # of JSON is much that is no table
        endings: set[str] | None = {".txt", *tables}
        if self.words:
            endings = {".txt", *tables, *column_files.ENDINGS}
        if self.source == "text_folder":
            endings = None if self.ending is None else {self.ending.lower()}
        also = column_files.called_so if self.words else None
        for file in _of_folder(path, endings, also=also) if path.is_dir() else [_there(path)]:
            yield from self._file(file)

    def _file(self, file: Path) -> Iterator[Given]:
        ending = file.suffix.lower()
        if self.words and (
            ending in column_files.ENDINGS or (ending not in FORMATS and self._tagged(file))
        ):
            yield from self._columns(file)
        elif self.source == "text_folder" and (
            ending not in FORMATS or self.ending is None or ending == self.ending.lower()
        ):
            yield from self._whole(file)
        elif ending in _formats(self.dataset):
            yield from self._table(file)
        else:
            self._single(str(file))
            for number, line in enumerate(lines_of(decoded(file, self.encoding)), 1):
                if line.strip():
                    yield self._of(f"{file}:{number}", line)

    def _whole(self, file: Path) -> Iterator[Given]:
        text = decoded(file, self.encoding)
        empty = [] if text.strip() else [str(file)]
        refuse_empty(empty, [], on_empty=self.dataset.get("on_empty", "error"), total=1)
        if not empty:
            yield self._of(str(file), text)

    def _table(self, file: Path) -> Iterator[Given]:
        named: dict[str, Column] = {"text_column": self.dataset.get("text_column", "text")}
        if self.pair is not None:
            named["pair_column"] = self.pair
        table = _read_table(file, self.dataset, named)
        for place, contents in _cells(table, self.dataset, list(named)):
            first, *second = contents
            yield Given(place, (first, second[0])) if second else self._of(place, first)

    def _form(self) -> Format:
        keys = ("word_column", "tag_column", "separator")
        named = {key: self.dataset[key] for key in keys if key in self.dataset}
        return Format(**named, encoding=self.encoding) if self.source == "conll" else Format()

    def _tagged(self, file: Path) -> bool:
        """Whether each line of a file that may hold texts is a word with its tag."""
        held = columns.read(file, self._form())
        marks = [tag for sentence in held.sentences for tag in sentence.tags]
        readable = all(any(tags.readable(tag, s) for s in tags.SCHEMES) for tag in marks)
        return bool(marks) and not held.problems and readable

    def _columns(self, file: Path) -> Iterator[Given]:
        held = columns.read(file, self._form(), tagged=False)
        refuse_lines(held.problems, f"problems with {file} ({len(held.problems)})")
        for sentence in held.sentences:
            yield Given(f"{file}:{sentence.lines[0]}", list(sentence.words))

    def _single(self, place: str) -> None:
        """Raises a ValueError where one text is not what the network reads."""
        if self.pair is not None:
            first = self.dataset.get("text_column", "text")
            raise ValueError(
                f"{place}: the run reads pairs of texts (dataset.pair_column={self.pair!r}); give "
                f"a table with the columns {first!r} and {self.pair!r}"
            )

    def _of(self, place: str, text: str) -> Given:
        """One text, parted into words where the network reads words."""
        text = text.strip()
        return Given(place, parted(text, self.known, place=place) if self.words else text)


def parted(text: str, known: Sequence[str], *, place: str = "the text") -> list[str]:
    """The words of a text: what blanks part, and where the known words are characters, each.

    Args:
        text: with at least one word.
        known: words of the run's data.
        place: of the text, for messages.

    Raises:
        ValueError: its language has no blanks between words, and neither has the text.

    >>> parted("a cat", ["the", "dog"]), parted("我在 a2", ["你", "们", "b", "1"])
    (['a', 'cat'], ['我', '在', 'a', '2'])
    """
    pieces = text.split()
    if not UNBROKEN.search(text):
        return pieces
    unbroken = [word for word in known if UNBROKEN.search(word)]
    single = sum(len(word) == 1 for word in unbroken)
    if unbroken and single >= 0.9 * len(unbroken):
        others = [word for word in known if not UNBROKEN.search(word)]
        if others and all(len(word) == 1 for word in others):
            return [character for piece in pieces for character in piece]
        part = re.compile(f"{UNBROKEN.pattern}|(?:(?!{UNBROKEN.pattern}).)+")
        return [word for piece in pieces for word in part.findall(piece)]
    longest = max(map(len, unbroken), default=0)
    wrong = next((p for p in pieces if UNBROKEN.search(p) and len(p) > max(longest, 1)), None)
    if wrong is not None and (unbroken or not known):
        raise ValueError(
            f"{place}: {wrong[:20]!r} is no word of the run's data, where they have at most "
            f"{longest} characters; put blanks between words, or give a file of one word a line "
            "that ends in .conll"
        )
    return pieces


# -- files ------------------------------------------------------------------------------------


def _formats(dataset: Config) -> dict[str, str]:
    """Ending of a table -> its format: the usual ones, and those of the run's own tables."""
    form = dataset.get("format")
    if str(dataset.get("_target_", "")).rpartition(".")[2] not in ("text_csv", "image_csv"):
        return FORMATS
    named = _named(dataset)
    if not dataset.get("path"):
        named.discard("")  # `train` names train.csv
    images = str(dataset["_target_"]).endswith("image_csv")
    if form is None:  # as the source takes what no ending tells
        return FORMATS | ({ending: "csv" for ending in named - {*FORMATS}} if images else {})
    if not named and form in ("csv", "tsv"):
        named = {ending for ending, usual in FORMATS.items() if usual in ("csv", "tsv")}
    return FORMATS | dict.fromkeys(named, str(form))


def _named(dataset: Config) -> set[str]:
    """Endings of the tables that the run's options name."""
    names = [dataset["path"]] if dataset.get("path") else [dataset.get(key) for key in SPLITS]
    if not dataset.get("path") and isinstance(dataset.get("extra"), Mapping):
        names += dataset["extra"].values()
    return {Path(name).suffix.lower() for name in names if isinstance(name, str) and name}


def _path(given: str | Path, formats: Collection[str]) -> Path | None:
    """The file or folder that an input names; None where it is a text."""
    if isinstance(given, Path):
        return given.expanduser()
    try:
        path = Path(given).expanduser()
        there = bool(given) and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, or ~ of nobody
        return None
    endings = {".txt", ".json", *formats, *column_files.ENDINGS} - {""}
    named = path.suffix.lower() in endings and not re.search(r"\s", given)
    return path if there or named else None


def _there(path: Path) -> Path:
    try:
        there = path.exists()
    except OSError:  # too long for a name
        there = False
    if not there:
        raise FileNotFoundError(f"{path} does not exist")
    return path


def _of_folder(
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


def _read_table(file: Path, dataset: Config, named: Mapping[str, Column]) -> Table:
    """A table by the run's options, which need not have labels."""
    label = dataset.get("label_column")
    labels = [label] if isinstance(label, str | int | None) else list(label)
    usual = [*labels, dataset.get("split_column")]
    names = [c for c in (*named.values(), *usual) if isinstance(c, str) and c != "split"]
    header = dataset.get("header")
    table = text_rows.read(
        file,
        format=_formats(dataset)[file.suffix.lower()],
        header=bool(names) if header is None else header,
        quoting=dataset.get("quoting", "standard"),
        encoding=dataset.get("encoding", "utf-8"),
        delimiter=dataset.get("delimiter"),
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


def _cells(table: Table, dataset: Config, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """File and line, and what the columns hold.

    Raises:
        ValueError: lines are wrong, or empty where the run's data may not be; all are listed.
    """
    wrong, empty = list(table.wrong), []
    found = []
    for number, contents in table.rows:
        place = f"{table.path}:{number}"
        odd = next((c for c in contents if not isinstance(c, str | None)), None)
        if odd is not None:
            wrong.append(f"{place}: {odd!r} is no {names[0].partition('_')[0]}")
        elif not all(content and content.strip() for content in contents):
            empty.append(place)
        else:
            found.append((place, [content.strip() for content in contents]))
    total = len(table.rows) + len(table.wrong)
    refuse_empty(empty, wrong, on_empty=dataset.get("on_empty", "error"), total=total, noun="line")
    return found
