"""Figures of the code itself: `python -m benchmarks.figures`, or `make figures`.

Lines of code are lines with a token on them that is neither comment nor docstring. Imports count
wherever they stand. An arrow up is an import against the order in which rooms stand in `FLOORS`.
"""

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

PACKAGE = Path(__file__).resolve().parent.parent / "tlx"
UNCOUNTED = ("testing/", "template/", "init_command.py", "backbones/own.py", "data/images/own.py")
"""What is there for users' own projects; it adds nothing that tlx runs on."""

FLOORS = (
    *("base", "methods", "results", "data", "backbones", "tasks", "config", "frozen", "training"),
    *("report", "building", "execution", "train", "fused"),
    *("execution.execute", "execution.rehearsal", "use", "sweeps"),
    *("diagnose", "cache_commands", "study_commands", "init_command"),
    *("commands", "cli", "__init__"),
)
"""Rooms from the ground up; a module that stands elsewhere than its room is named by itself."""

DENSE = ("frozen", "fused", "training", "execution/leases.py", "execution/lease_journal.py")


@dataclass(frozen=True)
class Source:
    """A file of the package.

    Attributes:
        name: dotted, without `tlx.`.
        code: numbers of the lines of code.
        comments: how many comments there are.
    """

    path: Path
    name: str
    tree: ast.Module
    code: frozenset[int]
    comments: int

    @property
    def room(self) -> str:
        """The folder or file directly in the package."""
        return self.name.partition(".")[0]


def source(path: Path, package: Path) -> Source:
    """Reads a file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    relative = path.relative_to(package)
    parts = relative.parent.parts if path.name == "__init__.py" else relative.with_suffix("").parts
    lines: set[int] = set()
    comments = 0
    silent = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments += 1
        elif token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    name = ".".join(parts) or "__init__"
    return Source(path, name, tree, frozenset(lines - _docstrings(tree)), comments)


def _docstrings(tree: ast.Module) -> set[int]:
    """Lines of texts that stand alone, those below an attribute included."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def imports(file: Source, modules: frozenset[str]) -> Iterator[str]:
    """Modules of the package that a file imports, wherever in it."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inner = name.removeprefix("tlx.")
            if inner == name:
                continue
            while inner and inner not in modules:
                inner = inner.rpartition(".")[0]
            if inner:
                yield inner


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which imports all others of it, by one way or another.

    Source: Tarjan 1972, "Depth-first search and linear graph algorithms".
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            place = stack.index(node)
            if len(stack) - place > 1:
                groups.append(sorted(stack[place:]))
            del stack[place:]

    for node in sorted(arrows):
        if node not in order:
            visit(node)
    return groups


def floor(module: str) -> int:
    """How high a module stands: as it is named by itself, or as its room."""
    return FLOORS.index(module if module in FLOORS else module.partition(".")[0])


def arrows_up(files: list[Source], modules: frozenset[str]) -> list[str]:
    """Imports of a room that stands higher, as `module -> module`.

    What tlx offers at its top, and what a command is looked up by, is imported late on purpose.
    """
    late = {"__init__", "cli"}
    return sorted(
        f"{file.name} -> {name}"
        for file in files
        if file.room not in late
        for name in set(imports(file, modules))
        if floor(name) > floor(file.name)
    )


def uses_of_any(file: Source) -> int:
    """How often `Any` stands in a file, imports aside; an alias counts where it is used."""
    aliases = {
        target.id
        for node in file.tree.body
        if isinstance(node, ast.Assign) and any(_is_any(n) for n in ast.walk(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    names = Counter(node.id for node in ast.walk(file.tree) if isinstance(node, ast.Name))
    quoted = sum(
        node.value.count("Any")
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("Callable[", "Mapping[", "dict["))
    )
    return names["Any"] + quoted + sum(names[alias] - 1 for alias in aliases)


def _is_any(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "Any"


def functions(file: Source) -> Iterator[tuple[str, int]]:
    """Name and lines of code of each function, those within it included."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = node.end_lineno or node.lineno
            yield node.name, len(file.code & set(range(node.lineno, last + 1)))


def classes_twice(files: list[Source]) -> dict[str, list[str]]:
    """Names that classes of several modules have, and the modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(file.name)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def figures(package: Path = PACKAGE) -> dict[str, tuple[str, list[str]]]:
    """Name of each figure to its value, and to what lies behind it."""
    files = [
        source(path, package)
        for path in sorted(package.rglob("*.py"))
        if not path.relative_to(package).as_posix().startswith(UNCOUNTED)
    ]
    modules = frozenset(file.name for file in files)
    # the package itself offers, late, what lies above everything
    inner = [file for file in files if file.name != "__init__"]
    arrows = {file.name: set(imports(file, modules)) - {file.name} for file in inner}
    lines = sum(len(file.code) for file in files)
    without_imports = lines - sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for file in files
        for node in file.tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    uses = {file.name: uses_of_any(file) for file in files}
    groups, up, twice = circles(arrows), arrows_up(files, modules), classes_twice(files)
    lengths = sorted(
        ((n, f"{file.name}.{name}") for file in files for name, n in functions(file)), reverse=True
    )
    longest = sorted(((len(file.code), file.name) for file in files), reverse=True)
    dense = [file for file in files if _is_dense(file.path.relative_to(package))]
    comments = sum(file.comments for file in dense)
    of_dense = sum(len(file.code) for file in dense)
    most = sorted(((n, name) for name, n in uses.items()), reverse=True)
    return {
        "Any in 1,000 lines without imports": (
            f"{1000 * sum(uses.values()) / without_imports:.1f}",
            [f"{n} {name}" for n, name in most[:12]],
        ),
        "circles of modules": (str(len(groups)), [" ".join(group) for group in groups]),
        "arrows up": (str(len(up)), up),
        "class names used twice": (
            str(len(twice)),
            [f"{name}: {', '.join(places)}" for name, places in twice.items()],
        ),
        "lines of a function, 90th percentile": (
            f"{quantiles([n for n, _ in lengths], n=10)[-1]:.0f}",
            [f"{n} {name}" for n, name in lengths[:12]],
        ),
        "lines of the longest file": (
            str(longest[0][0]),
            [f"{n} {name}" for n, name in longest[:8]],
        ),
        "comments in 100 lines of the dense rooms": (f"{100 * comments / of_dense:.1f}", []),
        "lines of code": (f"{lines:,}", []),
    }


def _is_dense(path: Path) -> bool:
    return path.as_posix().startswith(DENSE)


def main() -> None:
    """Prints them; with `-v` what lies behind each as well."""
    for name, (value, behind) in figures().items():
        print(f"{name:<42} {value:>8}")
        if "-v" in sys.argv[1:]:
            print("".join(f"    {line}\n" for line in behind), end="")


if __name__ == "__main__":
    main()
