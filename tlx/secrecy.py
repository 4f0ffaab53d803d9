"""What looks like a secret, and how it is hidden in all that is written, shown and logged.

Hidden is what stands under a key that speaks of a password, key or token, what has the form of a
known service's key, and passwords in addresses.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"
STORAGE_PASSWORD = "TLX_STORAGE_PASSWORD"
"""Variable that hands the password of a search's storage to the processes of its runs."""

KEY = re.compile(
    r"secret|password|passwd|credential|(api|access|private)_?key|(^|_)(token|pwd)$", re.IGNORECASE
)
PIECE = re.compile(
    r"(^|_)(pad|unk|mask|cls|sep|bos|eos|eot|start|end|image|audio|video|prefix|suffix)_token$",
    re.IGNORECASE,
)
"""Keys of a tokenizer's special tokens, which are no secrets."""
FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{30,}"  # Hugging Face
    r"|gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{40,}|glpat-[\w-]{20,}"  # GitHub, GitLab
    r"|sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}"  # OpenAI, Anthropic
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}"  # AWS, Google
    r"|xox[abeprs]-[\w-]{10,}|pypi-[\w-]{50,}|npm_[A-Za-z0-9]{36}|wandb_v\d_\w{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"  # JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r")"
)
PASSWORD = re.compile(
    # what follows ':' is a port where digits and '/' come; a password may hold '@' itself
    r"(://[^\s:/?#@]*:)(?!\d+[/?#])([^\s@\"'<>]+(?:@[^\s@/\"'<>]*)*)@"
)
"""Beginning and password of an address with both."""
LONE_USER = re.compile(r"(?<=://)[A-Za-z0-9_-]{20,}(?=@)")
"""A token that stands for a user's name."""
IN_QUERY = re.compile(
    r"([?&;](?:password|passwd|pwd|(?:\w+_)?token|api_?key|access_?key|secret|sig|signature"
    r"|x-amz-(?:signature|credential|security-token))=)[^&;\s\"'<>]+",
    re.IGNORECASE,
)


def masked_text(text: str) -> str:
    """A text without keys of known forms and without passwords in addresses.

    >>> masked_text("postgresql+psycopg://me:pa@ss@host/db failed")
    'postgresql+psycopg://me:***@host/db failed'
    """
    if "://" in text:
        text = IN_QUERY.sub(rf"\g<1>{MASK}", PASSWORD.sub(rf"\g<1>{MASK}@", text))
        text = LONE_USER.sub(MASK, text)
    return FORMS.sub(MASK, text)


def masked(value: Any, *, key: str = "") -> Any:
    """A copy of plain data with secrets hidden, as plain containers.

    >>> masked({"api_key": "abc", "pad_token": "<pad>", "tags": ["x"]})
    {'api_key': '***', 'pad_token': '<pad>', 'tags': ['x']}
    """
    if isinstance(value, Mapping):
        return {name: masked(item, key=str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, key=key) for item in value]
    if isinstance(value, str):
        return MASK if value and speaks(key) else masked_text(value)
    return value


def masked_line(text: str) -> str:
    """An override as given, `key=value`, with secrets hidden.

    >>> masked_line("+logger.mine.api_key=abc")
    '+logger.mine.api_key=***'
    """
    name, equals, value = text.partition("=")
    if equals and value and speaks(name.rpartition(".")[2]):
        return f"{name}={MASK}"
    return masked_text(text)


def speaks(key: str) -> bool:
    """Whether a key's name says that what stands under it is secret."""
    return bool(KEY.search(key)) and not PIECE.search(key)


def places(value: Any, place: str = "") -> Iterator[str]:
    """Dotted places of secrets in plain data."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from places(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from places(item, place)
    elif isinstance(value, str) and masked(value, key=place.rpartition(".")[2]) != value:
        yield place


def password_of(address: str) -> str | None:
    """The password in an address, None where there is none or a mask.

    >>> password_of("postgresql://me:p%40ss@host/db"), password_of("sqlite:///runs/a.db")
    ('p@ss', None)
    """
    there = PASSWORD.search(address)
    return None if there is None or there[2] == MASK else unquote(there[2])


def opened(address: str, password: str | None) -> str:
    """An address to connect to: with a password for the mask, or without either.

    A database's own client then asks PGPASSWORD and ~/.pgpass.

    >>> opened("postgresql://me:***@host/db", None)
    'postgresql://me@host/db'
    """
    there = PASSWORD.search(address)
    if there is None or there[2] != MASK:
        return address
    before, after = address[: there.start()], address[there.end() :]
    user = f"{there[1]}{quote(password, safe='')}" if password else there[1].removesuffix(":")
    return f"{before}{user}@{after}"
