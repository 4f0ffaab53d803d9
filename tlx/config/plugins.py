"""Options that installed packages bring: an entry point of the group `tlx.options` each.

Its value is a package, in which a folder `conf/` holds options as in tlx's own. Nothing of a
package is imported to find them.
"""

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tlx.config import signatures

GROUP = "tlx.options"


@dataclass(frozen=True)
class Plugin:
    """What an entry point of an installed package says.

    Args:
        name: of the entry point.
        package: that brings the options.
        distribution: installed package and its version, `tlx-moths 1.2`.
        conf: folder of the options; None: there is none.
    """

    name: str
    package: str
    distribution: str
    conf: Path | None

    def targets(self) -> frozenset[str]:
        """What its options call of its own package: exactly this is allowed."""
        head = self.package.partition(".")[0]
        names = targets_in(sorted(self.conf.rglob("*.yaml"))) if self.conf else frozenset()
        return frozenset(name for name in names if name.startswith(f"{head}."))


def targets_in(files: list[Path]) -> frozenset[str]:
    """The targets that option files name."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return frozenset(re.findall(r"^\s*_target_:\s*([\w.]+)\s*$", text, flags=re.MULTILINE))


def plugins() -> tuple[Plugin, ...]:
    """What is installed, in the order of the names."""
    return _plugins(tuple(sys.path))


@cache
def _plugins(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    if not any(map(_names_group, path)):
        return ()
    from importlib import metadata  # slow to import, and hardly ever needed

    found = []
    for point in metadata.entry_points(group=GROUP):
        place = signatures.place(point.value)
        folder = place if place is None or place.is_dir() else place.parent
        conf = folder / "conf" if folder is not None and (folder / "conf").is_dir() else None
        dist = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"
        found.append(Plugin(point.name, point.value, dist, conf))
    return tuple(sorted(found, key=lambda plugin: plugin.name))


def _names_group(folder: str) -> bool:
    """Whether a package in a folder has an entry point of ours, by a look at its text."""
    files = Path(folder).glob("*-info/entry_points.txt") if folder else ()
    return any(f"[{GROUP}]" in file.read_text(encoding="utf-8", errors="replace") for file in files)
