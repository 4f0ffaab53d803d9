"""Signatures of targets and fields of dataclasses, read from source without importing it."""

import ast
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from tlx.config import project
from tlx.config.problems import CheckError, Problem

PACKAGE = Path(__file__).resolve().parent.parent
REQUIRED = object()
"""Default of a parameter that has none."""

OPAQUE = object()
"""Default that is not a literal: it exists, but cannot be read."""


@dataclass(frozen=True)
class Parameter:
    """A keyword of a target, or a field of a node."""

    name: str
    annotation: ast.expr | None
    default: object

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class Signature:
    """What a config may say to a target.

    Args:
        parameters: the keyword-only ones, which the config gives.
        supplied: the positional ones, which tlx gives.
        catches_all: whether there is a `**kwargs`.
        aliases: names of types that the module assigns.
    """

    parameters: dict[str, Parameter]
    supplied: tuple[str, ...] = ()
    catches_all: bool = False
    aliases: Mapping[str, ast.expr] = field(default_factory=dict)


def place(module: str) -> Path | None:
    """The source file of a module, found without importing it; the folder of a bare namespace.

    None where there is none, and for what is no name of a module: finders stumble over those.
    """
    named = all(part.isidentifier() for part in module.split("."))
    return _place(module, _project(module)) if named else None


def _project(name: str) -> Path | None:
    """The project in which a name that is not tlx's may be found; part of what is remembered."""
    work = None if name.partition(".")[0] == PACKAGE.name else project.current()
    return work.root if work is not None else None


def within(module: str, folder: Path) -> bool:
    """Whether a module's file lies in a folder."""
    file = place(module)
    return file is not None and file.resolve().is_relative_to(folder)


@cache
def _place(module: str, _: Path | None) -> Path | None:
    head, *rest = module.split(".")
    if head == PACKAGE.name:
        base = PACKAGE.joinpath(*rest)
        return next(
            (p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None
        )
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    name = ""
    for part in (head, *rest):
        name = f"{name}.{part}" if name else part
        spec = _spec(name, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    assert spec is not None
    if spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    return Path(path[0]) if path and not spec.has_location else None


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    """What the first finder says of a module: also those of packages installed for editing."""
    asked = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in asked if spec is not None), None)


def module_file(module: str) -> Path | None:
    """The source file of a module, found without importing it or its parents."""
    file = place(module)
    return file if file is not None and file.is_file() else None


def modules(package: str) -> list[str]:
    """A module, and all below it where it is a package."""
    top = place(package)
    if top is None:
        return []
    folder = top if top.is_dir() else top.parent
    if top.is_file() and top.name != "__init__.py":
        return [package]
    below = (file.relative_to(folder).with_suffix("") for file in folder.rglob("*.py"))
    names = (".".join((package, *path.parts)).removesuffix(".__init__") for path in below)
    return sorted(names)


def public(module: str) -> frozenset[str]:
    """Functions and classes that a module defines at its top; without those that begin with `_`."""
    return _public(module, _project(module))


@cache
def _public(module: str, _: Path | None) -> frozenset[str]:
    path = module_file(module)
    defined = (ast.FunctionDef, ast.ClassDef)
    names = (s.name for s in tree(path).body if isinstance(s, defined)) if path else ()
    return frozenset(name for name in names if not name.startswith("_"))


def forget() -> None:
    """Drops what is known of modules, whose files have changed."""
    for known in (_place, _public, tree, _signature, _constant):
        known.cache_clear()


@cache
def tree(path: Path) -> ast.Module:
    """A source file as a syntax tree.

    Raises:
        CheckError: it is no Python.
    """
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        raise CheckError(
            [Problem(where, f"is no Python: {getattr(error, 'msg', error)}")]
        ) from None


def _literal(node: ast.expr | None) -> object:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return OPAQUE


def _aliases(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        statement.targets[0].id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def signature(target: str) -> Signature | None:
    """The signature of a function or dataclass by its dotted name; None where it is not found."""
    return _signature(target, _project(target))


@cache
def _signature(target: str, _: Path | None) -> Signature | None:
    module, name = target.rpartition(".")[::2]
    path = module_file(module)
    if path is None:
        return None
    parsed = tree(path)
    for statement in parsed.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return _of_function(statement, parsed, module)
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _of_class(statement, parsed, module)
    return None


def _of_function(function: ast.FunctionDef, parsed: ast.Module, module: str) -> Signature:
    arguments = function.args
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parameters = {a.arg: Parameter(a.arg, a.annotation, _literal(value)) for a, value in keywords}
    shared = _shared(arguments.kwarg, parsed, module)
    aliases = {**_imported(arguments.kwonlyargs, parsed, module), **_aliases(parsed)}
    return Signature(
        {**parameters, **(shared.parameters if shared else {})},
        tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args)),
        arguments.kwarg is not None and shared is None,
        {**(shared.aliases if shared else {}), **aliases},
    )


def _imported(arguments: Sequence[ast.arg], parsed: ast.Module, module: str) -> dict[str, ast.expr]:
    """Names of types in annotations that other modules of tlx, or of the same project, assign."""
    homes = {PACKAGE.name, module.partition(".")[0]}
    annotations = [argument.annotation for argument in arguments if argument.annotation]
    names = {n.id for each in annotations for n in ast.walk(each) if isinstance(n, ast.Name)}
    found: dict[str, ast.expr] = {}
    for name in sorted(names):
        home = _origin(name, parsed) or ""
        path = module_file(home) if home.partition(".")[0] in homes else None
        assigned = _aliases(tree(path)) if path else {}
        found |= {name: assigned[name]} if name in assigned else {}
    return found


def _shared(keywords: ast.arg | None, parsed: ast.Module, module: str) -> Signature | None:
    """What `**draw: Unpack[Few]` stands for: the keys of `Few`, with the defaults of `Draw`.

    A TypedDict holds no defaults: they are those of the dataclass beside it that is called as the
    parameter is.
    """
    match keywords.annotation if keywords else None:
        case ast.Subscript(value=ast.Name(id="Unpack"), slice=ast.Name(id=name)):
            home = _origin(name, parsed) or module
        case _:
            return None
    assert keywords is not None
    keys, defaults = signature(f"{home}.{name}"), signature(f"{home}.{keywords.arg.capitalize()}")
    if keys is None or defaults is None:
        return None
    parameters = {
        key: replace(parameter, default=defaults.parameters[key].default)
        for key, parameter in keys.parameters.items()
        if key in defaults.parameters
    }
    return Signature(parameters, aliases=keys.aliases)


def _origin(name: str, parsed: ast.Module) -> str | None:
    """The module that a name is imported from."""
    for statement in parsed.body:
        if isinstance(statement, ast.ImportFrom) and name in {a.name for a in statement.names}:
            return statement.module
    return None


def _of_class(definition: ast.ClassDef, parsed: ast.Module, module: str) -> Signature:
    """The fields of a class and of its parents in the same module."""
    parameters: dict[str, Parameter] = {}
    for base in definition.bases:
        parent = signature(f"{module}.{base.id}") if isinstance(base, ast.Name) else None
        parameters |= parent.parameters if parent else {}
    for field_ in definition.body:
        if isinstance(field_, ast.AnnAssign) and isinstance(field_.target, ast.Name):
            name = field_.target.id
            parameters[name] = Parameter(name, field_.annotation, _literal(field_.value))
    return Signature(parameters, aliases=_aliases(parsed))


def constant(module: str, name: str) -> Any:
    """The literal that a module assigns to a name; None where there is none."""
    return _constant(module, name, _project(module))


@cache
def _constant(module: str, name: str, _: Path | None) -> Any:
    path = module_file(module)
    if path is None:
        return None
    for statement in tree(path).body:
        if isinstance(statement, ast.Assign):
            names, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            names, value = [statement.target], statement.value
        else:
            continue
        if any(isinstance(n, ast.Name) and n.id == name for n in names):
            found = _literal(value)
            return None if found is OPAQUE else found
    return None
