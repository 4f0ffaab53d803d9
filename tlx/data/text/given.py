"""Texts that a finished run is to predict: files, folders and tables, or texts as they stand."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlx.base import sealed
from tlx.data.decoding import decoded, lines_of, refuse_empty
from tlx.data.listed import refuse_lines
from tlx.data.tables.given import (
    Config,
    cells_of,
    column_of,
    endings_named,
    formats_of,
    of_folder,
    read_table,
    there,
    word_of,
)
from tlx.data.tables.rows import FORMATS, LATE
from tlx.data.tables.separated import Column
from tlx.data.text import column_files, columns
from tlx.data.text.columns import Format
from tlx.data.text.spec import Text
from tlx.data.tree import refuse_unwritable, writable
from tlx.methods import tags

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
    reader = TextFileReader(dataset, words=words, known=known)
    found = [text for place, each in enumerate(given, 1) for text in reader.read(each, place)]
    if not found:
        raise ValueError(f"no texts in {', '.join(map(str, given))}")
    refuse_unwritable(text.place for text in found)
    return found


@dataclass(frozen=True)
class TextFileReader:
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
        return word_of(self.dataset, "encoding", "utf-8")

    @property
    def ending(self) -> str | None:
        """Of files that are texts as a whole; None: of all."""
        ending = self.dataset.get("ending", ".txt")
        return None if ending is None else str(ending)

    @property
    def pair(self) -> Column | None:
        """Column of the second text, where the network reads pairs."""
        return column_of(self.dataset, "pair_column", None)

    def read(self, given: str | Path, place: int) -> Iterator[Given]:
        """The texts of one input, the so-manieth."""
        formats = formats_of(self.dataset)
        path = _path(given, formats)
        if path is None:
            if not str(given).strip():  # as a path, the working directory
                raise ValueError(f"text {place} is empty; leave it out")
            if not writable(str(given)):
                raise ValueError(f"text {place} is not in UTF-8: {ascii(given)[:40]}")
            self._single(f"text {place}")
            yield self._of(f"text {place}", str(given))
            return
        tables = {*formats} - (
            {*LATE} - endings_named(self.dataset)
        )  # of JSON is much that is no table
        endings: set[str] | None = {".txt", *tables}
        if self.words:
            endings = {".txt", *tables, *column_files.ENDINGS}
        if self.source == "text_folder":
            endings = None if self.ending is None else {self.ending.lower()}
        also = column_files.called_so if self.words else None
        for file in of_folder(path, endings, also=also) if path.is_dir() else [there(path)]:
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
        elif ending in formats_of(self.dataset):
            yield from self._table(file)
        else:
            self._single(str(file))
            for number, line in enumerate(lines_of(decoded(file, self.encoding)), 1):
                if line.strip():
                    yield self._of(f"{file}:{number}", line)

    def _whole(self, file: Path) -> Iterator[Given]:
        text = decoded(file, self.encoding)
        empty = [] if text.strip() else [str(file)]
        refuse_empty(empty, [], on_empty=word_of(self.dataset, "on_empty", "error"), total=1)
        if not empty:
            yield self._of(str(file), text)

    def _table(self, file: Path) -> Iterator[Given]:
        named: dict[str, Column] = {"text_column": column_of(self.dataset, "text_column", "text")}
        if self.pair is not None:
            named["pair_column"] = self.pair
        table = read_table(file, self.dataset, named)
        for place, contents in cells_of(table, self.dataset, list(named)):
            first, *second = contents
            yield Given(place, (first, second[0])) if second else self._of(place, first)

    def _form(self) -> Format:
        keys = ("word_column", "tag_column", "separator")
        named: dict[str, Any] = {key: self.dataset[key] for key in keys if key in self.dataset}
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


def words_of(folder: Path) -> list[str]:
    """Words of a run's data, as its predictions have them; none where they were deleted."""
    place = folder / "predictions" / "test.conll"
    sealed.check(place)
    held = columns.read(place, Format(separator="blank"))
    return [word for sentence in held.sentences for word in sentence.words]


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
