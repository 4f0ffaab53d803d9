"""What a project's own functions are: hashes of their code, which are part of a run's name.

tlx's own functions are known by their names, since a change of what they do is marked
(`tlx.config.changes`). A project's change daily: a run is known by their code too, so that an
edited strategy is trained anew and does not go by the figures of the one before.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tlx.base.nodes import Node, target_of
from tlx.config import project, signatures
from tlx.config.check import target_nodes

WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def components(config: Node) -> dict[str, str]:
    """A config's functions of the project that one is in, each with the hash of its code.

    Comments, docstrings and layout do not count. What counts is the module and all modules of the
    project that it imports, in whatever way.
    """
    work = project.current()
    if work is None:
        return {}
    targets = {target_of(node) for _, _, node in target_nodes(config)} - {""}
    modules = {target: target.rpartition(".")[0] for target in sorted(targets)}
    return {
        target: _digest(module, work.root)
        for target, module in modules.items()
        if signatures.within(module, work.root)
    }


@cache
def _digest(module: str, root: Path) -> str:
    texts: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = signatures.module_file(name)
        if name in texts or file is None or not signatures.within(name, root):
            continue
        tree = signatures.tree(file)
        texts[name] = _plain(tree)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [name.rpartition(".")[0] or name, *_imported(tree, package)]
    whole = "\n".join(f"{name} {text}" for name, text in sorted(texts.items()))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Names that may be modules, of all imports of a file, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _plain(node: object) -> str:
    """A syntax tree as text that every version of Python writes alike, without docstrings.

    `ast.dump` shows more fields with every version.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    shown = (f"{key}={_plain(value)}" for key, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(shown)})"
