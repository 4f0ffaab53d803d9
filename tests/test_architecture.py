"""docs/architecture.md names all rooms in their order, and files and names that exist."""

import re
from pathlib import Path

import pytest

from benchmarks.figures import FLOORS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"^\| `tlx/(\w+)/` \|", PAGE, flags=re.MULTILINE)
SEAMS = re.findall(
    r"^\| ((?:`\w+`(?:, )?)+) \| ((?:`tlx/[\w/]+\.py`(?:, )?)+) \|", PAGE, re.MULTILINE
)


def test_each_room_has_its_row_from_the_ground_up() -> None:
    there = {path.name for path in (ROOT / "tlx").iterdir() if path.is_dir()} - {"__pycache__"}
    assert sorted(ROOMS) == sorted(there)
    floors = [room for room in FLOORS if room in ROOMS]
    assert [room for room in ROOMS if room in floors] == floors


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tlx|tests|conf)/[\w/.]+)`", PAGE))))
def test_a_path_leads_somewhere(path: str) -> None:
    example = path.endswith("/x.yaml")
    assert (ROOT / path).parent.is_dir() if example else (ROOT / path).exists()


@pytest.mark.parametrize(("names", "files"), SEAMS)
def test_a_seam_is_where_it_is_said_to_be(names: str, files: str) -> None:
    source = "".join((ROOT / path).read_text() for path in re.findall(r"`([^`]+)`", files))
    for name in re.findall(r"`(\w+)`", names):
        assert f"class {name}" in source, name


def test_there_are_seams() -> None:
    assert len(SEAMS) == 11
