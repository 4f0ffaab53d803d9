"""What files of words with tags are called, as corpora ship them. Standard library only."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from tlx.data import split_files, split_names
from tlx.data.split_folders import visible

SUFFIXES = (
    "",
    ".txt",
    ".conll",
    ".bio",
    ".iob",
    ".iob2",
    ".bioes",
    ".bmes",
    ".bilou",
    ".tsv",
    ".annotated",
)
ENDINGS = frozenset(SUFFIXES) - {"", ".txt"}
"""Those that nothing else has."""
USUAL = {
    split: (*names, *(name for name, meant in split_names.WHOLE.items() if meant == split))
    for split, names in split_names.FIRST.items()
}
"""Names of the files, before their suffix, that come before all others."""
WRITTEN = frozenset(
    [
        *("char", "chars", "character", "characters", "word", "words", "token", "tokens", "all"),
        *("ner", "tags", "tagged", "annotated", "conll", "conllx", "col", "columns"),
        *("bio", "bios", "iob", "bioes", "iobes", "bieso", "bieos", "bmes", "bmeso", "bmoes"),
        "bilou",
    ]
)
"""Words that say how a file is written, of what or by which scheme, and not which split it is."""
HALVES = {"testa": "val", "testb": "test"}
"""CoNLL's words for splits, that mean other things elsewhere: beside others they are not sure."""
MAX_SHOWN = 8


def find(base: Path, wanted: Sequence[str], *, used: Collection[Path] = ()) -> dict[str, Path]:
    """The files of the splits that no argument names.

    Args:
        base: the folder.
        wanted: splits.
        used: files that an argument names; one of a usual name may serve another split too.

    Raises:
        ValueError: several files may be one split, or it is not sure that one is.
    """
    usual = {
        base / f"{name}{suffix}"
        for names in USUAL.values()
        for name in names
        for suffix in SUFFIXES
    }
    return split_files.find(
        base, wanted, endings=SUFFIXES, usual=USUAL, used={*used} - usual, off="''", plain=_plain
    )


def called_so(name: str) -> bool:
    """Whether the end of a file's name, or all of it, says that there is a word a line in it.

    >>> [called_so(n) for n in ("a.conll", "eng.testb", "dev.char", "onto.ner", "a.txt", "a.md")]
    [True, True, True, True, False, False]
    """
    ending = Path(name).suffix.lower()
    whole = name.casefold() in split_names.WHOLE
    return whole or ending in ENDINGS or ending.removeprefix(".") in WRITTEN


def candidates(base: Path) -> str:
    """Files of a folder that may be the training file, for messages; all, where none is clear."""
    names = [path.name for path in visible(base) if path.is_file()] if base.is_dir() else []
    readings = ((name, split_names.read(_plain(name))) for name in names)
    meant = [name for name, reading in readings if reading and "train" in reading.splits]
    shown = meant or names
    return ", ".join(shown[:MAX_SHOWN]) + ", ..." * (len(shown) > MAX_SHOWN)


def _plain(stem: str) -> str:
    """A stem in which words that say how a file is written are words that say nothing.

    >>> _plain("train.char"), _plain("eng.testa"), _plain("eng.testa.src")
    ('train.data', 'eng.testa', 'eng.val testa.src')
    """
    if stem.casefold() in split_names.WHOLE:
        return stem

    def word(match: re.Match[str]) -> str:
        text = match[0].casefold()
        if text in HALVES:
            return f"{HALVES[text]} {text}"
        return "data" if text.rstrip("0123456789") in WRITTEN else match[0]

    return re.sub(r"[^\W_]+", word, stem)
