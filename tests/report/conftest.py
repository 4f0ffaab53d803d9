import pytest

from report import synthetic
from tlx.report.build import build


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Name -> (runs_dir, folder of the study, what `build` gave)."""
    found = {}
    for name, make in synthetic.STUDIES_MADE.items():
        runs_dir = tmp_path_factory.mktemp(name)
        folder = make(runs_dir)
        found[name] = (runs_dir, folder, build(folder, runs_dir=runs_dir))
    return found
