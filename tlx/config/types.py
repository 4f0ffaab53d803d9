"""Values against annotations: what a config's value becomes, or why it does not fit."""

import ast
import copy
import math
from collections.abc import Iterator, Mapping

from tlx.base.ranges import Range
from tlx.config.suggest import nearest

Aliases = Mapping[str, ast.expr]
ANYTHING = {"Any", "object"}
SEQUENCES = {"list", "Sequence", "tuple", "Iterable", "set", "frozenset", "Collection"}
MAPPINGS = {"dict", "Mapping", "MutableMapping"}
SCALARS = {"int", "float", "str", "bool", "Path"}


class Misfit(ValueError):
    """A value that an annotation does not admit, and the nearest that it does."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


class OutOfRange(Misfit):
    """A number of the right type, but not in the range that is said beside it."""


def conform(value: object, annotation: ast.expr | None, aliases: Aliases) -> object:
    """The value as the annotation wants it: `1` for a float is 1.0, `off` for a choice is "off".

    Raises:
        Misfit: the value does not fit.
    """
    if annotation is None:
        return value
    node = _plain(annotation, aliases)
    name = _name(node)
    if isinstance(node, ast.Constant) and node.value is None:
        if value is None:
            return None
    elif isinstance(node, ast.BinOp) or name in {"Union", "Optional"}:
        return _one_of(value, node, aliases)
    elif name == "Literal":
        return _choice(value, node)
    elif name == "Annotated":
        return _ranged(value, node, aliases)
    elif name in SCALARS:
        return _scalar(value, name)
    elif name in SEQUENCES:
        return _sequence(value, node, aliases)
    elif name in MAPPINGS:
        return _mapping(value, node, aliases)
    else:
        return value
    raise Misfit(f"is {shown(value)}; give {described(annotation, aliases)}")


def known(annotation: ast.expr | None, aliases: Aliases) -> bool:
    """Whether every part of an annotation is one that `conform` checks."""
    if annotation is None:
        return False
    node = _plain(annotation, aliases)
    name = _name(node)
    if isinstance(node, ast.BinOp):
        return known(node.left, aliases) and known(node.right, aliases)
    if isinstance(node, ast.Constant):
        return node.value is None or node.value is Ellipsis
    if name == "Annotated":
        return known(_parts(node)[0], aliases)
    if name == "Literal" or name in ANYTHING or (name in SCALARS and isinstance(node, ast.Name)):
        return True
    if name in SEQUENCES | MAPPINGS | {"Union", "Optional"}:
        return all(known(part, aliases) for part in _parts(node))
    return False


def described(annotation: ast.expr, aliases: Aliases) -> str:
    """An annotation in a reader's words."""
    text = ast.unparse(_bare(_plain(annotation, aliases)))
    return text.replace("None", "null").replace(" | ", " or ").replace("Literal", "one of ")


def shown(value: object) -> str:
    """A value with its type, as a message shows it."""
    if value is None:
        return "null"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _plain(node: ast.expr, aliases: Aliases) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _plain(ast.parse(node.value, mode="eval").body, aliases)
    if isinstance(node, ast.Name) and node.id in aliases and node.id not in SCALARS:
        return _plain(aliases[node.id], aliases)
    return node


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _parts(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, ast.Subscript):
        return []
    inner = node.slice
    return list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]


def _one_of(value: object, node: ast.expr, aliases: Aliases) -> object:
    members = [node.left, node.right] if isinstance(node, ast.BinOp) else _parts(node)
    if _name(node) == "Optional":
        members.append(ast.Constant(None))
    misfits: list[Misfit] = []
    fitting: list[object] = []
    for member in members:
        try:
            fitting.append(conform(value, member, aliases))
        except Misfit as misfit:
            misfits.append(misfit)
    same = [v for v in fitting if type(v) is type(value)]
    if fitting:
        return (same or fitting)[0]
    for out in misfits:
        if isinstance(out, OutOfRange):
            raise out
    suggestion = next((m.suggestion for m in misfits if m.suggestion), None)
    raise Misfit(f"is {shown(value)}; give {described(node, aliases)}", suggestion)


def _ranged(value: object, node: ast.expr, aliases: Aliases) -> object:
    """A value of what is annotated, whose numbers are in the range that is said beside it."""
    inner, *said = _parts(node)
    fitting = conform(value, inner, aliases)
    for bounds in filter(None, map(_range, said)):
        for number in _numbers(fitting):
            if not bounds.holds(number):
                raise OutOfRange(f"is {number}; give a number {bounds}")
    return fitting


def _range(node: ast.expr) -> Range | None:
    """The range that an annotation's further part says; None where it says something else."""
    if not isinstance(node, ast.Call) or _name(node.func) != Range.__name__:
        return None
    try:
        bounds = {each.arg: ast.literal_eval(each.value) for each in node.keywords if each.arg}
        if node.args or not all(isinstance(bound, int | float) for bound in bounds.values()):
            raise ValueError(bounds)
        return Range(**bounds)
    except (ValueError, TypeError) as error:
        raise Misfit(
            f"has a range that cannot be read, {ast.unparse(node)}; write plain numbers, as in "
            "Range(least=0, below=1)"
        ) from error


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


class _Bare(ast.NodeTransformer):
    """Takes ranges out of annotations, which messages say in words."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """The annotated type alone."""
        self.generic_visit(node)
        return _parts(node)[0] if _name(node) == "Annotated" else node


def _bare(node: ast.expr) -> ast.expr:
    bare: ast.expr = _Bare().visit(copy.deepcopy(node))
    return bare


def _choice(value: object, node: ast.expr) -> object:
    choices = [ast.literal_eval(part) for part in _parts(node)]
    if any(value == c and type(value) is type(c) for c in choices):
        return value
    # YAML reads a bare 32 as a number and a bare off as false
    words = {True: ("on", "true", "yes"), False: ("off", "false", "no")}
    spellings = words[value] if isinstance(value, bool) else (str(value),)
    for spelling in spellings:
        if spelling in choices:
            return spelling
    names = [str(c) for c in choices]
    message = f"is {shown(value)}; give one of {', '.join(names)}"
    raise Misfit(message, nearest(str(value), names))


def _scalar(value: object, name: str) -> object:
    if name == "bool":
        if isinstance(value, bool):
            return value
    elif name == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    elif name == "float":
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isnan(value):
                raise Misfit("is not a number; give a float")
            return float(value)
    elif isinstance(value, str):
        return value
    suggestion = None
    if name == "bool":
        suggestion = nearest(str(value), ["true", "false"], cutoff=0.6)
    raise Misfit(f"is {shown(value)}; give {name}", suggestion)


def _sequence(value: object, node: ast.expr, aliases: Aliases) -> object:
    if not isinstance(value, list | tuple):
        hint = f"[{value}]" if isinstance(value, str | int | float) else None
        raise Misfit(f"is {shown(value)}; give a list, {described(node, aliases)}", hint)
    parts = [p for p in _parts(node) if not (isinstance(p, ast.Constant) and p.value is Ellipsis)]
    fixed = _name(node) == "tuple" and len(parts) == len(_parts(node)) and parts
    if fixed and len(parts) != len(value):
        raise Misfit(f"has {len(value)} items; give {len(parts)}")
    kinds = parts if fixed else [parts[0] if parts else None] * len(value)
    return [conform(v, kind, aliases) for v, kind in zip(value, kinds, strict=True)]


def _mapping(value: object, node: ast.expr, aliases: Aliases) -> object:
    if not isinstance(value, Mapping):
        raise Misfit(f"is {shown(value)}; give a mapping, {described(node, aliases)}")
    parts = _parts(node)
    kind = parts[1] if len(parts) == 2 else None
    return {str(key): conform(v, kind, aliases) for key, v in value.items()}
