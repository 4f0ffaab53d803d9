"""Two gloo ranks, one of which hangs, is killed or fails: what the run is recorded as."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import launching
from forking import CONTEXT
from tlx.config.check import check
from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.execution import lost_ranks, runs
from tlx.results import reading, record
from tlx.sweeps import worker
from tlx.training.engine.patience import Patience

RUN = [
    *("dataset=digits", "dataset.labels_per_class=12", "backbone=timm", "trainer=cpu"),
    *("backbone.name=test_resnet", "backbone.init=none", "backbone.image_size=32"),
    *("trainer.epochs=null", "trainer.steps=40", "trainer.batch_size=16", "logger=[csv]"),
    *("trainer.eval_every_steps=10", "trainer.checkpoint_every_steps=4", "trainer.devices=2"),
    "trainer.timeout_minutes=0.1",
]


def _rank(rank: int, port: int, how: str, said: "multiprocessing.Queue[str]") -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=30),
    )
    from tlx.training.engine.patience import wait

    dist.all_reduce(torch.zeros(1))
    wait(2.0)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP if how == "hangs" else signal.SIGKILL)
    begun = time.monotonic()
    try:
        dist.all_reduce(torch.zeros(1))
    except Exception as error:
        said.put(f"{lost_ranks.is_lost(error)} {time.monotonic() - begun < 120}")


@pytest.mark.parametrize("how", ["hangs", "killed"])
def test_a_rank_that_is_gone_is_noticed(how):
    said, port = CONTEXT.Queue(), launching.free_port()
    ranks = [CONTEXT.Process(target=_rank, args=(r, port, how, said)) for r in range(2)]
    for process in ranks:
        process.start()
    try:
        assert said.get(timeout=90) == "True True"
    finally:
        for process in ranks:
            process.kill()
            process.join()


def test_other_errors_are_no_lost_ranks():
    for error in (ValueError("gloo/transport"), RuntimeError("out of memory"), OSError("full")):
        assert not lost_ranks.is_lost(error)
    outer = RuntimeError("in backward")
    outer.__cause__ = RuntimeError("[/x/gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    assert lost_ranks.is_lost(outer)
    assert lost_ranks.is_lost(dist.DistBackendError("NCCL"))


def test_a_rank_says_why_it_failed(tmp_path):
    closed = RuntimeError("[/x/gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    with pytest.raises(ValueError, match="mine"), lost_ranks.noted(tmp_path, 1):
        raise ValueError("mine")
    assert lost_ranks.verdict(tmp_path, closed) == ("failed", "rank 1: ValueError: mine")
    lost_ranks.forget(tmp_path)
    with pytest.raises(runs.Lost, match="another rank is gone"), lost_ranks.noted(tmp_path, 1):
        raise closed
    assert lost_ranks.failure_of(tmp_path) is None
    (tmp_path / lost_ranks.FILE).write_text("")
    assert "a rank failed" in lost_ranks.failure_of(tmp_path)


def test_patience_grows_with_the_first_evaluation(monkeypatch):
    now_s, waits = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr("tlx.training.engine.patience.wait", waits.append)
    patience = Patience(10.0)
    patience.on_train_start(None, None)
    patience.on_train_batch_start(None, None, None, 0)
    for _ in range(2):
        patience.on_validation_start(None, None)
        now_s[0] += 400.0
        patience.on_train_batch_start(None, None, None, 0)
        now_s[0] += 5000.0  # training counts not
    patience.on_fit_end(None, None)
    assert waits == [600.0, 1200.0, 3600.0]


def test_the_limit_is_checked_and_no_part_of_the_id():
    config = compose(["dataset=digits", "trainer=cpu"])
    assert config["trainer"]["timeout_minutes"] == 10.0
    other = compose(["dataset=digits", "trainer=cpu", "trainer.timeout_minutes=3"])
    assert run_id(config) == run_id(other)
    config["trainer"]["timeout_minutes"] = 0
    assert [problem.place for problem in check(config)] == ["trainer.timeout_minutes"]


def start(folder: Path) -> "subprocess.Popen[bytes]":
    with open(folder / runs.LOG, "ab") as log:
        command = [sys.executable, "-m", "tlx.sweeps.worker", str(folder)]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def ranks_of(folder: Path) -> list[int]:
    """Processes of the ranks, rank 0's first."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "environ").read_bytes().split(b"\0")
            line = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in line:
            found |= {w: int(place.name) for w in words if w.startswith(b"LOCAL_RANK=")}
    return [found[key] for key in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "rank"), [(signal.SIGSTOP, 0), (signal.SIGKILL, 1)])
def test_a_run_whose_rank_is_gone_is_lost_and_goes_on(number, rank, tmp_path):
    folder = launching.freeze([*RUN, "trainer.steps=400"], runs_dir=tmp_path)
    process = start(folder)
    deadline = time.monotonic() + 240
    while not list((folder / "checkpoints").glob("last*")) or len(ranks_of(folder)) < 2:
        assert time.monotonic() < deadline, (folder / runs.LOG).read_text()
        assert process.poll() is None, (folder / runs.LOG).read_text()
        time.sleep(0.1)
    os.kill(ranks_of(folder)[rank], number)
    assert process.wait(timeout=120) == worker.LOST, (folder / runs.LOG).read_text()
    assert reading.status_of(folder) != "failed"
    assert ranks_of(folder) == []


@pytest.mark.slow
def test_a_run_whose_rank_fails_has_failed(tmp_path):
    folder = launching.freeze(RUN, runs_dir=tmp_path)
    assert launching.run(folder, world=2, sabotage={1: _fail_at_step_three}) == [1, 1]
    assert record.read(folder).status == "failed"
    assert record.read(folder).error == "rank 1: ValueError: a mistake of this rank alone"


def _fail_at_step_three() -> None:
    from tlx.training.engine.module import TransferModule

    original = TransferModule.training_step

    def patched(self, batch, batch_idx):
        if self.step == 3:
            raise ValueError("a mistake of this rank alone")
        return original(self, batch, batch_idx)

    TransferModule.training_step = patched
