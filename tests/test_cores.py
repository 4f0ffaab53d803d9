"""Threads: what the environment asks for, affinity and the container's quota allow."""

import os
import subprocess
import sys

import pytest
import torch

from tlx.base import cores
from tlx.config.schema import ExecutorConfig
from tlx.sweeps.local import LocalExecutor


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight cores whose cgroups are written into files; OMP_NUM_THREADS is unset."""

    def write(membership, **files):
        (tmp_path / "self").write_text(membership)
        for place, content in files.items():
            path = tmp_path / place.replace("__", "/").replace("-", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(cores, "MOUNT", tmp_path)
    return write


@pytest.mark.parametrize(
    ("membership", "files", "usable"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu-max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu-max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu-max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu-max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu-max": "6400000 100000\n"}, 8),
        ("0::/pod/box\n", {"pod__cpu-max": "300000 100000\n", "pod__box__cpu-max": "max 1\n"}, 3),
        ("0::/outside/the/mount\n", {"cpu-max": "200000 100000\n"}, 2),
        (
            "3:cpu,cpuacct:/docker/1\n1:memory:/docker/1\n0::/\n",
            {
                "cpu,cpuacct__cpu-cfs_quota_us": "400000\n",
                "cpu,cpuacct__cpu-cfs_period_us": "100000\n",
            },
            4,
        ),
        (  # the folder has the names the other way round, and a link
            "3:cpuacct,cpu:/docker/1\n",
            {"cpu__cpu-cfs_quota_us": "400000\n", "cpu__cpu-cfs_period_us": "100000\n"},
            4,
        ),
        (
            "3:cpu:/\n",
            {"cpu__cpu-cfs_quota_us": "-1\n", "cpu__cpu-cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_a_containers_quota_counts(membership, files, usable, machine):
    machine(membership, **{name.replace(".", "-"): text for name, text in files.items()})
    assert cores.usable() == usable


def laid(**options):
    executor = LocalExecutor(ExecutorConfig(**options))
    executor._lay_slots(0)
    return executor


@pytest.mark.parametrize(
    ("asked", "options", "workers", "threads"),
    [
        (None, {}, 4, 1),
        (None, {"workers": 2}, 2, 2),
        (None, {"threads": 2}, 2, 2),
        ("1", {}, 4, 1),
        ("1", {"workers": 2}, 2, 1),
        ("2", {}, 2, 2),
        ("2,1", {"workers": 1}, 1, 2),
        ("2", {"threads": 4}, 1, 4),
    ],
)
def test_a_study_keeps_to_what_it_is_given(asked, options, workers, threads, machine, monkeypatch):
    machine("0::/\n", **{"cpu-max": "400000 100000\n"})
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    executor = laid(**options)
    assert len(executor.slots) == workers
    assert executor._threads(slots=1, devices=1) == threads


def test_the_ranks_of_a_run_divide_its_slots(machine):
    machine("0::/\n")
    assert laid(workers=2)._threads(slots=2, devices=2) == 4
    assert laid(workers=1)._threads(slots=1, devices=2) == 4


def test_torch_keeps_to_the_quota_unless_told(machine, monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    machine("0::/\n", **{"cpu-max": "200000 100000\n"})
    cores.limit_torch()
    assert set_to == [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    cores.limit_torch()
    assert set_to == [2]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_what_a_process_is_bound_to_counts():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from tlx.base import cores; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(cores.usable())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
