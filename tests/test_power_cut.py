"""What of a run is on disk when its record says that it finished, and what goes only then."""

import contextlib
import json
import shutil
import subprocess

import pytest
import torch

import launching
from disk import Disk
from studying import PROBE
from tlx.execution import execute, finished
from tlx.results import record
from tlx.results.record import FILE

WRITTEN = {
    *("config.yaml", "overrides.txt", "provenance.json", "metrics.csv", "model.safetensors"),
    "predictions/test.csv",
}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watch:
    """Notes, at each record of a finished run, what the disk lacks of what it speaks of."""

    def __init__(self, disk, root):
        self.disk, self.root = disk, root
        self.faults, self.finished = [], {}
        disk.on_replace(self.replaced)
        disk.on_remove(self.removed)

    def replaced(self, source, target):
        if target.name != FILE:
            return
        found = json.loads(source.read_text())
        if found["status"] == "finished":
            files = found.get("files", WRITTEN)
            self.finished[target.parent.name] = set(files)
            for name in files:
                self.fault(target.parent / name)

    def removed(self, path):
        if path.name in {"checkpoints", "before"}:
            self.fault(path.parent / FILE)

    def fault(self, path):
        if fault := self.disk.lacks(path, root=self.root):
            self.faults.append(fault)


@pytest.fixture
def watch(monkeypatch, tmp_path):
    return Watch(Disk(monkeypatch), tmp_path)


@pytest.mark.parametrize("keep", ["weights", "record"])
def test_a_finished_record_speaks_of_what_is_on_disk(tmp_path, watch, keep):
    folder = launching.freeze([*PROBE, f"keep={keep}"], runs_dir=tmp_path / "runs")
    execute.run_here(folder)
    expected = WRITTEN - ({"model.safetensors"} if keep == "record" else set())
    assert watch.finished == {folder.name: expected}
    assert watch.faults == []
    assert not (folder / "checkpoints").exists()


def test_runs_trained_as_one_are_on_disk_before_their_records(tmp_path, watch):
    runs = [
        launching.freeze([*PROBE, "augmentation=[]", f"seed={seed}"], runs_dir=tmp_path / "runs")
        for seed in (0, 1, 2)
    ]
    execute.run_together(runs)
    assert watch.finished == {folder.name: WRITTEN for folder in runs}
    assert watch.faults == []
    assert all(record.read(folder).fused_with for folder in runs)


@pytest.fixture
def device(tmp_path):
    """A file that is mounted as a disk, and where; what is not yet on the disk is not in it."""
    image, folder = tmp_path / "disk", tmp_path / "mounted"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(64 * 2**20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be made here: {error}")
    with mounted(image, folder):
        yield image, folder


@contextlib.contextmanager
def mounted(image, folder):
    try:
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("moment", ["recorded", "tidied"])
def test_a_power_cut_as_soon_as_a_run_has_finished_loses_nothing(
    device, tmp_path, monkeypatch, moment
):
    image, disk = device
    cut, after = tmp_path / "cut", tmp_path / "after"
    folder = launching.freeze([*PROBE, "keep=weights"], runs_dir=disk / "runs")
    tidy = execute.tidy

    def cut_before_tidying(*args, **kwargs):
        shutil.copyfile(image, cut)
        tidy(*args, **kwargs)

    if moment == "recorded":
        monkeypatch.setattr(execute, "tidy", cut_before_tidying)
    execute.run_here(folder)
    if moment == "tidied":
        shutil.copyfile(image, cut)
    after.mkdir()
    with mounted(cut, after):
        there = after / "runs" / folder.name
        kept = record.read(there)
        assert kept == record.read(folder)
        assert kept.files.keys() == WRITTEN
        for name in WRITTEN:
            assert (there / name).read_bytes() == (folder / name).read_bytes(), name
        finished.load(there)
