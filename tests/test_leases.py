"""Leases: one holder at a time, given back, taken over from the dead, on both kinds of storage."""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tlx.execution import lease_places, runs
from tlx.execution import leases as leases_
from tlx.execution.lease_journal import JournalLeases
from tlx.execution.lease_places import leases
from tlx.execution.leases import SqliteLeases, holding, myself

KINDS = {"sqlite": SqliteLeases, "journal": JournalLeases}
CONTEXT = multiprocessing.get_context("spawn")


@pytest.fixture(params=sorted(KINDS))
def kept(request, tmp_path):
    return KINDS[request.param](tmp_path / "leases")


def elsewhere():
    """A holder on a machine whose processes cannot be looked at."""
    return replace(myself(), machine="other/pid:[1]", nonce=os.urandom(4).hex())


def test_one_holder_at_a_time(kept):
    first, second = myself(), myself()
    assert kept.claim("run", first) is None
    assert kept.claim("run", second) == first
    assert kept.held() == {"run": first}
    kept.release("run", second)  # not theirs to give back
    assert kept.claim("run", second) == first
    kept.release("run", first)
    assert kept.held() == {}
    assert kept.claim("run", second) is None


def test_another_run_is_free(kept):
    assert kept.claim("a", myself()) is None
    assert kept.claim("b", myself()) is None


def test_the_dead_hold_nothing(kept):
    dead = CONTEXT.Process(target=time.sleep, args=(0,))
    dead.start()
    holder = replace(myself(), pid=dead.pid, started=leases_.start_ticks(dead.pid))
    dead.join()
    assert holder.gone()
    assert kept.claim("run", holder) is None
    assert kept.held() == {}
    assert kept.claim("run", myself()) is None


def test_a_process_id_that_is_used_again_is_another_process():
    assert not myself().gone()
    assert replace(myself(), started=myself().started - 1).gone()


def test_without_heartbeats_a_lease_is_taken_over(kept, monkeypatch):
    away = elsewhere()
    assert kept.claim("run", away) is None
    assert kept.claim("run", myself()) == away
    monkeypatch.setattr(leases_, "STALE_S", 0.05)
    time.sleep(0.1)
    mine = myself()
    assert kept.claim("run", mine) is None
    assert not kept.beat("run", away)
    assert kept.beat("run", mine)


def test_heartbeats_keep_a_lease(kept, monkeypatch):
    monkeypatch.setattr(leases_, "STALE_S", 0.5)
    with holding(kept, "run", busy=lambda other: runs.Busy(str(other)), every_s=0.05):
        for _ in range(4):
            time.sleep(0.3)
            assert kept.claim("run", elsewhere()) is not None
        with (
            pytest.raises(runs.Busy, match=f"process {os.getpid()} on"),
            holding(kept, "run", busy=lambda other: runs.Busy(str(other))),
        ):
            pass
    assert kept.held() == {}


def test_whoever_is_taken_over_is_told_to_stop(kept, monkeypatch):
    told = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    with holding(kept, "run", busy=lambda other: runs.Busy(str(other)), every_s=0.02):
        (holder,) = kept.held().values()
        kept.release("run", holder)
        assert kept.claim("run", elsewhere()) is None
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
    assert [pid for pid, _ in told] == [os.getpid()]
    assert "run" in kept.held()  # the other's stays


def _claim_many(kind: str, path: Path, names: list[str], won: "multiprocessing.Queue[str]") -> None:
    kept = KINDS[kind](path)
    holder = myself()
    for name in names:
        if kept.claim(name, holder) is None:
            won.put(name)
    time.sleep(1)  # alive until all have tried


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_two_processes_win_the_same_lease(kind, tmp_path):
    names, won = [f"run{i}" for i in range(60)], CONTEXT.Queue()
    rivals = [
        CONTEXT.Process(target=_claim_many, args=(kind, tmp_path / "leases", names, won))
        for _ in range(4)
    ]
    for rival in rivals:
        rival.start()
    found = [won.get(timeout=60) for _ in names]
    for rival in rivals:
        rival.join()
    assert sorted(found) == sorted(names)
    assert won.empty()


def test_a_journal_survives_a_cut_line_and_a_dead_lock(tmp_path, monkeypatch):
    kept = JournalLeases(tmp_path / "leases.jsonl")
    holder = myself()
    assert kept.claim("a", holder) is None
    with open(kept.path, "a") as file:
        file.write('["b", "{')
    lock = kept.path.with_suffix(".lock")
    lock.touch()
    monkeypatch.setattr(JournalLeases, "lock_stale_s", 0.0)
    assert kept.claim("c", holder) is None
    assert set(kept.held()) == {"a", "c"}


def test_a_journal_is_shortened(tmp_path, monkeypatch):
    monkeypatch.setattr(JournalLeases, "compact_bytes", 3000)
    kept = JournalLeases(tmp_path / "leases.jsonl")
    holder = myself()
    assert kept.claim("a", holder) is None
    for _ in range(40):
        assert kept.beat("a", holder)
    assert kept.path.stat().st_size < 3500
    assert kept.held() == {"a": holder}


def test_the_file_system_chooses(tmp_path, monkeypatch):
    monkeypatch.delenv("TLX_LEASES", raising=False)
    assert isinstance(leases(tmp_path), SqliteLeases)
    monkeypatch.setattr(lease_places, "on_network", lambda folder: True)
    assert isinstance(leases(tmp_path), JournalLeases)
    monkeypatch.setenv("TLX_LEASES", "sqlite")
    assert isinstance(leases(tmp_path), SqliteLeases)
    monkeypatch.setenv("TLX_LEASES", "redis")
    with pytest.raises(ValueError, match="sqlite or journal"):
        leases(tmp_path)


@pytest.mark.parametrize(
    ("kind", "expected"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("lustre", True)]
)
def test_network_file_systems_are_known(kind, expected, tmp_path, monkeypatch):
    lines = f"1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / {tmp_path} rw - {kind} server:/x rw\n"
    real = Path.read_text

    def read(self, *args, **kwargs):
        return lines if str(self) == "/proc/self/mountinfo" else real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    assert lease_places.on_network(tmp_path / "runs") is expected
