"""A Slurm of one node for the tests, where its programs are installed; undisturbed runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import launching
from cluster import driving

SCRIPT = Path(__file__).with_name("slurm.sh")


def start_slurm(*arguments):
    """Starts one, with its configuration in this process's environment."""
    if os.geteuid() != 0:
        pytest.skip("tests/cluster/slurm.sh starts Slurm's daemons as root")
    for program in ("slurmctld", "slurmd", "munged", *(["slurmdbd"] if arguments else [])):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}; `tests/cluster/slurm.sh start` installs it")
    pytest.importorskip("submitit")
    subprocess.run([SCRIPT, "start", *arguments], check=True, stdout=subprocess.DEVNULL)
    said = subprocess.run([SCRIPT, "env"], check=True, capture_output=True, text=True)
    os.environ["SLURM_CONF"] = said.stdout.strip().rpartition("=")[2]
    os.environ["OMP_NUM_THREADS"] = "1"


def stop_slurm():
    """Stops it."""
    subprocess.run([SCRIPT, "stop"], check=True)
    os.environ.pop("SLURM_CONF", None)


@pytest.fixture(scope="module")
def slurm():
    """A Slurm without accounting."""
    start_slurm()
    yield
    stop_slurm()


@pytest.fixture(scope="module")
def accounting():
    """A Slurm with its database."""
    start_slurm("--accounting")
    yield
    stop_slurm()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Runs of this machine without an accident, each trained once."""
    runs_dir = tmp_path_factory.mktemp("undisturbed")

    def run(*, world=1, **wanted):
        folder = driving.freeze(runs_dir, **wanted)
        if not (folder / "model.safetensors").is_file():
            assert launching.run(folder, world=world) == [0] * world, launching.log(folder)
        return folder

    return run
