"""Leases among machines whose clocks disagree: the real code, with times of day that are wrong."""

import json
import os
import random
import threading
import time
from dataclasses import replace

import pytest

from tlx.execution import leases as leases_
from tlx.execution import silence as silences
from tlx.execution.lease_journal import JournalLeases
from tlx.execution.leases import BEAT_S, STALE_S, SqliteLeases, holding_all, myself
from tlx.execution.silence import Silence

KINDS = {"sqlite": SqliteLeases, "journal": JournalLeases}
HOUR_S = 3600.0
STEP_S = 5.0


class Machine:
    """One of several, in one process: a clock of its own, and a time of day that is wrong."""

    def __init__(self, index, simulation, kind, path):
        self.index, self.simulation = index, simulation
        self.boot_s = simulation.random.uniform(0, 1e6)
        self.skew_s = simulation.random.uniform(-HOUR_S, HOUR_S)
        self.leases = KINDS[kind](path, silence=Silence(clock=self.clock))

    def clock(self):
        return self.boot_s + self.simulation.now_s

    def holder(self):
        return replace(myself(), machine=f"m{self.index}/pid:[1]/x", nonce=os.urandom(4).hex())


class Simulation:
    """Machines that claim, beat, give back and die, and what must hold of it."""

    def __init__(self, kind, path, monkeypatch, *, runs, machines=4, seed=0):
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.machines = [Machine(i, self, kind, path) for i in range(machines)]
        self.at = self.machines[0]
        monkeypatch.setattr(time, "time", lambda: 1.8e9 + self.now_s + self.at.skew_s)
        self.runs = [f"run{i}" for i in range(runs)]
        self.living, self.dead = {}, {}  # run: (machine, holder), run: time of its last beat
        self.beaten_s = {}
        self.double, self.taken_after_s, self.claims = [], [], 0

    def step(self):
        self.now_s += STEP_S
        for machine in self.machines:
            self.at = machine
            machine.skew_s += self.random.choice([0, 0, 0, 90, -90])  # somebody sets it anew
            self.beat(machine)
            self.claim(machine)
        for run in list(self.living):
            what = self.random.random()
            if what < 0.04:
                self.dead[run] = self.beaten_s[run]
                del self.living[run]
            elif what < 0.05:
                machine, holder = self.living.pop(run)
                self.at = machine
                machine.leases.release(run, holder)

    def beat(self, machine):
        for run, (where, holder) in self.living.items():
            if where is machine and self.now_s - self.beaten_s[run] >= BEAT_S:
                assert machine.leases.beat(run, holder), "stolen from the living"
                self.beaten_s[run] = self.now_s

    def claim(self, machine):
        mine = {run for run, (where, _) in self.living.items() if where is machine}
        wanted = [run for run in self.runs if run not in mine and self.random.random() < 0.9]
        holder = machine.holder()
        others = machine.leases.claim_all(wanted, holder)
        for run in wanted:
            if run in others:
                continue
            self.claims += 1
            if run in self.living:
                self.double.append((run, self.now_s))
            if run in self.dead:
                self.taken_after_s.append(self.now_s - self.dead.pop(run))
            self.living[run], self.beaten_s[run] = (machine, holder), self.now_s


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_living_keep_and_the_dead_lose_their_leases_whatever_the_time(
    kind, tmp_path, monkeypatch
):
    simulation = Simulation(kind, tmp_path / "leases", monkeypatch, runs=8)
    for _ in range(60):
        simulation.step()
    assert simulation.claims > 20
    assert simulation.double == []
    assert len(simulation.taken_after_s) > 4
    assert min(simulation.taken_after_s) > STALE_S
    assert max(simulation.taken_after_s) < STALE_S + 6 * STEP_S


def _race(path, names, won, skew_s, skews):
    skews[threading.get_ident()] = skew_s
    holder = myself()
    for i, name in enumerate(names):
        if JournalLeases(path / f"{i // 100}").claim(name, holder) is None:  # short journals
            won.append(name)


@pytest.mark.parametrize("runs", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_two_machines_win_the_same_lease_whatever_the_time(runs, tmp_path, monkeypatch):
    skews, real = {}, time.time
    monkeypatch.setattr(time, "time", lambda: real() + skews.get(threading.get_ident(), 0.0))
    names, won = [f"run{i}" for i in range(runs)], []
    skewed = [-HOUR_S, -40.0, 40.0, HOUR_S]
    threads = [
        threading.Thread(target=_race, args=(tmp_path, names, won, skew_s, skews))
        for skew_s in skewed
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(names)


@pytest.mark.parametrize("age_s", [-HOUR_S, HOUR_S])
def test_a_lock_is_as_old_as_it_was_looked_at(age_s, tmp_path):
    now_s = [0.0]

    def sleep(seconds):
        now_s[0] += 1.0

    kept = JournalLeases(tmp_path / "leases", silence=Silence(clock=lambda: now_s[0]), sleep=sleep)
    kept.lock.write_text("of somebody")
    os.utime(kept.lock, (time.time() - age_s,) * 2)
    assert kept.claim("run", myself()) is None
    assert kept.lock_stale_s < now_s[0] < kept.lock_stale_s + 3


def test_whoever_slept_in_a_claim_learns_that_it_came_too_late(tmp_path, monkeypatch):
    slow, quick = (JournalLeases(tmp_path / "leases") for _ in range(2))
    first, second = myself(), myself()
    append = slow._append

    def late(lines, *, lock):
        if lines:
            slow.lock.unlink()  # it was taken for dead
            assert quick.claim("run", second) is None
        append(lines, lock=lock)

    monkeypatch.setattr(slow, "_append", late)
    assert slow.claim("run", first) == second
    assert quick.held() == {"run": second}
    assert not slow.beat("run", first)
    monkeypatch.undo()
    slow.release("run", first)
    assert quick.held() == {"run": second}


def test_a_lock_that_another_has_taken_is_not_removed(tmp_path):
    kept = JournalLeases(tmp_path / "leases")
    with kept._locked():
        kept.lock.write_text("of another")
    assert kept.lock.read_text() == "of another"


def elsewhere():
    return replace(myself(), machine="other/pid:[1]/x", nonce=os.urandom(4).hex())


@pytest.fixture(params=sorted(KINDS))
def kept(request, tmp_path):
    return KINDS[request.param](tmp_path / "leases")


def test_it_is_waited_until_a_holder_elsewhere_is_known_to_be_dead(kept, monkeypatch):
    monkeypatch.setattr(leases_, "STALE_S", 0.3)
    monkeypatch.setattr(leases_, "LOOK_S", 0.05)
    away, said = elsewhere(), []
    assert kept.claim("run", away) is None
    with holding_all(kept, ["run", "free"], wait=said.append) as others:
        assert others == {}
        assert set(kept.held()) == {"run", "free"}
    assert said == [{"run": away}]
    assert kept.held() == {}


def test_it_is_waited_no_longer_than_until_a_holder_elsewhere_beats(kept, monkeypatch):
    monkeypatch.setattr(leases_, "LOOK_S", 0.02)
    away = elsewhere()
    assert kept.claim("run", away) is None

    def beats_a_little_later(_):
        threading.Timer(0.1, kept.beat, ("run", away)).start()

    begun = time.monotonic()
    with holding_all(kept, ["run"], wait=beats_a_little_later) as others:
        assert others == {"run": away}
    assert time.monotonic() - begun < 20


def test_a_process_of_this_machine_is_judged_by_its_id_alone(kept, monkeypatch):
    monkeypatch.setattr(leases_, "STALE_S", 0.0)
    mine = myself()
    assert kept.claim("run", mine) is None
    time.sleep(0.01)
    assert kept.claim("run", elsewhere()) == mine  # it sleeps, maybe, but has not ended
    assert not kept.in_doubt({"run": mine})


def test_a_machine_of_the_same_name_is_another():
    twin = replace(myself(), machine=leases_.machine().rpartition("/")[0] + "/other", pid=2**30)
    assert not twin.gone()
    assert not twin.known_alive()


def test_what_was_seen_outlives_the_process(tmp_path):
    now_s = [1000.0]

    def silence():
        return Silence(tmp_path, clock=lambda: now_s[0])

    first = silence()
    assert first.of("run", "5") == 0.0
    first.keep_only(["run"])
    now_s[0] = 1090.0
    assert silence().of("run", "5") == 90.0
    other = silence()
    assert other.of("run", "6") == 0.0
    assert other.in_doubt("run")  # it beat since then, but may be dead by now
    now_s[0] = 10.0  # the machine was started anew, and by a miracle has the same id
    assert silence().of("run", "5") == 0.0


def test_what_was_seen_may_be_damaged(tmp_path):
    file = Silence(tmp_path).file
    assert file is not None
    assert silences.boot_id() in file.name
    for text in ("", "[[1]]", "{}", '[["run", "5", "x"]]', "7"):
        file.write_text(text)
        assert Silence(tmp_path).of("run", "5") == 0.0


def test_journals_of_an_earlier_tlx_are_read(tmp_path):
    kept, holder = JournalLeases(tmp_path / "leases"), elsewhere()
    text = json.dumps(vars(holder))
    lines = [["a", text, 1.8e9], ["b", text, 1.8e9], ["a", text, 1.8e9 + 10], ["b", text, None]]
    damaged = ['["c", 5, 1.0]', '["claim", ["d"], "{}", null, 0]', "7", '"abc"', "\udcff"]
    rows = [*map(json.dumps, lines), *damaged]
    kept.path.write_text("\n".join(rows), encoding="utf-8", errors="surrogateescape")
    assert kept.held() == {"a": holder}
    assert kept.beat("a", holder)
    kept.release("a", holder)
    assert kept.held() == {}
