"""Studies that add seeds themselves: which runs they add, and that kills change nothing of it."""

import contextlib
import dataclasses
import zlib

import numpy as np
import pytest

from results.studies import made_record
from tlx.execution import execute, runs
from tlx.results import manifest as manifests
from tlx.results import record
from tlx.results.claims import judge
from tlx.results.table import load
from tlx.sweeps import studies
from tlx.sweeps.executor import Ended

STUDY = """
defaults:
  - override /dataset: digits
  - override /backbone: timm
  - override /trainer: cpu
backbone: {name: test_resnet, init: none, image_size: 32}
trainer: {epochs: null, steps: 4}
study:
  seeds: [0, 1, 2]
  arms:
    base: []
    better: [optimizer.lr=0.01]
    close: [optimizer.lr=0.02]
    other: [optimizer.lr=0.04]
  claims: [better > base, close > base]
  sequential: {max_seeds: 7}
"""
MEANS = {0.001: 0.5, 0.01: 0.6, 0.02: 0.51, 0.04: 0.5}


class Killed(Exception):
    """As if the driver had been killed."""


class Guessing:
    """An executor that writes records at once, two jobs at a time, the second one's first."""

    def __init__(self, kill_after=None, *, fails=()):
        self.jobs, self.kill_after, self.fails, self.started = [], kill_after, fails, []

    def room(self, job):
        return len(self.jobs) < 2

    def start(self, job):
        self.jobs.append(job)

    def ended(self, timeout_s):
        jobs, self.jobs = self.jobs[::-1], []
        return [self._end(job) for job in jobs]

    def _end(self, job):
        if self.kill_after is not None and len(self.started) >= self.kill_after:
            raise Killed
        name, config = job.folder.name, runs.read_config(job.folder)
        self.started.append(name)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        value = MEANS[config["optimizer"]["lr"]] + float(rng.normal(0, 0.02))
        seed = config["seed"]
        failed = seed in self.fails
        blank = made_record(name, {} if failed else {"test/accuracy": value}, seed=seed)
        done = dataclasses.replace(blank, status="failed" if failed else "finished")
        record.write(job.folder, done)
        return Ended(job.folder, "failed" if failed else "finished", "no" if failed else None)

    def stop(self, **_):
        self.jobs = []

    def close(self):
        pass


@pytest.fixture
def launch(tmp_path):
    with launcher(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The study's folder, and what was started, where nothing disturbs it."""
    with launcher(tmp_path_factory.mktemp("straight")) as start:
        return start()


@contextlib.contextmanager
def launcher(tmp_path):
    """Starts the study; `kill_after` runs of a launch it is killed."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/grow.yaml").write_text(STUDY)

    def start(*more, **options):
        executor = Guessing(**options)
        patch.setattr(studies, "make", lambda *args, **kwargs: executor)
        line = ["experiment=grow", f"runs_dir={tmp_path / 'runs'}", "executor.workers=2", *more]
        made = studies.study(line, config_dir=str(tmp_path / "mine"))
        with contextlib.suppress(Killed):
            studies.drive(made, command=["tlx"])
        return made.folder, executor.started

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "fail", lambda folder, reason: None)
        yield start


def verdicts(folder):
    spec = manifests.read(folder)
    return judge(spec, load(folder.parent.parent, manifest=spec).records)


def outcome(folder):
    """What a study has come to, less the times of its looks."""
    spec = manifests.read(folder)
    planned = [(run.run, run.arm, run.seed) for run in spec.runs]
    return planned, spec.seeds, [look.seeds for look in spec.looks], verdicts(folder)


def test_seeds_are_added_until_claims_are_decided_or_none_is_left(straight):
    folder, started = straight
    spec = manifests.read(folder)
    better, close = verdicts(folder)
    assert (better.status, better.n < 7, better.open) == ("held", True, False)
    assert close.n > better.n
    assert not close.open
    seeds_of = {arm: sum(run.arm == arm for run in spec.runs) for arm in spec.arms}
    # an arm gets the seeds that its open claims need, one that no claim names those declared
    assert seeds_of == {"base": close.n, "better": better.n, "close": close.n, "other": 3}
    assert len(started) == len(set(started)) == len(spec.runs)
    assert [look.seeds for look in spec.looks] == [tuple(range(n)) for n in range(3, close.n + 1)]
    assert {run.seed for run in spec.runs} == set(range(close.n))


@pytest.mark.parametrize("kill_after", [pytest.param(2, marks=pytest.mark.slow), 9])
def test_killed_again_and_again_it_comes_to_the_same(launch, straight, kill_after):
    seen = []
    for _ in range(30):
        folder, started = launch(kill_after=kill_after)
        seen += started
        if len(started) < kill_after:
            break
    assert len(seen) == len(set(seen))  # nothing is trained twice
    assert outcome(folder) == outcome(straight[0])
    assert launch()[1] == []  # and nothing is left to do


@pytest.mark.slow
def test_a_failed_run_ends_the_adding_and_retrying_goes_on(launch):
    folder, _ = launch(fails=(4,))
    spec = manifests.read(folder)
    assert spec.seeds == (0, 1, 2, 3, 4)
    waiting = [found for found in verdicts(folder) if found.waiting]
    assert waiting
    assert all(found.failed and found.status == "undecided" for found in waiting)


@pytest.mark.slow
def test_declared_after_a_look_it_adds_seeds_at_what_is_left(launch):
    folder, _ = launch("study.sequential=null")
    spec = manifests.read(folder)
    manifests.add_look(folder, spec.seeds, sequential={})  # as the report does
    launch()
    grown = manifests.read(folder)
    assert len(grown.seeds) > 3
    assert grown.looks[0] == dataclasses.replace(grown.looks[0], seeds=(0, 1, 2), sequential={})
    assert {found.alpha for found in verdicts(folder)} <= {0.04, 0.01}


@pytest.mark.slow
def test_fewer_seeds_do_not_undo_a_look(launch):
    folder, _ = launch()
    before = manifests.read(folder).looks
    launch("study.sequential=null", "study.seeds=[0,1,2]")
    assert manifests.read(folder).looks == before
    assert all("left out" in found.sentence for found in verdicts(folder))
