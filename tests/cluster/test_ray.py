"""Runs on a real Ray: killed in every way, they go on in place to the undisturbed weights."""

import os
import signal
from pathlib import Path

import pytest

from cluster import driving
from cluster.driving import Drive, freeze, options, same, training
from tlx.execution.runs import RunError
from tlx.results import reading
from tlx.sweeps.executor import Job
from tlx.sweeps.ray import RayExecutor

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    # files and sockets of Ray's own that it leaves to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray():
    """A Ray of two CPUs on this machine."""
    found = pytest.importorskip("ray")
    os.environ["OMP_NUM_THREADS"] = "1"
    found.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


@pytest.fixture
def executor(ray, tmp_path):
    """On that Ray."""
    made = RayExecutor(options("ray"), runs_dir=tmp_path)
    yield made
    made.close()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_eight_runs_disturbed_end_like_local_ones(executor, tmp_path, undisturbed):
    folders = [freeze(tmp_path, seed=seed, steps=400) for seed in range(8)]
    drive = Drive(executor, folders)
    drive.until(lambda: sum(map(training, folders)) >= 2)
    first, second = [folder for folder in folders if training(folder)][:2]
    driving.kill_worker(first)
    os.kill(parent(driving.worker_pids(second)[0]), signal.SIGKILL)
    drive.finish()
    assert drive.outcomes(first) == ["lost", "finished"]
    assert drive.outcomes(second) == ["lost", "finished"]
    assert all(drive.outcomes(f) == ["finished"] for f in folders if f not in {first, second})
    for seed, folder in enumerate(folders):
        same(undisturbed(seed=seed, steps=400), folder)


def test_stopping_saves_and_a_new_launch_goes_on(executor, tmp_path, undisturbed):
    folders = [freeze(tmp_path, seed=seed, steps=400) for seed in range(3)]
    drive = Drive(executor, folders)
    drive.until(lambda: sum(map(training, folders)) == 2)
    working = [folder for folder in folders if training(folder)]
    executor.stop()
    assert [reading.status_of(folder) for folder in working] == ["interrupted"] * 2
    assert not any(driving.worker_pids(folder) for folder in folders)
    drive = Drive(executor, folders)
    drive.finish()
    assert [drive.outcomes(folder) for folder in folders] == [["finished"]] * 3
    for seed, folder in enumerate(folders):
        same(undisturbed(seed=seed, steps=400), folder)


def test_a_run_of_two_devices_is_one_task(executor, tmp_path, undisturbed):
    two = ["trainer.devices=2"]
    folder = freeze(tmp_path, steps=60, more=two)
    drive = Drive(executor, [folder], devices=2)
    drive.finish()
    assert drive.outcomes(folder) == ["finished"], (folder / "log.txt").read_text()
    same(undisturbed(steps=60, more=two, world=2), folder)


def test_what_no_machine_has_is_refused(ray, tmp_path):
    folder = freeze(tmp_path, steps=20)
    greedy = RayExecutor(options("ray", gpus=0.5, cpus=3), runs_dir=tmp_path)
    with pytest.raises(RunError, match=r"needs 3 CPU, 0\.5 GPU; .* have 2 CPU, 0 GPU"):
        greedy.start(Job(folder))
    with pytest.raises(RunError, match="use executor=slurm"):
        greedy.start(Job(folder, nodes=2))
