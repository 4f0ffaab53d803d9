"""How many cores this process may use: those it is bound to, and what its container is granted.

`os.cpu_count()` is the machine's. A container with a quota of two cores on a machine of 64 that
computes with 64 threads is throttled by the kernel, and each step takes tens of times as long.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def usable() -> int:
    """Cores that this process may keep busy: affinity, at most the quota of its cgroups; ≥ 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(math.ceil(min(bound or 1, quota())), 1)


def quota() -> float:
    """Cores' worth of time that the cgroups of this process grant; infinite where none limits.

    Source: the kernel's documentation of cgroup v2 (`cpu.max`) and of the v1 controller
    (`cpu.cfs_quota_us`, `cpu.cfs_period_us`). A group is held to its ancestors' limits as well.
    """
    return min((limit for folder in _folders() if (limit := _limit(folder)) > 0), default=math.inf)


def asked_for() -> int | None:
    """Threads of a process that the environment asks for (`OMP_NUM_THREADS`), if it does."""
    # a list is one number for each level of nesting
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def limit_torch() -> None:
    """Keeps torch to the usable cores where nobody asked for another number (a mutator)."""
    import torch

    if asked_for() is None and torch.get_num_threads() > usable():
        torch.set_num_threads(usable())


def _folders() -> Iterator[Path]:
    """Folders of the groups that this process is in, and of those above them."""
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # a container sees its own group as the root of the mount, whatever its path outside; some
        # kernels list `cpuacct,cpu` where the folder is `cpu,cpuacct`, and `cpu` a link to it
        first = (MOUNT, MOUNT / "unified")
        for root in first if not controllers else (MOUNT / controllers, MOUNT / "cpu"):
            inside = root / group.lstrip("/")
            yield from (f for f in (inside, *inside.parents) if f.is_relative_to(root))


def _limit(folder: Path) -> float:
    """Cores that one group is limited to; infinite where it is not."""
    try:
        if (folder / "cpu.max").exists():
            granted, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            granted = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return float(granted) / float(period)
    except (OSError, ValueError):  # no such file; "max"
        return math.inf
