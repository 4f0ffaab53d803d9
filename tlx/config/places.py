"""Where conf/ and experiments/ lie, in a checkout and in an installed wheel, and what they hold."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tlx.config.signatures import PACKAGE

EXPERIMENT = "experiment"


def conf_dir() -> Path:
    """The folder of the config groups: in the package when installed, else beside it."""
    return next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if p.is_dir())


def experiments_dir() -> Path:
    """The folder of the named experiments."""
    return conf_dir().parent / "experiments"


@dataclass(frozen=True)
class Library:
    """The option files of conf/, of experiments/ and of the user's own folder.

    Args:
        own: the user's `--config-dir`, with folders named like the groups.
    """

    own: Path | None = None

    def folders(self) -> Iterator[tuple[str, Path]]:
        """Group and folder, tlx's first."""
        yield EXPERIMENT, experiments_dir()
        for base in (conf_dir(), self.own):
            if base is not None:
                yield from ((p.name, p) for p in sorted(base.iterdir()) if p.is_dir())

    def options(self, group: str) -> dict[str, list[Path]]:
        """Option to the files that define it; more than one file is a clash."""
        found: dict[str, list[Path]] = {}
        for name, folder in self.folders():
            if name == group and folder.is_dir():
                for file in sorted(folder.rglob("*.yaml")):
                    option = file.relative_to(folder).with_suffix("").as_posix()
                    found.setdefault(option, []).append(file)
        return found

    def groups(self) -> frozenset[str]:
        """Names of all groups."""
        return frozenset(name for name, _ in self.folders())


@cache
def targets_by_group() -> dict[str, frozenset[str]]:
    """Group to the targets that tlx's own option files name: exactly these may be called."""
    found: dict[str, set[str]] = {}
    for group in sorted(Library().groups() - {EXPERIMENT}):
        for paths in Library().options(group).values():
            text = "\n".join(p.read_text(encoding="utf-8") for p in paths)
            names = re.findall(r"^\s*_target_:\s*([\w.]+)\s*$", text, flags=re.MULTILINE)
            found.setdefault(group, set()).update(names)
    return {group: frozenset(names) for group, names in found.items()}


@cache
def list_group_options(group: str) -> frozenset[str]:
    """Keys that the option files of a list group set."""
    return frozenset(name for name in Library().options(group) if name != "none")
