"""What looks like a secret, and how it is hidden in all that is written, shown and logged.

Hidden is what stands under a key that speaks of a password, key or token, what has the form of a
known service's key, and passwords in addresses.
"""

import re
from collections.abc import Iterator, Mapping
from typing import overload
from urllib.parse import quote, unquote

MASK = "***"
STORAGE_PASSWORD = "TLX_STORAGE_PASSWORD"
"""Variable that hands the password of a search's storage to the processes of its runs."""

STRONG = re.compile(
    r"secret|password|passwd|passphrase|credential|authorization|webhook"
    r"|(api|access|private|signing|encryption|wandb)_?key",
    re.IGNORECASE,
)
WEAK = re.compile(r"(^|_)(token|pwd|bearer)$", re.IGNORECASE)
"""Keys under which texts are secret, and numbers are counts."""
LEAST_PIN = 1000
"""The least number that is a password under such a key, and no weight of a class `PASSWORD`."""
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
ASSIGNED = re.compile(
    r"(?<![\w./])([A-Za-z][\w-]*)(=)(\"[^\"]*\"|'[^']*'|(?![$*'\"])[^\s,;&\"'{}\[\]()]+)"
)
"""Name and value of a variable that a text sets, `export WANDB_API_KEY=...`."""
ENTRY = re.compile(
    r"""(?<=[{,\s])(["']?)([A-Za-z][\w-]*)\1(\s*:\s*)(?!\*)"""
    r"""(\{[^{}]*\}|\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s,{}\[\]]+)"""
)
"""Name and value within an override's mapping, `{api_key: ...}`."""
HOOK = re.compile(
    r"(://(?:hooks\.slack\.com/\w+|(?:\w+\.)?discord(?:app)?\.com/api/webhooks)/)[\w/-]+"
)
"""An address that is itself the key to a channel."""
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
        text = HOOK.sub(rf"\g<1>{MASK}", LONE_USER.sub(MASK, text))
    if "=" in text:
        text = ASSIGNED.sub(_variable, text)
    return FORMS.sub(MASK, text)


def _variable(there: re.Match[str]) -> str:
    """A variable as it is set, its value hidden where its capitals speak of a secret."""
    name = there[1]
    return f"{name}={MASK}" if name.isupper() and speaks(name) else there[0]


@overload
def masked(value: Mapping[str, object], *, key: str = "") -> dict[str, object]: ...


@overload
def masked(value: object, *, key: str = "") -> object: ...


def masked(value: object, *, key: str = "") -> object:
    """A copy of plain data with secrets hidden, as plain containers.

    >>> masked({"api_key": "abc", "pad_token": "<pad>", "tags": ["x"]})
    {'api_key': '***', 'pad_token': '<pad>', 'tags': ['x']}
    """
    if isinstance(value, Mapping):
        return {name: masked(item, key=_below(key, name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, key=key) for item in value]
    if isinstance(value, str):
        return MASK if value and speaks(key) else masked_text(value)
    return MASK if _is_pin(value, key) else value


def _below(key: str, name: object) -> str:
    """The key that counts for an entry: the one that it is under, where that speaks of secrets."""
    return key if STRONG.search(_words(key)) else str(name)


def _is_pin(value: object, key: str) -> bool:
    """Whether a number is a password."""
    number = isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LEAST_PIN
    return number and bool(STRONG.search(_words(key)))


def masked_line(text: str) -> str:
    """An override as given, `key=value`, with secrets hidden.

    >>> masked_line("+logger.mine.api_key=abc")
    '+logger.mine.api_key=***'
    """
    name, equals, value = text.partition("=")
    if equals and value and speaks(name.rpartition(".")[2]):
        return f"{name}={MASK}"
    if equals and "{" in value:
        text = f"{name}={ENTRY.sub(_entry, value)}"
    return masked_text(text)


def _entry(there: re.Match[str]) -> str:
    """A mapping's entry as it was written, its value hidden where its name speaks of a secret."""
    value = MASK if speaks(there[2]) else ENTRY.sub(_entry, there[4])
    return f"{there[1]}{there[2]}{there[1]}{there[3]}{value}"


def speaks(key: str) -> bool:
    """Whether a key's name says that what stands under it is secret."""
    name = _words(key)
    return bool(STRONG.search(name) or WEAK.search(name)) and not PIECE.search(name)


def _words(key: str) -> str:
    """A key with its words joined as Python does: `api-key` and `accessToken` have two."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_")


def places(value: object, place: str = "") -> Iterator[str]:
    """Dotted places of secrets in plain data."""
    yield from _places(value, place, place.rpartition(".")[2])


def _places(value: object, place: str, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _places(item, f"{place}.{name}" if place else str(name), _below(key, name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _places(item, place, key)
    elif isinstance(value, str | int) and masked(value, key=key) != value:  # no nan
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
