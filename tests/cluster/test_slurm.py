"""Runs on a real Slurm: disturbed in every way, they go on in place to the undisturbed weights."""

import os
import signal
from pathlib import Path

import pytest

from cluster import driving
from cluster.driving import Drive, command, freeze, job_of, options, requeues, same, training
from tlx.results import reading
from tlx.sweeps.executor import Job
from tlx.sweeps.slurm import SlurmExecutor, cancel

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("slurm"), pytest.mark.timeout(1800)]


def executor(tmp_path, **changes):
    return SlurmExecutor(options("slurm", **changes), runs_dir=tmp_path)


def young(folder):
    """Whether a run trains and has some way to go."""
    return training(folder) and driving.step(folder) < 100


def attempts(folder):
    """How often the run's worker has started, by its log."""
    return (folder / "log.txt").read_text().count("learning rate by layer group")


def test_eight_runs_disturbed_end_like_local_ones(tmp_path, undisturbed):
    folders = [freeze(tmp_path, seed=seed, steps=400) for seed in range(8)]
    drive = Drive(executor(tmp_path, partition="low"), folders)
    drive.look()
    assert len({job_of(folder).partition("_")[0] for folder in folders}) == 1, "one array"

    drive.until(lambda: sum(map(young, folders)) >= 2)
    first, second = [folder for folder in folders if young(folder)][:2]
    jobs = {folder: job_of(folder) for folder in (first, second)}
    driving.notice(jobs[first])
    driving.kill_worker(second)
    drive.until(lambda: requeues(first) == 1 and drive.outcomes(second) == ["lost"])
    assert "SIGKILL" in drive.ends[second][0].reason

    drive.until(lambda: sum(map(young, folders)) >= 2)
    victims = [folder for folder in folders if young(folder)][:2]
    before = {folder: requeues(folder) for folder in victims}
    command("sbatch", "-p", "high", "-n", "2", "-o", "/dev/null", "--wrap", "sleep 2")
    # one of them may just have ended by itself
    drive.until(lambda: any(requeues(v) > before[v] for v in victims))

    drive.finish()
    assert drive.outcomes(second) == ["lost", "finished"]
    assert all(drive.outcomes(f) == ["finished"] for f in folders if f != second)
    assert job_of(first) == jobs[first], "requeued under its id"
    assert job_of(second) != jobs[second]
    for seed, folder in enumerate(folders):
        same(undisturbed(seed=seed, steps=400), folder)
    kept = [path.name for path in (tmp_path / "slurm").glob("*.pkl")]
    assert all(name.startswith(f"{jobs[second]}_") for name in kept), "the others are tidied up"


def test_time_limit_saves_and_requeues(tmp_path, undisturbed):
    # Slurm may signal up to a minute early, so that the first attempt has 15 to 45 seconds
    folder = freeze(tmp_path, steps=2000)
    drive = Drive(executor(tmp_path, job_minutes=1, signal_s=15, max_requeues=20), [folder])
    drive.finish()
    assert drive.outcomes(folder) == ["finished"]
    assert requeues(folder) >= 1
    same(undisturbed(steps=2000), folder)


def test_requeues_are_bounded(tmp_path):
    folder = freeze(tmp_path, steps=1500)
    drive = Drive(executor(tmp_path, max_requeues=0), [folder])
    drive.until(lambda: training(folder))
    driving.notice(job_of(folder))
    drive.finish()
    assert drive.outcomes(folder) == ["failed"]
    assert "executor.max_requeues" in drive.ends[folder][0].reason
    assert "saved" in drive.ends[folder][0].reason


def test_a_new_driver_waits_for_the_jobs_of_an_earlier_one(tmp_path, capfd):
    folders = [freeze(tmp_path, seed=seed, steps=60) for seed in range(3)]
    first = executor(tmp_path)
    for folder in folders:
        first.start(Job(folder))
    first.ended(0)
    jobs = [job_of(folder) for folder in folders]
    first.stop()
    first.close()
    assert "3 Slurm jobs stay" in capfd.readouterr().out

    drive = Drive(executor(tmp_path), folders)
    drive.finish()
    assert [job_of(folder) for folder in folders] == jobs
    assert [drive.outcomes(folder) for folder in folders] == [["finished"]] * 3
    assert [attempts(folder) for folder in folders] == [1, 1, 1]


def test_cancelled_jobs_save_and_stay_cancelled(tmp_path):
    folders = [freeze(tmp_path, seed=seed, steps=1500) for seed in range(3)]
    patient = executor(tmp_path)
    for folder in folders:
        patient.start(Job(folder))
    patient.ended(0)
    drive = Drive(executor(tmp_path), folders)  # takes the jobs over
    drive.until(lambda: sum(map(training, folders)) == 2)
    by_hand = next(folder for folder in folders if training(folder))
    command("scancel", job_of(by_hand))
    drive.until(lambda: drive.ends[by_hand])
    assert drive.outcomes(by_hand) == ["failed"]
    assert "was cancelled" in drive.ends[by_hand][0].reason

    others = [folder for folder in folders if folder != by_hand]
    assert cancel(folders) == 2
    ends = []
    for _ in range(60):
        driving.release()
        ends += drive.executor.ended(1.0)
        if len(ends) == 2:
            break
    assert {(end.folder, end.outcome) for end in ends} == {(f, "interrupted") for f in others}
    assert command("squeue", "-h", "-t", "PENDING,RUNNING") == "", "none came back"
    assert reading.status_of(by_hand) == "interrupted"
    assert cancel(folders) == 0


def test_a_job_that_vanishes_is_lost(tmp_path):
    folder = freeze(tmp_path, steps=1500)
    drive = Drive(executor(tmp_path), [folder])
    drive.until(lambda: training(folder))
    task = parent(driving.worker_pids(folder)[0])
    os.kill(task, signal.SIGKILL)
    drive.until(lambda: drive.ends[folder])
    assert drive.outcomes(folder) == ["lost"]
    assert "is FAILED" in drive.ends[folder][0].reason
    drive.until(lambda: training(folder))
    cancel([folder])


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_two_devices_are_two_tasks_that_join(tmp_path, undisturbed):
    two = ["trainer.devices=2"]
    folder = freeze(tmp_path, steps=300, more=two)
    drive = Drive(executor(tmp_path), [folder], devices=2)
    drive.until(lambda: training(folder))
    assert len(driving.worker_pids(folder)) == 2
    driving.notice(job_of(folder))
    drive.until(lambda: requeues(folder) == 1)
    drive.until(lambda: training(folder) and len(driving.worker_pids(folder)) == 2)
    os.kill(driving.worker_pids(folder)[1], signal.SIGKILL)
    drive.finish()
    assert drive.outcomes(folder) == ["lost", "finished"]
    same(undisturbed(steps=300, more=two, world=2), folder)


def test_jobs_run_from_a_snapshot(tmp_path):
    folder = freeze(tmp_path, steps=20)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my_module.py").write_text("X = 1\n")
    drive = Drive(executor(tmp_path, snapshot=True, snapshot_paths=[str(mine)]), [folder])
    drive.until(lambda: driving.worker_pids(folder))
    variables = Path(f"/proc/{driving.worker_pids(folder)[0]}/environ").read_bytes().split(b"\0")
    paths = next(v for v in variables if v.startswith(b"PYTHONPATH=")).decode()
    copy = Path(paths.removeprefix("PYTHONPATH=").split(":")[0])
    assert copy.parent == tmp_path / "code"
    drive.finish()
    assert drive.outcomes(folder) == ["finished"]
