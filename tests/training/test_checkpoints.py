"""Checkpoints survive kills, full disks and bit rot, and never unpickle code."""

import errno
import logging
import os
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from forking import CONTEXT
from tlx.training.engine import checkpoints


def payload(step: int, size: int = 64) -> dict:
    return {
        "step": step,
        "weights": OrderedDict(w=torch.full((size,), float(step)), n=torch.tensor(step)),
        "optimizer": {"state": {0: {"exp_avg": torch.randn(3)}}, "groups": [{"lr": 0.1}]},
        "rng": (1, b"\x00\xff", None, True, "x"),
    }


def test_roundtrip_and_the_file_is_plain_torch(tmp_path):
    written = payload(7)
    path = checkpoints.save(tmp_path, 7, written)
    loaded, where = next(checkpoints.sound(tmp_path, tag="last"), None)
    assert where == path
    assert "=" not in path.name
    assert loaded["rng"] == written["rng"]
    assert torch.equal(loaded["weights"]["w"], written["weights"]["w"])
    assert torch.load(path, weights_only=True)["step"] == 7
    assert os.listdir(tmp_path) == [path.name]


def test_no_folder_and_empty_folder(tmp_path):
    assert next(checkpoints.sound(tmp_path / "none", tag="last"), None) is None
    assert next(checkpoints.sound(tmp_path, tag="last"), None) is None


def test_keep_counts_each_tag_by_itself(tmp_path):
    for step in range(1, 6):
        checkpoints.save(tmp_path, step, payload(step), keep=2)
        if step in (1, 2):
            checkpoints.save(tmp_path, step, payload(step), keep=1, tag="best")
    assert [c.step for c in checkpoints.found_in(tmp_path, tag="last")] == [5, 4]
    assert [c.step for c in checkpoints.found_in(tmp_path, tag="best")] == [2]
    assert next(checkpoints.sound(tmp_path, tag="best"), None)[0]["step"] == 2


def test_a_step_that_is_saved_again_crowds_out_no_other(tmp_path):
    for step in (4, 10, 10, 10):
        checkpoints.save(tmp_path, step, payload(step), keep=2, tag="best")
    assert [found.step for found in checkpoints.found_in(tmp_path)] == [10, 4]
    assert checkpoints.load_step(tmp_path, 4, tag="best")["step"] == 4


def test_what_was_written_last_is_newest_even_at_an_older_step(tmp_path):
    checkpoints.save(tmp_path, 200, payload(200))
    checkpoints.save(tmp_path, 100, payload(100))
    assert next(checkpoints.sound(tmp_path, tag="last"), None)[0]["step"] == 100


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "longer"])
def test_damaged_newest_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    checkpoints.save(tmp_path, 1, payload(1))
    path = checkpoints.save(tmp_path, 2, payload(2))
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    size = {"truncated": len(data) // 2, "empty": 0}.get(damage, len(data))
    path.write_bytes(bytes(data[:size]) + (b"x" if damage == "longer" else b""))
    with caplog.at_level(logging.WARNING):
        loaded, _ = next(checkpoints.sound(tmp_path, tag="last"), None)
    assert loaded["step"] == 1
    assert path.name in caplog.text
    assert path.exists()
    after = checkpoints.save(tmp_path, 3, payload(3))
    assert next(checkpoints.sound(tmp_path, tag="last"), None)[1] == after


def test_all_damaged_is_none(tmp_path):
    checkpoints.save(tmp_path, 1, payload(1)).write_bytes(b"")
    assert next(checkpoints.sound(tmp_path, tag="last"), None) is None


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(2),
        np.float64(1.0),
        {1.5: 0},
        {3},
        torch.nn.Linear(1, 1),
        torch.float32,
        lambda: 0,
        Path("x"),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_refuses_what_safe_loading_would_refuse(tmp_path, bad):
    with pytest.raises(TypeError, match=r"payload\['a'\]\[0\]"):
        checkpoints.save(tmp_path, 0, {"a": [bad]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"step": -1}, {"keep": 0}, {"tag": "newest"}])
def test_wrong_arguments(tmp_path, wrong):
    arguments = {"step": 0, "keep": 1, "tag": "last", **wrong}
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        checkpoints.save(
            tmp_path, arguments["step"], {}, keep=arguments["keep"], tag=arguments["tag"]
        )


def test_code_in_a_checkpoint_with_a_right_digest_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"x": Evil()}, tmp_path / "evil")
    digest = checkpoints._digest(tmp_path / "evil")
    os.rename(tmp_path / "evil", tmp_path / f"last-000001-step0000000001-{digest}.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        next(checkpoints.sound(tmp_path, tag="last"), None)
    assert not (tmp_path / "ran").exists()


def count_writes(tmp_path, monkeypatch) -> int:
    calls = []
    real = checkpoints._write_some
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoints, "_write_some", lambda fd, data: (calls.append(1), real(fd, data))[1]
        )
        checkpoints.save(tmp_path / "counted", 1, payload(1))
    return len(calls)


def test_full_disk_at_any_write_leaves_the_earlier_one(tmp_path, monkeypatch):
    total = count_writes(tmp_path, monkeypatch)
    assert total > 3
    folder = tmp_path / "run"
    checkpoints.save(folder, 1, payload(1), keep=1)
    real = checkpoints._write_some
    for fail_at in range(total):
        calls = iter(range(10**6))

        def write(fd, data, fail_at=fail_at, calls=calls):
            if next(calls) == fail_at:
                real(fd, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "_write_some", write)
            with pytest.raises(OSError, match=r"the disk is full, [0-9,]+ bytes needed"):
                checkpoints.save(folder, 2, payload(2), keep=1)
        assert next(checkpoints.sound(folder, tag="last"), None)[0]["step"] == 1
        assert len(os.listdir(folder)) == 1


def test_partial_writes_are_completed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        checkpoints, "_write_some", lambda fd, data: os.write(fd, data[: max(1, len(data) // 3)])
    )
    checkpoints.save(tmp_path, 5, payload(5))
    assert next(checkpoints.sound(tmp_path, tag="last"), None)[0]["step"] == 5


def test_failing_rename_and_failing_sync_leave_the_earlier_one(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, payload(1), keep=1)
    for name in ("replace", "fsync"):

        def fail(*_):
            raise OSError(errno.EIO, "broken")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="the disk reports an error"):
                checkpoints.save(tmp_path, 2, payload(2), keep=1)
        assert next(checkpoints.sound(tmp_path, tag="last"), None)[0]["step"] == 1
        assert len(os.listdir(tmp_path)) == 1


def save_on(folder, step):
    """Saves one checkpoint after another until it is killed."""
    torch.set_num_threads(1)
    for at in range(step, 10**6):
        weights = torch.full((200_000,), float(at))
        checkpoints.save(folder, at, {"step": at, "w": weights}, keep=1 + at % 2)


def saved_since(folder, step):
    return any(found.step > step for found in checkpoints.found_in(folder))


def test_kill_9_while_saving_loses_nothing(tmp_path):
    last = 0
    for attempt in range(4):
        process = CONTEXT.Process(target=save_on, args=(tmp_path, 1 + 1000 * attempt))
        process.start()
        while process.is_alive() and not saved_since(tmp_path, 1000 * attempt):
            time.sleep(0.001)
        time.sleep(0.02 + 0.013 * attempt)
        process.kill()
        process.join()
        loaded, path = next(checkpoints.sound(tmp_path, tag="last"), None)
        assert checkpoints.found_in(tmp_path)[0].path == path  # the newest itself is valid
        assert torch.equal(loaded["w"], torch.full((200_000,), float(loaded["step"])))
        serial = checkpoints.found_in(tmp_path)[0].serial
        assert serial > last
        last = serial
    checkpoints.save(tmp_path, 1, {"step": 1})
    assert not list(tmp_path.glob(f"{checkpoints.TEMPORARY}*"))
