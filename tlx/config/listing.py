"""`tlx list`: what there is to choose from, read from the YAML files' own comments."""

from pathlib import Path

from tlx.config.check import allowed_targets
from tlx.config.places import conf_dir, experiments_dir
from tlx.results.record import UNREADABLE, status_of


def text(group: str | None, *, config_dir: str | None = None, runs_dir: str = "runs") -> str:
    """The options of a group, or all groups, one a line.

    Raises:
        ValueError: no such group; names the nearest.
    """
    roots = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    groups = sorted({path.name for root in roots for path in root.iterdir() if path.is_dir()})
    folders = [experiments_dir(), *([Path(config_dir) / "experiment"] if config_dir else [])]
    groups = [name for name in groups if name != "experiment"]
    names = [*groups, "experiment", "runs", "targets"]
    if group is None:
        of = {name: [root / name for root in roots] for name in groups} | {"experiment": folders}
        return "\n".join(f"{name:16} {_summary(name, of)}" for name in names)
    if group == "targets":
        return "\n".join(sorted(allowed_targets()))
    if group == "runs":
        return "\n".join(_run_line(path.parent) for path in _runs(runs_dir))
    if group == "experiment":
        return _options(folders)
    if group not in groups:
        from tlx.config.suggest import nearest

        near = nearest(group, names)
        hint = f"; nearest: {near}" if near else ""
        raise ValueError(f"no group {group!r}{hint}; there are {', '.join(names)}")
    return _options([root / group for root in roots])


def _summary(group: str, folders: dict[str, list[Path]]) -> str:
    if group == "runs":
        return "what has been trained"
    if group == "targets":
        return "functions that a config may call"
    return ", ".join(path.stem for f in folders[group] for path in sorted(f.glob("*.yaml")))


def _options(folders: list[Path]) -> str:
    present = [folder for folder in folders if folder.is_dir()]
    paths = [path for folder in present for path in sorted(folder.glob("*.yaml"))]
    return "\n".join(f"{path.stem:24} {first_comment(path)}" for path in paths)


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
