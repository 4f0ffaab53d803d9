"""Whose installed files these are: the package index has somebody else's package called `tlx`.

Ours is installed as `tlx-experiments`, and is imported as `tlx`. Looks at names of files and at
lists of installed files only: it runs with `import tlx`, where it may take no more than a
millisecond.
"""

import os
from collections.abc import Sequence

DISTRIBUTION = "tlx-experiments"
"""Name that ours is installed under."""

PACKAGE_FILE = "tlx/__init__.py"
CONFIG_FILE = "tlx/conf/config.yaml"
"""What ours alone installs, as a wheel and as a link to a checkout alike."""

INFO = ".dist-info"
MEND = (
    "pip uninstall tlx, then install this one again: pip install --force-reinstall --no-deps . "
    "(or -e .) in its checkout"
)


def require(package_file: str) -> None:
    """Passes a package that nobody else's installation claims.

    A checkout, a zip, and a copy that a job runs lie beside no installed packages: they pass.

    Args:
        package_file: path of the `tlx/__init__.py` that is being imported.

    Raises:
        ImportError: another package has installed a file of that name in the same place, which
            goes with it when it is uninstalled or brought up to date.
    """
    site = os.path.dirname(os.path.dirname(os.path.abspath(package_file)))
    if others := strangers(site, named="tlx"):
        raise ImportError(
            f"{os.path.join(site, 'tlx')} belongs to two packages, {DISTRIBUTION} and {others[0]}, "
            f"somebody else's on the index: {MEND}"
        )


def problems(sites: Sequence[str]) -> list[tuple[str, str]]:
    """What is wrong with the packages of some folders, each with the way to mend it.

    Args:
        sites: folders that packages are imported from, as `sys.path`.
    """
    wrong = []
    for site in dict.fromkeys(os.path.abspath(site) for site in sites):
        for name in strangers(site):
            title = f"{name} in {site} is somebody else's, and is imported as tlx too"
            distribution = name.rpartition("-")[0]
            wrong.append((title, MEND.replace("uninstall tlx", f"uninstall {distribution}")))
        names = _infos(site)
        earlier = [name for name in names if name.startswith("tlx-") and _lists(site, name)]
        if earlier and any(name.startswith("tlx_experiments-") for name in names):
            title = f"{earlier[0]} in {site} is this package under its earlier name"
            wrong.append((f"{title}: uninstalling it removes files of this one", MEND))
    return wrong


def strangers(site: str, *, named: str = "") -> list[str]:
    """Packages, `name-version`, that have installed a `tlx/__init__.py` and are not ours.

    Args:
        site: folder that packages are installed in.
        named: how their names begin.
    """
    return [
        name
        for name in _infos(site)
        if name.startswith(named)
        and _lists(site, name, PACKAGE_FILE)
        # what was installed before ours had its own name was called `tlx` as well
        and not _lists(site, name)
    ]


def _infos(site: str) -> list[str]:
    try:
        names = os.listdir(site)
    except OSError:  # a zip, or a folder that may not be read
        return []
    return sorted(name.removesuffix(INFO) for name in names if name.endswith(INFO))


def _lists(site: str, name: str, file: str = CONFIG_FILE) -> bool:
    """Whether a package's list of installed files holds one; False where it has no list."""
    path = os.path.join(site, f"{name}{INFO}", "RECORD")
    try:
        with open(path, encoding="utf-8", errors="replace") as record:
            return f"\n{file}," in f"\n{record.read()}"
    except OSError:
        return False
