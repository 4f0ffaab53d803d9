"""Words and their tags in files of columns: one word a line, an empty line after each sentence."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tlx.data.decoding import decoded, lines_of
from tlx.methods import tags
from tlx.methods.tags import Scheme

BLANKS = re.compile(r"[ \t]+")
WITHIN = re.compile(r"[ \t\r\n]+")
NAMED = {"tab": "\t", "blank": " "}
DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Format:
    """How a file is to be read.

    Attributes:
        word_column: from 0; negative ones count from the last.
        tag_column: likewise.
        separator: between columns; None: any number of blanks and tabs.
        encoding: as Python names it.

    Raises:
        ValueError: there is no such encoding, or the separator is empty.
    """

    word_column: int = 0
    tag_column: int = -1
    separator: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"dataset.encoding={self.encoding!r} is unknown; give one as utf-8 or latin-1"
            ) from None
        if self.separator == "":
            raise ValueError(
                "dataset.separator is empty; give what stands between columns, as tab, or null "
                "for blanks and tabs"
            )

    def fields(self, line: str) -> list[str]:
        """The columns of a line."""
        if self.separator is None:
            return BLANKS.split(line.rstrip(" \t"))
        return line.split(NAMED.get(self.separator, self.separator))


@dataclass(frozen=True)
class Sentence:
    """Words, their tags as the file has them, and their lines in it, counted from 1."""

    words: Sequence[str]
    tags: Sequence[str]
    lines: Sequence[int]


@dataclass(frozen=True)
class Columns:
    """What a file holds.

    Attributes:
        path: of the file.
        sentences: those that could be read.
        problems: of lines, with their places.
    """

    path: Path
    sentences: Sequence[Sentence]
    problems: Sequence[str]


def read(path: Path, form: Format, *, tagged: bool = True) -> Columns:
    """The sentences of a file, and what is wrong with its lines; never an error.

    Args:
        path: of the file.
        form: how it is to be read.
        tagged: whether there are tags; else lines may have nothing but a word.
    """
    try:
        text = decoded(path, form.encoding)
    except ValueError as error:
        return Columns(path, (), (str(error),))
    lines = lines_of(text)
    if not tagged and _width(lines, form) == 1:
        form = replace(form, word_column=0, tag_column=0)
    sentences, problems = _sentences(lines, form)
    if not sentences and not problems:
        return Columns(path, (), (f"{path}: no sentences",))
    return Columns(path, sentences, [f"{path}{problem}" for problem in problems])


def _sentences(lines: Sequence[str], form: Format) -> tuple[list[Sentence], list[str]]:
    """Sentences without the faulty ones, and faults as `:line: what`."""
    width = _width(lines, form)
    columns = {"word_column": form.word_column, "tag_column": form.tag_column}
    for name, column in columns.items():
        if width and not -width <= column < width:
            return [], [f": dataset.{name}={column}, and lines have {width} columns"]
    sentences, problems = [], []
    for block in _blocks(lines, form, width):
        faults = [fault for line, fields in block if (fault := _fault(line, fields, form, width))]
        problems += faults
        if not faults:
            numbers, rows = zip(*block, strict=True)
            words = [row[form.word_column] for row in rows]
            sentences.append(Sentence(words, [row[form.tag_column] for row in rows], numbers))
    return sentences, problems


def _blocks(
    lines: Sequence[str], form: Format, width: int
) -> Iterator[list[tuple[int, list[str]]]]:
    """Numbered lines of each sentence, split into columns."""
    block: list[tuple[int, list[str]]] = []
    for number, line in enumerate([*lines, ""], 1):
        fields = form.fields(line)
        if line.strip(" \t") and not line.startswith(DOCUMENT):
            if not _comment(line, fields, form, width):
                block.append((number, fields))
        elif block:
            yield block
            block = []


def _width(lines: Sequence[str], form: Format) -> int:
    """Columns of the first line with a word; 0 where there is none."""
    for line in lines:
        if line.strip(" \t") and not line.startswith(("# ", DOCUMENT)):
            return len(form.fields(line))
    return 0


def _comment(line: str, fields: Sequence[str], form: Format, width: int) -> bool:
    """Whether a line is a comment, and not the word `#` with its tag between blanks."""
    if not line.startswith("# "):
        return False
    return len(fields) != width or not any(
        tags.readable(fields[form.tag_column], scheme) for scheme in tags.SCHEMES
    )


def _fault(line: int, fields: Sequence[str], form: Format, width: int) -> str | None:
    if len(fields) != width:
        return f":{line}: columns: {len(fields)}, in the first line {width}"
    return None if fields[form.word_column].strip() else f":{line}: no word"


def scheme_of(files: Sequence[Columns]) -> Scheme:
    """The scheme that the tags of all files are most likely written in."""
    return tags.detected(sentence.tags for file in files for sentence in file.sentences)


def text(sentences: Iterable[Sequence[Sequence[str]]]) -> str:
    """Sentences as a file has them: one word a line with its tags, between blanks.

    Args:
        sentences: words, and one or more sequences of tags of the same length; blanks within a
            word become `_`.

    Raises:
        ValueError: there is not one tag a word.
    """
    return "".join(
        "".join(
            f"{' '.join([WITHIN.sub('_', word), *marks])}\n"
            for word, *marks in zip(words, *tagged, strict=True)
        )
        + "\n"
        for words, *tagged in sentences
    )
