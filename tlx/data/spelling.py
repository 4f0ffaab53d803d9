"""Labels that are missing, and labels that are equal and written in two ways."""

import logging
import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal

LOG = logging.getLogger(__name__)

MISSING = (
    *("NaN", "nan", "NAN", "Nan", "-NaN", "-nan", "NaT", "None", "NULL", "Null", "null"),
    *("NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""What writers of tables put where there is no value; pandas reads all of these so.

`none` is not among them: it is a word, and a class of many data sets.
"""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0]")
"""Characters without a picture that Unicode does not count among formats."""
PLAIN = {
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), ord("-")),
    **dict.fromkeys((0x2018, 0x2019, 0x02BC, 0x00B4, 0x60), ord("'")),
    **dict.fromkeys((0x201C, 0x201D), ord('"')),
}
"""Dashes and quotes -> the character of ASCII that they are written for."""


LATIN = str.maketrans(
    "АВЕКМНОРСТХаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTXaeopcyxijsABEZHIKMNOPTYXo"
)
"""Cyrillic and Greek letters -> the Latin ones that look the same."""
OTHER_SIGNS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
"""Kinds of Unicode's compatibility forms that a reader tells from the plain one, as x² from x2."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,(?!\d{3}$)\d+", re.ASCII)
"""A number with a decimal comma; three digits behind a comma may be thousands."""
INFINITE = re.compile(r"([+-]?)inf(inity)?", re.IGNORECASE)


def is_missing(value: object, spellings: Iterable[str] = MISSING) -> bool:
    r"""Whether a value of a table stands for none.

    >>> [is_missing(value) for value in (None, float("nan"), " ", "\u200b", "NULL", "none", 0)]
    [True, True, True, True, True, False, False]
    """
    if value is None:
        return True
    if isinstance(value, float | Decimal) and math.isnan(value):
        return True
    text = str(value).strip()
    return not _seen(text) or text in spellings


def key(label: str) -> Hashable:
    r"""What labels have in common that a reader takes for the same.

    Unicode forms, letters in full width, Cyrillic and Greek ones, kinds of dashes, blanks and
    quotes around, blanks of any kind and number within, characters that cannot be seen, spellings
    of a number (decimal comma, digits of other scripts) and of `true` do not count.

    >>> key("caf\u00e9") == key("cafe\u0301 "), key("1") == key("1.0"), key("a") == key("A")
    (True, True, False)
    """
    text = name_key(label).translate(LATIN)
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    digits = "".join(str(unicodedata.decimal(c, c)) for c in text)
    if DECIMAL_COMMA.fullmatch(digits):
        digits = digits.replace(",", ".")
    if NUMBER.fullmatch(digits):
        number = Decimal(digits)
        return ("number", number or Decimal(0))  # -0 is 0
    if infinite := INFINITE.fullmatch(text):
        return ("infinite", infinite[1] == "-")
    return text.lower() if text.lower() in ("true", "false") else text


def name_key(label: str) -> str:
    """The same for names: numbers are words there, as `1.1` and `1.10` are versions."""
    plain = "".join(map(_plain, _seen(label).translate(PLAIN)))
    return " ".join(unicodedata.normalize("NFC", plain).split())


def _plain(character: str) -> str:
    """What a compatibility form is written for, where a reader takes the two for the same."""
    kind = unicodedata.decomposition(character).partition(" ")[0]
    other = not kind.startswith("<") or kind in OTHER_SIGNS
    return character if other else unicodedata.normalize("NFKC", character)


def _seen(text: str) -> str:
    """A text without the characters that have no picture, blanks kept."""
    return "".join(
        c
        for c in text
        if c.isspace() or not (unicodedata.category(c) in ("Cf", "Cc") or UNSEEN.match(c))
    )


def alike(
    labels: Iterable[str], *, key: Callable[[str], Hashable] = key
) -> Mapping[str, Sequence[str]]:
    """First spelling -> all spellings, of labels that are written in several ways.

    >>> alike(["1", "a", "1.0"])
    {'1': ['1', '1.0']}
    """
    groups: dict[Hashable, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(key(label), []).append(label)
    return {group[0]: group for group in groups.values() if len(group) > 1}


def told_apart(spellings: Iterable[str]) -> str:
    """Spellings in quotes, with escapes: as they stand they would look the same."""
    return " and ".join(ascii(each) for each in spellings)


def refuse_alike(names: Iterable[str], where: str) -> None:
    """Raises a ValueError where names look the same and are not."""
    if groups := alike(names, key=name_key):
        shown = "; ".join(told_apart(group) for group in groups.values())
        raise ValueError(f"{where} has names that look the same: {shown}; rename one of each")


def warn_of_case(places: Mapping[str, str]) -> None:
    """Warns of labels that differ in capitals only: they are classes of their own.

    Args:
        places: label -> where it is first.
    """
    for group in alike(places, key=str.casefold).values():
        shown = ", ".join(f"{label!r} ({places[label]})" for label in group)
        LOG.warning("labels that differ in capitals only are several classes: %s", shown)
