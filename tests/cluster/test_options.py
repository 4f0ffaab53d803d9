"""What needs no cluster: how ends are understood, what sbatch is told, copies of the code."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

import tlx
from cluster.driving import options
from tlx.execution.runs import RunError
from tlx.sweeps import child, needs, slurm_options, slurm_queue, snapshot
from tlx.sweeps.executor import Job

PYTHON = [sys.executable, "-c"]


@pytest.mark.parametrize(
    ("code", "outcome", "word"),
    [
        ("raise SystemExit(0)", "finished", None),
        ("raise SystemExit(1)", "failed", None),
        ("raise SystemExit(3)", "interrupted", None),
        ("raise SystemExit(4)", "busy", None),
        ("raise SystemExit(5)", "pruned", None),
        ("raise SystemExit(77)", "failed", "status 77"),
        ("import os; os.kill(os.getpid(), 9)", "lost", "SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", "interrupted", "SIGTERM"),
        ("import os; os.kill(os.getpid(), 12)", "interrupted", "SIGUSR2"),
        ("import os; os.kill(os.getpid(), 11)", "failed", "SIGSEGV"),
        ("raise SystemExit(128 + 9)", "lost", "SIGKILL"),
    ],
)
def test_how_a_worker_ended(code, outcome, word, tmp_path):
    status = child.Child().run([*PYTHON, code], log=tmp_path / "log.txt")
    found, reason = child.understand(tmp_path, status)
    assert found == outcome
    assert (reason is None) if word is None else (word in reason)


def test_output_is_appended_to_the_log(tmp_path):
    for word in ("one", "two"):
        child.Child().run([*PYTHON, f"print({word!r})"], log=tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text().split() == ["one", "two"]


def test_stopping_reaches_the_worker_before_and_after_it_starts(tmp_path):
    early = child.Child()
    early.stop()
    assert early.run([*PYTHON, "print(1)"], log=tmp_path / "log.txt") == 3
    assert not (tmp_path / "log.txt").exists()
    worker = child.Child()
    threading.Timer(0.5, worker.stop).start()
    started = time.monotonic()
    assert worker.run([*PYTHON, "import time; time.sleep(60)"], log=tmp_path / "log.txt") == -15
    assert time.monotonic() - started < 10


def test_a_flag_stops_the_worker(tmp_path):
    flag = tmp_path / "stop"
    worker = child.Child(flag=flag)
    threading.Timer(0.5, flag.touch).start()
    started = time.monotonic()
    assert worker.run([*PYTHON, "import time; time.sleep(60)"], log=tmp_path / "log.txt") == -15
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kwargs": {"array": "0-3"}}, "tlx's own"),
        ({"kwargs": {"ntasks_per_node": 3}}, "say trainer.devices"),
        ({"kwargs": {"wrap": "rm -rf /"}}, "may not bring commands"),
        ({"kwargs": {"a b": 1}}, "no option"),
        ({"kwargs": {"constraint": "a100\nrm -rf /"}}, "one line"),
        ({"partition": "gpu\n#SBATCH --wrap=x"}, "one line"),
        ({"job_minutes": 2, "signal_s": 120}, "not before the time limit"),
    ],
)
def test_options_that_sbatch_must_not_get(changes, message):
    with pytest.raises(RunError, match=message):
        slurm_options.check(options("slurm", **changes))


def test_what_sbatch_is_told(tmp_path):
    node = options(
        "slurm", partition="gpu", memory_gb=7.5, job_minutes=90, kwargs={"constraint": "a100"}
    )
    slurm_options.check(node)
    found = slurm_options.parameters(node, slurm_options.Needs(4, 2, 4), name="tlx", code=None)
    assert found["nodes"] == 2
    assert found["ntasks_per_node"] == 4
    assert found["gpus_per_node"] == 4
    assert found["mem"] == "7680MB"
    assert found["time"] == 90
    assert found["signal_delay_s"] == 120
    assert found["additional_parameters"] == {"requeue": True, "constraint": "a100"}
    assert "account" not in found


def frozen(folder, accelerator):
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"accelerator": accelerator}}))
    return folder


@pytest.mark.parametrize(
    ("accelerator", "gpus", "there", "each"),
    [
        ("cpu", None, True, 0),
        ("gpu", None, False, 1),
        ("auto", None, True, 1),
        ("auto", None, False, 0),
        ("auto", 0, True, 0),
        ("gpu", 0.25, True, 0.25),
    ],
)
def test_gpus_of_a_run(accelerator, gpus, there, each, tmp_path):
    folder = frozen(tmp_path, accelerator)
    node = options("ray", gpus=gpus)
    assert needs.gpus_each(folder, node, there=lambda: there) == each


def test_slurm_gives_whole_gpus(tmp_path):
    job = Job(frozen(tmp_path, "gpu"), devices=2)
    assert slurm_options.needs(job, options("slurm")) == slurm_options.Needs(2, 1, 2)
    with pytest.raises(RunError, match=r"executor.gpus=0\.5"):
        slurm_options.needs(job, options("slurm", gpus=0.5))


def test_without_slurm_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="login node"):
        slurm_queue.queue()


def test_the_queue_is_read(monkeypatch, tmp_path):
    fake = tmp_path / "squeue"
    fake.write_text("#!/bin/sh\necho '7_1|RUNNING|None'; echo '8|FAILED|(a|b)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = slurm_queue.queue()
    assert found["7_1"] == slurm_queue.Queued("RUNNING", "None")
    assert not found["7_1"].over
    assert found["8"].over
    fake.write_text("#!/bin/sh\nexit 1\n")
    assert slurm_queue.queue() is None, "silence is not an empty queue"


def test_a_snapshot_is_what_python_takes(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my_module.py").write_text("X = 1\n")
    copy = snapshot.take(tmp_path / "runs", paths=[str(mine)])
    assert snapshot.take(tmp_path / "runs", paths=[str(mine)]) == copy
    (mine / "my_module.py").write_text("X = 2\n")
    code = (
        "import tlx, my_module; from tlx.config.places import conf_dir, experiments_dir; "
        "print(tlx.__file__, my_module.X, conf_dir(), experiments_dir().is_dir())"
    )
    said = subprocess.run(
        [*PYTHON, code],
        env={**os.environ, **snapshot.environment(copy)},
        cwd=Path(tlx.__file__).parent.parent,  # where the edited code lies
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [
        *(str(copy / "tlx" / "__init__.py"), "1", str(copy / "tlx" / "conf"), "True")
    ]
    assert snapshot.take(tmp_path / "runs", paths=[str(mine)]) != copy, "the code has changed"
    with pytest.raises(RunError, match="no folder"):
        snapshot.take(tmp_path / "runs", paths=["/nowhere"])


def test_a_snapshot_of_what_is_not_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "LARGEST_BYTES", 1000)
    with pytest.raises(RunError, match="nothing but code"):
        snapshot.take(tmp_path)
