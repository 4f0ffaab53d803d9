"""Words of Python code, and what they are, by `tokenize` and `keyword`, in BIO."""

import builtins
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KINDS = ("keyword", "builtin", "function", "class", "string", "number", "comment", "operator")
TAGS = ("O", *(f"B-{kind}" for kind in KINDS), "I-string", "I-comment")
"""`function` and `class`: a name where it is defined. Names, brackets and commas are O."""
PUNCTUATION = frozenset(["(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "->", "..."])
LEAST_WORDS, MOST_WORDS = 40, 120
"""A chunk ends with the line of code that makes it as long as the first; longer lines are cut."""
MOST_CHUNKS = 20
"""Of a file, from its beginning, so that large files do not outweigh others."""
QUOTES = re.compile(r"^[A-Za-z]*(\"{3}|'{3}|\"|')|(\"{3}|'{3}|\"|')$")
"""A string's first ones with its prefix, and its last ones."""
F_STRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)
"""A token of its own since Python 3.12."""
LAYOUT = frozenset(
    {
        tokenize.ENCODING,
        tokenize.NEWLINE,
        tokenize.NL,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines of code.

    Attributes:
        line: of the first word.
        words: strings and comments with blanks in them are several.
        tags: of the words, as places in `TAGS`.
    """

    line: int
    words: tuple[str, ...]
    tags: tuple[int, ...]


@cache
def chunks(path: Path) -> tuple[Chunk, ...]:
    """The beginning of a file in chunks; nothing where it is no Python.

    Args:
        path: of a file of Python code.
    """
    found: list[Chunk] = []
    words: list[tuple[int, str, str]] = []
    try:
        with tokenize.open(path) as stream:
            for token, tag in tagged(tokenize.generate_tokens(stream.readline)):
                if token.type == tokenize.NEWLINE and len(words) >= LEAST_WORDS:
                    found.append(_chunk(words))
                    words = []
                elif tag is not None:
                    words += _words(token, tag)
                if len(found) == MOST_CHUNKS:
                    break
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        return ()
    if words and len(found) < MOST_CHUNKS:
        found.append(_chunk(words))
    return tuple(found)


@cache
def words_of(path: Path) -> tuple[str, ...]:
    """A file's names, strings (without their quotes) and comments in order; nothing if no Python.

    Args:
        path: of a file of Python code.
    """
    found = []
    try:
        with tokenize.open(path) as stream:
            for token in tokenize.generate_tokens(stream.readline):
                if token.type == tokenize.COMMENT:
                    found.append(token.string.lstrip("#"))
                elif token.type == tokenize.STRING:
                    found.append(QUOTES.sub("", token.string))
                elif token.type in (tokenize.NAME, F_STRING) and not keyword.iskeyword(
                    token.string
                ):
                    found.append(token.string)
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        return ()
    return tuple(text for each in found if (text := each.strip()))


def tagged(tokens: Iterator[tokenize.TokenInfo]) -> Iterator[tuple[tokenize.TokenInfo, str | None]]:
    """Tokens with their kind, `O`, or None where they are only layout."""
    before = ""
    for token in tokens:
        yield token, None if token.type in LAYOUT else _kind(token, before)
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.string


def _kind(token: tokenize.TokenInfo, before: str) -> str:
    if token.type == tokenize.NAME:
        if keyword.iskeyword(token.string):
            return "keyword"
        if before in ("def", "class"):
            return {"def": "function", "class": "class"}[before]
        return "builtin" if before != "." and hasattr(builtins, token.string) else "O"
    if token.type == tokenize.OP:
        return "O" if token.string in PUNCTUATION else "operator"
    kinds = {tokenize.NUMBER: "number", tokenize.COMMENT: "comment", tokenize.STRING: "string"}
    # f-strings are tokens of their own since Python 3.12
    return kinds.get(token.type, "string" if "STRING" in tokenize.tok_name[token.type] else "O")


def _words(token: tokenize.TokenInfo, kind: str) -> Iterator[tuple[int, str, str]]:
    """Line, word and tag of each word of a token."""
    for place, word in enumerate(token.string.split()):
        tag = "O" if kind == "O" else f"{'I' if place else 'B'}-{kind}"
        yield token.start[0], word, tag


def _chunk(words: list[tuple[int, str, str]]) -> Chunk:
    kept = words[:MOST_WORDS]
    return Chunk(
        kept[0][0], tuple(word for _, word, _ in kept), tuple(TAGS.index(tag) for *_, tag in kept)
    )
