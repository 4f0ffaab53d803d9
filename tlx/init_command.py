"""`tlx init`: a project of one's own, written from a template; it imports nothing heavy."""

import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tlx.config import project, signatures
from tlx.config.suggest import listed

TEMPLATE = Path(__file__).resolve().parent / "template"
NAME = "myproject"
"""What stands in the template for the project's module."""

RENAMED = {"gitignore": ".gitignore"}
"""Files that would act on the template itself."""


def init(folder: Path) -> list[Path]:
    """Writes a project that runs at once; returns its files.

    Args:
        folder: of the project; its name becomes that of the project's module.

    Raises:
        ValueError: the folder is not empty, or its name is none for a module.
    """
    folder = folder.expanduser().absolute()
    name = _module_name(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there, and not empty; give another folder")
    return list(_written(folder, name))


def _written(folder: Path, name: str) -> Iterator[Path]:
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        relative = source.relative_to(TEMPLATE)
        relative = relative.with_name(RENAMED.get(relative.name, relative.name))
        place = folder / str(relative).replace(NAME, name)
        text = source.read_text(encoding="utf-8").replace(NAME, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text.replace("@PYTHON@", sys.executable), encoding="utf-8")
        yield place


def _module_name(folder: Path) -> str:
    """The module's name for a folder's.

    Raises:
        ValueError: it cannot be one, or is taken.
    """
    name = re.sub(r"[-. ]", "_", folder.name.lower())
    near = re.sub(r"^[\d_]+|\W", "", name, flags=re.ASCII) or "mycode"
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise ValueError(f"{folder.name!r} is no name for a module; give one such as {near}")
    taken = name in {"tests", "conf", NAME} or name in sys.stdlib_module_names
    place = signatures.place(name)
    if taken or place not in (None, folder):
        where = f" ({place})" if place is not None else ""
        raise ValueError(f"{name!r} is the name of another module{where}; give one like my_{name}")
    return name


def text(files: list[Path]) -> str:
    """What was written, and what to do with it."""
    root = next(file.parent for file in files if file.name == project.FILE)
    names = [str(file.relative_to(root)) for file in files]
    return f"{root}: {listed(names, most=40)}\nnow: cd {root} && make run && make test"
