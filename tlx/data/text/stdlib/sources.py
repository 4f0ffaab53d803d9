"""The standard library of the running Python as texts: read, never imported.

Numbers differ between versions of Python, and between builds that leave parts out.
"""

import ast
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tlx.data.draw import shuffled
from tlx.data.text.stdlib.tags import words_of

TOPICS: Mapping[str, tuple[str, ...]] = {
    "concurrency": (
        "asyncio", "concurrent", "multiprocessing", "queue", "sched", "subprocess", "threading",
        "_threading_local", "asyncore", "asynchat",
    ),
    "files": (
        "bz2", "_compression", "fileinput", "filecmp", "fnmatch", "genericpath", "glob", "gzip",
        "lzma", "ntpath", "os", "pathlib", "posixpath", "_pyio", "shutil", "stat", "tarfile",
        "tempfile", "zipapp", "zipfile", "zipimport", "compression",
    ),
    "introspection": (
        "abc", "ast", "dis", "importlib", "inspect", "modulefinder", "opcode", "pkgutil",
        "pyclbr", "pydoc", "runpy", "symtable", "tokenize", "types", "typing", "annotationlib",
    ),
    "mail": (
        "base64", "email", "imaplib", "mailbox", "mailcap", "mimetypes", "poplib", "quopri",
        "smtpd", "smtplib", "uu",
    ),
    "networking": (
        "cgi", "ftplib", "http", "ipaddress", "nntplib", "selectors", "socket",
        "socketserver", "ssl", "telnetlib", "urllib", "webbrowser", "wsgiref", "xmlrpc",
    ),
    "numbers": (
        "calendar", "colorsys", "datetime", "_pydatetime", "decimal", "_pydecimal", "fractions",
        "heapq", "bisect", "numbers", "random", "statistics", "_strptime", "zoneinfo", "_pylong",
    ),
    "testing": (
        "bdb", "cgitb", "cProfile", "doctest", "pdb", "profile", "pstats", "timeit", "trace",
        "traceback", "tracemalloc", "unittest", "warnings", "logging",
    ),
    "text": (
        "codecs", "configparser", "csv", "difflib", "encodings", "gettext", "html", "json",
        "locale", "_markupbase", "plistlib", "pprint", "re", "reprlib", "shlex", "string",
        "stringprep", "textwrap", "tomllib", "xml",
    ),
}  # fmt: skip
"""Topic to modules; those of other versions of Python may be missing."""
NOT_LIBRARY = {"test", "tests", "idlelib", "site-packages", "turtledemo", "ensurepip", "pydoc_data"}
FEWEST_WORDS = 5
"""Of a docstring that is used: shorter ones say nothing of their module."""
VAL_SHARE, TEST_SHARE = 0.15, 0.15
MASK = "module"
"""Stands for a module's own name."""


@dataclass(frozen=True)
class Document:
    """A docstring.

    Attributes:
        id: `module:qualified.name`.
        module: dotted name.
        topic: of its module; None for modules of none.
        text: with the module's own name replaced.
        keys: what it is told from others by: its words with that name, and without.
    """

    id: str
    module: str
    topic: str | None
    text: str
    keys: frozenset[str]


def topic_of(module: str) -> str | None:
    """The topic of a module by its top-level package; codecs have none: they are all alike."""
    top = "" if module.startswith("encodings.") else module.partition(".")[0]
    return next((topic for topic, tops in TOPICS.items() if top in tops), None)


@cache
def sources() -> dict[str, Path]:
    """Modules of the standard library and their files, sorted by name.

    Raises:
        ValueError: this Python comes without its sources.
    """
    base = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for place, folders, names in os.walk(base):
        top = Path(place) == base
        folders[:] = [
            name
            for name in folders
            if name not in NOT_LIBRARY and (not top or name in sys.stdlib_module_names)
        ]
        for path in (Path(place, name) for name in names if name.endswith(".py")):
            module = ".".join(path.relative_to(base).with_suffix("").parts)
            if not top or module in sys.stdlib_module_names:
                found[module.removesuffix(".__init__")] = path
    if not found:
        raise ValueError(f"{base} has no sources of the standard library; use another Python")
    return dict(sorted(found.items()))


@cache
def documents(*, topics_only: bool) -> tuple[Document, ...]:
    """All docstrings of five words or more, those of topics first.

    Of docstrings with the same words, whatever their modules' names, only the first is there.

    Args:
        topics_only: leave out modules of no topic, which are then not even read.
    """
    by_topic: dict[bool, list[str]] = {True: [], False: []}
    for module in sources():
        by_topic[topic_of(module) is not None].append(module)
    seen: set[str] = set()
    found = []
    for module in [*by_topic[True], *([] if topics_only else by_topic[False])]:
        for document in _docstrings(module):
            if not document.keys & seen:
                seen |= document.keys
                found.append(document)
    return tuple(found)


@cache
def _docstrings(module: str) -> tuple[Document, ...]:
    """The docstrings of a module in order; the second of a name gets a number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes, which are not ours
            tree = ast.parse(sources()[module].read_bytes())
    except (SyntaxError, ValueError):  # files that are wrong on purpose
        return ()
    topic = topic_of(module)
    found: dict[str, Document] = {}
    for name, node in _named(tree, ""):
        plain = ast.get_docstring(node) or ""
        text = _masking(module).sub(MASK, plain).strip()
        if len(text.split()) < FEWEST_WORDS:
            continue
        number, unique = 2, f"{module}:{name}" if name else module
        while unique in found:
            unique, number = f"{module}:{name}#{number}", number + 1
        found[unique] = Document(unique, module, topic, text, _keys(plain, text))
    return tuple(found.values())


def _keys(*texts: str) -> frozenset[str]:
    """The words of each text: of texts that have one of these in common, one is used."""
    return frozenset(" ".join(re.findall(r"\w+", text.lower())) for text in texts)


def code(module: str, *, without: Set[str] = frozenset()) -> str:
    """A module's names, strings and comments as one text, with the module's own name replaced.

    Args:
        module: dotted name.
        without: keys of documents to leave out.
    """
    words = words_of(sources()[module])
    masked = {word: _masking(module).sub(MASK, word) for word in {*words}}
    kept = {word for word, text in masked.items() if not _keys(word, text) & without}
    return " ".join(masked[word] for word in words if word in kept)


Named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _named(node: ast.AST, prefix: str) -> list[tuple[str, Named]]:
    """Everything that can have a docstring, with its qualified name, in order."""
    found: list[tuple[str, Named]] = []
    if isinstance(node, ast.Module):
        found.append(("", node))
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            continue  # definitions are statements
        name = prefix
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{child.name}" if prefix else child.name
            found.append((name, child))
        found += _named(child, name)
    return found


@cache
def _masking(module: str) -> re.Pattern[str]:
    """Matches a module's name and its parts, as words of their own, in any case."""
    parts = {part.strip("_") for part in module.split(".")} - {""}
    names = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z0-9])_*(?:{names})_*(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class HeldModules:
    """Modules to validate on and to test on; all others train."""

    val: frozenset[str]
    test: frozenset[str]

    def split(self, module: str) -> str:
        """Where a module's texts belong."""
        return "test" if module in self.test else "val" if module in self.val else "train"


@cache
def division(*, split_seed: int) -> HeldModules:
    """Divides the modules of each topic, so that shares of documents are about those wanted.

    Modules come in the order of a hash, and one that is larger than what is left of a share goes
    to the next.

    Raises:
        ValueError: a topic's modules cannot be divided so.
    """
    val: set[str] = set()
    test: set[str] = set()
    counts: dict[str, dict[str, int]] = {topic: {} for topic in TOPICS}
    for document in documents(topics_only=True):
        held = counts[str(document.topic)]
        held[document.module] = held.get(document.module, 0) + 1
    for topic, sizes in counts.items():
        modules, total = list(sizes), sum(sizes.values())
        left = {"test": TEST_SHARE * total, "val": VAL_SHARE * total}
        taken: dict[str, set[str]] = {"test": test, "val": val}
        for place in shuffled(modules, seed=split_seed, purpose="modules"):
            module = modules[place]
            for split, room in left.items():
                if sizes[module] <= room:
                    taken[split].add(module)
                    left[split] -= sizes[module]
                    break
        for split, chosen in taken.items():
            if not chosen & set(modules):
                raise ValueError(
                    f"stdlib_docs: this Python has too few modules of {topic!r} for a {split} "
                    "split; use another Python"
                )
    return HeldModules(frozenset(val), frozenset(test))
