"""The driver: what is started, how often, in which order, and what is said of each end."""

import functools
from pathlib import Path

import pytest

from tlx.config.compose import Composer
from tlx.config.run import typed
from tlx.execution import execute, preparing, runs
from tlx.execution.lineage import Located, Locator
from tlx.results import reading, record
from tlx.sweeps.driver import Driver, Pending
from tlx.sweeps.executor import Ended, Job

BASE = (
    *("dataset=digits", "backbone=timm", "backbone.name=test_resnet", "backbone.image_size=32"),
    *("backbone.init=none", "trainer=cpu", "trainer.steps=4"),
)


class Scripted:
    """An executor whose jobs end as a script says, without training anything."""

    def __init__(self, script=None, *, slots=2):
        self.script = {name: list(outcomes) for name, outcomes in (script or {}).items()}
        self.slots, self.jobs, self.started, self.stopped = slots, [], [], False

    def room(self, job: Job) -> bool:
        return len(self.jobs) < self.slots

    def start(self, job: Job) -> None:
        assert self.room(job)
        self.jobs.append(job)
        self.started.append(job.folder.name)

    def ended(self, timeout_s: float) -> list[Ended]:
        jobs, self.jobs = self.jobs, []
        return [self._end(job) for job in jobs]

    def _end(self, job: Job) -> Ended:
        said = (self.script.get(job.folder.name) or ["finished"]).pop(0)
        outcome, _, step = said.partition(" at ")
        if step:
            runs.write_json(job.folder / runs.PROGRESS, {"step": int(step)})
        if outcome == "busy":
            return Ended(job.folder, "busy")
        if outcome in {"finished", "failed", "pruned"}:
            run = runs.read_run(job.folder)
            made = execute.blank(job.folder, run)
            error = "ValueError: no" if outcome == "failed" else None
            record.write(job.folder, record.dataclasses.replace(made, status=outcome, error=error))
        return Ended(job.folder, outcome, "killed" if outcome == "lost" else None)

    def stop(self, **_: object) -> None:
        self.stopped, self.jobs = True, []

    def close(self) -> None:
        pass


@functools.cache
def composer() -> Composer:
    """One for all tests, whose configs differ in values only."""
    return Composer()


def compose(*overrides: str):
    return composer().compose([*BASE, *overrides])


def tasks(runs_dir: Path, seeds=(0, 1, 2), **options) -> list[Pending]:
    locator = Locator()
    configs = [compose(f"seed={seed}", f"runs_dir={runs_dir}") for seed in seeds]
    return [
        Pending(locator.locate(typed(config)), f"arm seed {seed}", **options)
        for seed, config in zip(seeds, configs, strict=True)
    ]


def driven(
    runs_dir: Path, made: list[Pending], executor: Scripted, **options
) -> tuple[Driver, list]:
    said: list[str] = []
    driver = Driver(executor, runs_dir, say=said.append, **options)
    driver.add(made)
    driver.drive()
    return driver, said


def states(driver: Driver) -> list[str]:
    return [task.state for task in driver.tasks.values()]


def test_every_run_is_started_once(tmp_path):
    executor = Scripted()
    driver, said = driven(tmp_path, tasks(tmp_path), executor)
    assert states(driver) == ["finished"] * 3
    assert sorted(executor.started) == sorted(driver.tasks)
    assert [line.split("]")[0] for line in said] == ["[1/3", "[2/3", "[3/3"]
    again = Scripted()
    driver, _ = driven(tmp_path, tasks(tmp_path), again)
    assert states(driver) == ["finished"] * 3
    assert again.started == []


def test_force_starts_what_is_finished_once_more(tmp_path):
    driven(tmp_path, tasks(tmp_path), Scripted())
    executor = Scripted()
    driven(tmp_path, tasks(tmp_path, fresh=True), executor)
    assert len(executor.started) == 3


def test_a_failure_costs_its_run_alone_and_is_told_at_once(tmp_path):
    made = tasks(tmp_path)
    executor = Scripted({made[0].run: ["failed"]}, slots=1)
    driver, said = driven(tmp_path, made, executor)
    assert states(driver) == ["failed", "finished", "finished"]
    assert "arm seed 0  FAILED: ValueError: no" in said[0]
    assert str(tmp_path / made[0].run / runs.LOG) in said[0]


def test_what_failed_earlier_waits_for_retry_failed(tmp_path):
    made = tasks(tmp_path)
    driven(tmp_path, made, Scripted({made[1].run: ["failed"]}))
    executor = Scripted()
    driver, _ = driven(tmp_path, tasks(tmp_path), executor)
    assert executor.started == []
    assert states(driver) == ["finished", "failed", "finished"]
    driver, _ = driven(tmp_path, tasks(tmp_path), executor, retry_failed=True)
    assert executor.started == [made[1].run]
    assert states(driver) == ["finished"] * 3


def test_a_run_that_is_killed_goes_on_while_it_gets_further(tmp_path):
    made = tasks(tmp_path, seeds=(0,))
    executor = Scripted({made[0].run: ["lost", "lost at 1", "interrupted at 2", "lost"]})
    driver, said = driven(tmp_path, made, executor, max_restarts=1)
    assert states(driver) == ["finished"]
    assert len(executor.started) == 5
    assert said[0] == "  arm seed 0: killed; it goes on from step 0"
    assert said[2] == "  arm seed 0: stopped from outside; it goes on from step 2"


def test_a_run_that_is_killed_again_and_again_has_failed(tmp_path):
    made = tasks(tmp_path, seeds=(0, 1))
    executor = Scripted({made[0].run: ["lost"] * 9})
    driver, _ = driven(tmp_path, made, executor, max_restarts=2)
    assert states(driver) == ["failed", "finished"]
    assert executor.started.count(made[0].run) == 3  # once, and twice again
    assert "without getting further" in (record.error_of(tmp_path / made[0].run) or "")


def test_a_run_at_work_elsewhere_is_waited_for(tmp_path, monkeypatch):
    made = tasks(tmp_path, seeds=(0,))
    executor = Scripted({made[0].run: ["busy", "finished"]})
    driver, _ = driven(tmp_path, made, executor)
    assert states(driver) == ["finished"]
    assert executor.started == [made[0].run] * 2


def test_another_process_that_holds_a_run_keeps_it(tmp_path, monkeypatch):
    made = tasks(tmp_path, seeds=(0, 1))
    executor = Scripted()
    held = preparing.prepare

    def prepare(found: Located, **options):
        if found.folder.name == made[0].run and not (found.folder / "seen").exists():
            found.folder.mkdir(parents=True)
            (found.folder / "seen").touch()
            raise runs.Busy("somebody has it")
        held(found, **options)

    monkeypatch.setattr(preparing, "prepare", prepare)
    driver, _ = driven(tmp_path, made, executor)
    assert states(driver) == ["finished"] * 2
    assert executor.started == [made[1].run, made[0].run]


def child(parent: Pending, runs_dir: Path) -> Pending:
    locator = Locator()
    line = [f"backbone.init=run:{parent.run}", f"runs_dir={runs_dir}", "seed=7"]
    runs.write_config(parent.found.folder, parent.found.run.plain)
    return Pending(locator.locate(typed(compose(*line))), "child")


def test_parents_come_first(tmp_path):
    (parent,) = tasks(tmp_path, seeds=(0,))
    own = child(parent, tmp_path)
    executor = Scripted()
    monkey = executor._end

    def ends(job: Job) -> Ended:
        (job.folder / runs.WEIGHTS).touch()
        return monkey(job)

    executor._end = ends
    driver, _ = driven(tmp_path, [own, parent], executor)
    assert executor.started == [parent.run, own.run]
    assert states(driver) == ["finished"] * 2


def test_children_of_a_failed_run_are_blocked_with_its_reason(tmp_path):
    (parent,) = tasks(tmp_path, seeds=(0,))
    own = child(parent, tmp_path)
    executor = Scripted({parent.run: ["failed"]})
    driver, _ = driven(tmp_path, [own, parent], executor)
    assert executor.started == [parent.run]
    assert driver.tasks[own.run].state == "blocked"
    assert "ValueError: no" in (driver.tasks[own.run].reason or "")


@pytest.mark.parametrize("fault", ["damaged", "gone", "provenance"])
def test_weights_that_are_no_longer_there_cost_only_what_starts_from_them(tmp_path, fault):
    parent, other = tasks(tmp_path, seeds=(0, 1))
    own = child(parent, tmp_path)
    spoilt_parent(parent, fault)
    driver, said = driven(tmp_path, [own, other], Scripted())
    assert states(driver) == ["blocked", "finished"]
    assert parent.run in said[0]
    assert reading.status_of(own.found.folder) is None  # it starts once they are put back


def test_a_run_whose_frozen_config_is_damaged_costs_itself_alone(tmp_path):
    made = tasks(tmp_path, seeds=(0, 1))
    executor = Scripted()
    ends = executor._end

    def end(job: Job) -> Ended:
        if job.folder.name != made[0].run:
            return ends(job)
        (job.folder / runs.CONFIG).write_bytes(b"\xff\x00")
        return Ended(job.folder, "failed")

    executor._end = end
    driver, said = driven(tmp_path, made, executor)
    assert states(driver) == ["failed", "finished"]
    assert any(str(tmp_path / made[0].run / runs.CONFIG) in line for line in said)


def test_no_trial_of_a_search_is_spent_where_none_can_start(tmp_path):
    parent, other = tasks(tmp_path, seeds=(0, 1))
    own = child(parent, tmp_path)
    own.search = {"trial": 0}
    spoilt_parent(parent, "damaged")
    executor, over = Scripted(), []
    driver = Driver(executor, tmp_path, over=over.append)
    driver.add([other, own])
    with pytest.raises(runs.RunError, match="damaged"):
        driver.drive()
    assert over == []
    assert executor.stopped  # what ran was asked to save


def spoilt_parent(parent: Pending, fault: str) -> None:
    """Has a parent finish, and then lose something that its children need."""
    folder = parent.found.folder
    (folder / runs.WEIGHTS).write_bytes(b"weights")
    runs.write_json(folder / preparing.PROVENANCE, {"lineage": []})
    made = execute.blank(folder, parent.found.run)
    done = record.dataclasses.replace(made, status="finished")
    record.write_finished(folder, done, weights=True)
    if fault == "gone":
        (folder / runs.WEIGHTS).unlink()
    else:
        lost = {"damaged": runs.WEIGHTS, "provenance": preparing.PROVENANCE}[fault]
        (folder / lost).write_bytes(b"weighty")


def test_a_request_to_stop_is_heeded(tmp_path):
    executor = Scripted(slots=1)
    driver, _ = driven(tmp_path, tasks(tmp_path), executor, cancelled=lambda: True)
    assert executor.stopped
    assert driver.stopping
    assert "stopped" in states(driver)


def test_a_search_adds_tasks_while_there_is_room(tmp_path):
    made = tasks(tmp_path, seeds=(0, 1, 2, 3))
    executor = Scripted(slots=2)
    over: list[str] = []
    driver, _ = driven(
        tmp_path,
        [],
        executor,
        more=lambda: [made.pop(0)] if made else [],
        over=lambda task: over.append(task.run),
    )
    assert states(driver) == ["finished"] * 4
    assert over == executor.started


@pytest.mark.parametrize("text", ["", "{", '{"version": 1,\n "status": "finished",\n'])
def test_a_record_that_was_cut_off_is_no_record(tmp_path, text):
    made = tasks(tmp_path, seeds=(0,))
    (tmp_path / made[0].run).mkdir(parents=True)
    (tmp_path / made[0].run / record.FILE).write_text(text)
    executor = Scripted()
    driver, _ = driven(tmp_path, made, executor)
    assert executor.started == [made[0].run]
    assert states(driver) == ["finished"]


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_finished_run_whose_record_cannot_be_read_is_not_trained_unasked(tmp_path, retry_failed):
    made = tasks(tmp_path, seeds=(0, 1))
    folder = tmp_path / made[0].run
    folder.mkdir(parents=True)
    (folder / record.FILE).write_text("{")
    (folder / "model.safetensors").touch()
    executor = Scripted()
    driver, said = driven(tmp_path, made, executor, retry_failed=retry_failed)
    assert (made[0].run in executor.started) == retry_failed
    assert states(driver) == ["finished" if retry_failed else "failed", "finished"]
    assert any(str(folder / record.FILE) in line for line in said)
