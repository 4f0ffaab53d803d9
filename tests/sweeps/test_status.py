"""What `tlx status` tells of runs, from what they write themselves."""

import json
import os
import time

import pytest

from tlx.execution import runs
from tlx.sweeps import status
from tlx.training.logs.progress import Display


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_the_time_left_is_of_the_runs_own_clock(skew_s, tmp_path, monkeypatch):
    (tmp_path / "provenance.json").write_text("{}")  # written by a driver elsewhere
    os.utime(tmp_path / "provenance.json", (time.time() + skew_s,) * 2)
    now_s = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    file = tmp_path / runs.PROGRESS
    display = Display(total_steps=200, stages=["s"], metric="loss", silent=True, file=file)
    now_s[0] += 1000.0  # it read its data
    display.validated(100, {"loss": 1.0})  # from a checkpoint
    assert status._progress(tmp_path)[3] == ""
    now_s[0] += 10.0
    display.validated(120, {"loss": 0.5})
    assert status._progress(tmp_path) == ("120/200", "s", "val/loss 0.5000", "40 s")


def test_progress_of_an_earlier_tlx_is_read(tmp_path):
    said = {"step": 3, "total": 9, "stage": 0, "stages": ["s"], "metric": "val/loss", "value": None}
    (tmp_path / runs.PROGRESS).write_text(json.dumps({**said, "time": 1.8e9}))
    assert status._progress(tmp_path) == ("3/9", "s", "", "")
