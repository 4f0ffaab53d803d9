"""`tlx list`: what there is to choose from, read from the YAML files' own comments."""

from pathlib import Path

from tlx.config import project
from tlx.config.check import allowed_targets
from tlx.config.places import EXPERIMENT, Library
from tlx.config.plugins import plugins
from tlx.config.suggest import nearest
from tlx.results.reading import status_of
from tlx.results.record import UNREADABLE

OTHERS = {"runs": "what has been trained", "targets": "functions that a config may call"}
"""What is listed besides groups of options."""


def text(group: str | None, *, config_dir: str | None = None, runs_dir: str = "runs") -> str:
    """The options of a group, or all groups, one a line.

    Raises:
        ValueError: no such group; names the nearest.
    """
    library = Library.here(config_dir)
    groups = sorted(library.groups() - {EXPERIMENT})
    names = [*groups, EXPERIMENT, *OTHERS]
    if group is None:
        told = {name: ", ".join(library.options(name)) for name in (*groups, EXPERIMENT)} | OTHERS
        return "\n".join(f"{name:16} {told[name]}" for name in names)
    if group == "targets":
        return "\n".join(sorted(allowed_targets().listed()))
    if group == "runs":
        return "\n".join(_run_line(path.parent) for path in _runs(runs_dir))
    if group not in names:
        near = nearest(group, names)
        hint = f"; nearest: {near}" if near else ""
        raise ValueError(f"no group {group!r}{hint}; there are {', '.join(names)}")
    options = library.options(group).items()
    return "\n".join(f"{option:24} {first_comment(files[0])}" for option, files in options)


def brought() -> list[str]:
    """What there is to choose besides tlx's own, and who brings it, a line each."""
    work = project.current()
    lines = [f"project {work.root}: {_within(work.conf)}"] if work is not None else []
    for plugin in plugins():
        lines.append(f"options of {plugin.distribution}: {_within(plugin.conf)}")
    return lines


def _within(conf: Path | None) -> str:
    """The options of a folder: `freeze_strategy=late, regularization=delta`."""
    files = sorted(conf.glob("*/*.yaml")) if conf is not None else []
    return ", ".join(f"{file.parent.name}={file.stem}" for file in files) or "none, no conf/ there"


def first_comment(path: Path) -> str:
    """The first line of a YAML file's leading comment."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").rstrip()
    return ""


def _runs(runs_dir: str) -> list[Path]:
    return sorted(Path(runs_dir).expanduser().glob("*/config.yaml"))


def _run_line(folder: Path) -> str:
    status = status_of(folder) or "started"
    return f"{folder.name:60} {f'{status} record' if status == UNREADABLE else status}"
