"""The same on a Slurm that keeps accounts: nothing of it is asked, nothing is upset by it."""

import pytest

from cluster.driving import Drive, command, freeze, job_of, options, requeues, same, training
from tlx.sweeps.slurm import SlurmExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("accounting")]


def test_a_preempted_run_goes_on(tmp_path, undisturbed):
    folders = [freeze(tmp_path, seed=seed, steps=400) for seed in range(2)]
    node = options("slurm", account="a", partition="low")
    drive = Drive(SlurmExecutor(node, runs_dir=tmp_path), folders)
    drive.until(lambda: all(map(training, folders)))
    command("sbatch", "-p", "high", "-n", "2", "-o", "/dev/null", "--wrap", "sleep 2")
    drive.until(lambda: all(requeues(folder) == 1 for folder in folders))
    drive.finish()
    assert [drive.outcomes(folder) for folder in folders] == [["finished"]] * 2
    for seed, folder in enumerate(folders):
        same(undisturbed(seed=seed, steps=400), folder)
    states = command("sacct", "-n", "-X", "-P", "-o", "State", "-j", job_of(folders[0]))
    assert "COMPLETED" in states
