import errno
import os
import stat

import pytest
import safetensors.torch
import torch

from disk import Disk
from tlx.base import durable


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def write_tensors(path):
    with durable.replacing(path) as temporary:
        safetensors.torch.save_file({"a": torch.ones(100)}, temporary)


@pytest.mark.parametrize(
    "write",
    [lambda path: durable.write(path, "text"), lambda p: durable.write(p, b"\0"), write_tensors],
)
def test_what_was_written_is_on_disk_with_its_new_folders(tmp_path, disk, write):
    path = tmp_path / "a" / "b" / "file"
    write(path)
    assert disk.lacks(path, root=tmp_path) is None
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_the_watch_notices_what_is_not_synced(tmp_path, disk):
    path = tmp_path / "file"
    durable.write(path, "one", sync=False)
    assert "content" in disk.lacks(path, root=tmp_path)
    durable.sync_file(path)
    assert "name" in disk.lacks(path, root=tmp_path)
    durable.sync([path])
    assert disk.lacks(path, root=tmp_path) is None
    durable.write(path, "two", sync=False)
    assert disk.lacks(path, root=tmp_path) is not None


def test_files_that_are_synced_together_have_their_folder_synced_once(tmp_path, disk):
    paths = [tmp_path / f"{name}.csv" for name in "abc"]
    for path in paths:
        durable.write(path, path.name, sync=False)
    assert disk.syncs == 0
    durable.sync(paths)
    assert disk.syncs == 4
    assert [disk.lacks(path, root=tmp_path) for path in paths] == [None] * 3


def test_a_failed_write_leaves_the_old_content_and_nothing_beside(tmp_path):
    path = tmp_path / "file"
    durable.write(path, "old")

    def fail():
        with durable.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_permissions_are_those_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        durable.write(tmp_path / "text", "text")
        write_tensors(tmp_path / "tensors")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~umask}


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch):
    real, error = os.fsync, [errno.EINVAL]

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error[0], "")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write(tmp_path / "file", "text")
    error[0] = errno.EIO
    with pytest.raises(OSError, match="5"):
        durable.write(tmp_path / "file", "text")
