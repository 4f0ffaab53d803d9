"""What `make figures` counts, as far as it must stay as it is."""

import importlib
from pathlib import Path

import pytest

from benchmarks import figures


def test_no_module_imports_itself_by_others_and_none_what_stands_above_it() -> None:
    found = figures.figures()
    assert found["circles of modules"] == ("0", [])
    assert found["arrows up"] == ("0", [])


def test_a_class_name_is_used_once() -> None:
    assert figures.figures()["class names used twice"] == ("0", [])


@pytest.mark.parametrize(
    "path", sorted(Path(figures.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_benchmarks_can_be_imported(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")
