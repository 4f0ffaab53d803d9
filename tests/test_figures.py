"""What `make figures` counts, as far as it must stay as it is."""

import importlib
from pathlib import Path

import pytest

from benchmarks import figures


def test_no_circle_no_arrow_up_and_no_class_name_twice() -> None:
    """Modules import none that stands above them, nor themselves by others."""
    found = figures.figures()
    assert found["circles of modules"] == ("0", [])
    assert found["arrows up"] == ("0", [])
    assert found["class names used twice"] == ("0", [])


@pytest.mark.parametrize(
    "path", sorted(Path(figures.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_benchmarks_can_be_imported(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")
