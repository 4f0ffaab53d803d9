"""Where conf/ and experiments/ lie, in a checkout and in an installed wheel, and what they hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from tlx.config import project
from tlx.config.plugins import plugins, targets_in
from tlx.config.problems import CheckError, Problem
from tlx.config.signatures import PACKAGE, constant
from tlx.config.suggest import listed, nearest

EXPERIMENT = "experiment"


def conf_dir() -> Path:
    """The folder of the config groups: in the package when installed, else beside it."""
    return next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if p.is_dir())


def experiments_dir() -> Path:
    """The folder of the named experiments."""
    return conf_dir().parent / "experiments"


@dataclass(frozen=True)
class Library:
    """The option files of conf/, of experiments/ and of further folders.

    Args:
        own: folders with folders named like the groups: of installed packages, of the project that
            one is in, the user's `--config-dir`.
    """

    own: tuple[Path, ...] = ()

    @classmethod
    def here(cls, config_dir: str | Path | None = None) -> Self:
        """All that there is to choose from where one is.

        Raises:
            CheckError: `config_dir` is no folder.
        """
        folders = [plugin.conf for plugin in plugins() if plugin.conf is not None]
        work = project.current()
        if work is not None and work.conf.is_dir():
            folders.append(work.conf)
        if config_dir is not None:
            folders.append(Path(config_dir).expanduser().absolute())
            if not folders[-1].is_dir():
                raise CheckError([Problem("--config-dir", f"{folders[-1]} is no folder")])
        return cls(tuple({folder.resolve(): folder for folder in folders}.values()))

    def folders(self) -> Iterator[tuple[str, Path]]:
        """Group and folder, tlx's first."""
        yield EXPERIMENT, experiments_dir()
        for base in (conf_dir(), *self.own):
            yield from ((p.name, p) for p in sorted(base.iterdir()) if _is_group(p))

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

    def problems(self) -> list[Problem]:
        """What is wrong with the folders that are not tlx's own."""
        groups, problems = Library().groups(), []
        for name, folder in self.folders():
            if name not in groups:
                near, there = nearest(name, groups), listed(groups)
                problems.append(Problem(str(folder), f"is no group; there are {there}", near))
        for name in sorted(groups):
            problems += [
                Problem(str(files[-1]), f"{name}={option} is in {files[0]} too; give another name")
                for option, files in self.options(name).items()
                if len(files) > 1
            ]
        return problems


def _is_group(path: Path) -> bool:
    return path.is_dir() and path.name[0] not in "._"


@cache
def targets_by_group() -> dict[str, frozenset[str]]:
    """Group to the targets that tlx's own option files name: exactly these may be called."""
    return {
        group: targets_in([file for files in Library().options(group).values() for file in files])
        for group in sorted(Library().groups() - {EXPERIMENT})
    }


def options_with(group: str, literal: str, value: str) -> list[str]:
    """Options of tlx's own group in whose module a literal has a value: tasks of a kind, say."""
    return [
        option
        for option, files in Library().options(group).items()
        if any(constant(name.rpartition(".")[0], literal) == value for name in targets_in(files))
    ]


@cache
def list_group_options(group: str) -> frozenset[str]:
    """Keys that the option files of a list group set."""
    return frozenset(name for name in Library().options(group) if name != "none")
