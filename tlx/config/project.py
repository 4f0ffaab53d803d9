"""The project that one works in: a folder with a tlx.toml, whose own code a config may call."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tlx.config.problems import CheckError, Problem

FILE = "tlx.toml"
VARIABLE = "TLX_PROJECT"


@dataclass(frozen=True)
class Project:
    """A folder of one's own: modules, `conf/` with further options, and a tlx.toml.

    Args:
        root: the folder, without links.
    """

    root: Path

    @property
    def file(self) -> Path:
        """Its settings, which allow functions of its own modules and nothing else."""
        return self.root / FILE

    @property
    def conf(self) -> Path:
        """Folder of its options, named like the groups; it need not be there."""
        return self.root / "conf"

    def code(self) -> list[Path]:
        """What a copy of it needs to run: its settings, its options, files and folders of code."""
        named = (FILE, self.conf.name)
        return [
            path
            for path in sorted(self.root.iterdir())
            if path.name in named
            or (path.name[0] != "." and (path.suffix == ".py" or any(path.glob("*.py"))))
        ]


def current() -> Project | None:
    """The project that this process works in, or None; its modules are found from now on.

    `TLX_PROJECT` names its folder; else it is the nearest one with a tlx.toml, from the current
    folder upwards. It goes to the end of `sys.path` (a mutator), so that no module of a project can
    stand in for one that is installed.

    Raises:
        CheckError: `TLX_PROJECT` names no project, or the one above is somebody else's.
    """
    if named := os.environ.get(VARIABLE):
        root = Path(named).expanduser().resolve()
        if not (root / FILE).is_file():
            raise CheckError([Problem(VARIABLE, f"{root} holds no {FILE}; unset it")])
    else:
        here = Path.cwd()
        above = next((f for f in (here, *here.parents) if (f / FILE).is_file()), None)
        if above is None:
            return None
        root = above.resolve()
        _require_trust(root)
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return Project(root)


def _require_trust(root: Path) -> None:
    """Passes what this user or root has put there: what a project names is run.

    Without this, a tlx.toml in a shared folder such as /tmp would run somebody else's code in
    every run that is started below it.
    """
    for path in (root, root / FILE):
        if path.stat().st_uid not in (os.getuid(), 0):
            problem = f"belongs to somebody else; if you trust the code there: {VARIABLE}={root}"
            raise CheckError([Problem(str(path), problem)])
