"""Near copies among texts: the same but for case, blanks and punctuation."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tlx.data.text.spec import Text

BESIDE_WORDS = re.compile(r"[\W_]")


def near_texts(texts: Sequence[Text]) -> Iterator[tuple[int, int, bool]]:
    """Positions of texts that are nearly the same, the first of all before each other one.

    Of equal texts only the first counts.
    """
    firsts: dict[str, dict[Text | tuple[str, ...], int]] = defaultdict(dict)
    for place, text in enumerate(texts):
        if common := normalised(text).strip("\0"):
            firsts[common].setdefault(tuple(text) if isinstance(text, list) else text, place)
    for places in firsts.values():
        first, *others = places.values()
        yield from ((first, other, False) for other in others)


def normalised(text: Text) -> str:
    """A text, a pair of texts or the words of one without case, blanks and punctuation.

    >>> normalised("It's  LATE."), normalised("a + b"), normalised(["A", "b"])
    ('itslate', 'a+b', 'ab')
    """
    if isinstance(text, tuple):
        return "\0".join(map(normalised, text))
    whole = text if isinstance(text, str) else " ".join(text)
    folded = "".join(unicodedata.normalize("NFKC", whole).casefold().split())
    return BESIDE_WORDS.sub(_symbol, folded)


def _symbol(match: re.Match[str]) -> str:
    """The sign where it tells texts apart (of mathematics, money, emotion; accents), else none."""
    return match[0] if unicodedata.category(match[0])[0] in "SM" else ""
