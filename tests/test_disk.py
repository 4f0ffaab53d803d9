"""What a disk refuses is told with its path and sizes, and what was there stays."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import launching
from studying import SMALL
from tlx.base import disk
from tlx.results import reading, record
from tlx.training.engine import checkpoints

RUN = [*SMALL, "keep=checkpoints"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_device_is_told_with_path_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with (
        pytest.raises(disk.DiskError) as caught,
        disk.writing(path, needs=6),
        open("/dev/full", "w", buffering=1) as file,
    ):
        file.write("1,2,3\n")
    free = os.statvfs(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    said = str(caught.value)
    assert f"{path} could not be written: the disk is full, 6 bytes needed, " in said
    assert f"of {free.f_blocks * free.f_frsize:,} bytes free in {tmp_path}" in said


def test_safetensors_says_it_too(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    full = pytest.raises(disk.DiskError, match=r"the disk is full, 4,000,000 bytes needed")
    with full as caught, disk.writing(path, needs=4_000_000):
        save_file({"weight": torch.zeros(1_000_000)}, path)
    assert f"of 1,048,576 bytes free in {tiny}" in str(caught.value)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk.writing(tmp_path / "a"):
        (tmp_path / "there" / "is" / "none").read_text()
    mistake = ValueError("a mistake")
    assert disk.explained(mistake, tmp_path) is mistake
    unread = PermissionError(errno.EACCES, "Permission denied", "data.csv")
    assert disk.explained(unread, tmp_path) is unread
    raw = OSError(errno.EROFS, "Read-only file system")
    assert str(tmp_path) in str(disk.explained(raw, tmp_path))
    assert "the file system may only be read" in str(disk.explained(raw, tmp_path))


def test_a_checkpoint_that_does_not_fit_leaves_the_last(tiny: Path) -> None:
    payload = {"weights": {"a": torch.zeros(100_000)}}
    first = checkpoints.save(tiny, 1, payload)
    with pytest.raises(disk.DiskError, match=r"full, 1,200,000 bytes needed, \d+,\d+ bytes of 1,"):
        checkpoints.save(tiny, 2, {"weights": {"a": torch.zeros(300_000)}})
    assert [path.name for path in tiny.iterdir()] == [first.name]
    assert next(checkpoints.sound(tiny, tag="last"), None) is not None


class NoLargeFile:
    """Sabotage: files may have so many bytes, as under a quota."""

    def __init__(self, size: int) -> None:
        """Keeps it."""
        self.size = size

    def __call__(self) -> None:
        """Sets the limit."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


def test_a_run_whose_checkpoint_is_refused_has_failed_and_goes_on(tmp_path: Path) -> None:
    folder = launching.freeze(RUN, runs_dir=tmp_path)
    assert launching.run(folder, sabotage={0: NoLargeFile(100_000)}) == [1]
    said = record.read(folder).error or ""
    assert f"{folder / 'checkpoints'} could not be written: it is larger than files may be" in said
    assert "bytes needed" in said
    assert launching.run(folder) == [0], launching.log(folder)
    assert reading.status_of(folder) == "finished"


def test_a_run_on_a_full_disk_leaves_a_whole_record(tiny: Path) -> None:
    folder = launching.freeze(RUN, runs_dir=tiny)
    (tiny / "ballast").write_bytes(bytes(os.statvfs(tiny).f_bavail * 4096 - 40_960))
    assert launching.run(folder) == [1]
    assert record.read(folder).status in {"failed", "running"}
    assert f"{folder / 'checkpoints'} could not be written: the disk is full" in launching.log(
        folder
    )
    assert not [path.name for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_what_is_written_without_a_name_is_told_by_its_folder(tmp_path):
    with (
        pytest.raises(disk.DiskError, match=f"^{tmp_path} could not be written: the disk is full"),
        disk.inside(tmp_path),
        open("/dev/full", "w", encoding="utf-8") as file,
    ):
        file.write("words")
    with pytest.raises(FileNotFoundError), disk.inside(tmp_path):
        (tmp_path / "missing").read_text(encoding="utf-8")
