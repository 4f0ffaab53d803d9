"""Runs on several devices: torchrun started here, or the launcher that started us joined."""

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tlx.base import cores, interrupts
from tlx.config.run import Run
from tlx.execution import runs

PR_SET_PDEATHSIG = 1


def inside_launcher() -> bool:
    """Whether torchrun or Slurm has started this process as one rank of several."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_first() -> bool:
    """Whether this process is rank 0, or alone: the one that writes and speaks."""
    if not inside_launcher():
        return True
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def wants_torchrun(run: Run) -> bool:
    """Whether this process must start the run's workers itself."""
    if inside_launcher():
        return False
    trainer = run.trainer
    if trainer.nodes > 1:
        raise runs.RunError(
            f"trainer.nodes={trainer.nodes} needs a launcher on every node: start the same "
            "line under srun, or under torchrun --nnodes"
        )
    return trainer.devices > 1


@dataclass(frozen=True)
class Launched:
    """How torchrun ended: its exit status, and whether it was asked to stop."""

    status: int
    stopped: bool


def start(folder: Path, run: Run) -> Launched:
    """Starts one worker a device through torchrun on a frozen config, and waits for them.

    They are a session of their own: torchrun takes a second signal, such as that of the terminal
    beside ours, for an order to let go of its workers at once.
    """
    devices = run.trainer.devices
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={devices}"),
        *("--module", "tlx.sweeps.worker", str(folder)),
    ]
    environment = {"OMP_NUM_THREADS": str(_threads_each(devices)), **os.environ}
    return _wait(
        subprocess.Popen(command, env=environment, preexec_fn=_as_ours, start_new_session=True)
    )


def _as_ours() -> None:
    die_with_parent()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # torchrun would die of them; we hand them on


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies, so that no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _threads_each(devices: int) -> int:
    return max(cores.usable() // devices, 1)


def _wait(process: "subprocess.Popen[bytes]") -> Launched:
    """Waits, handing on the first request to stop; another Ctrl-C ends torchrun and its ranks."""
    asked = interrupts.Asked()

    def hand_on() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if asked.at_once else signal.SIGTERM)

    with asked.heard_by(hand_on):
        status = process.wait()
    return Launched(status, asked.stopping)


def join_ranks(run: Run) -> tuple[int, int]:
    """Rank and world size; opens the process group, and compares the config across ranks.

    Raises:
        RunError: the number of processes is not devices × nodes, or a rank has another config.
    """
    import torch
    import torch.distributed as dist
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    from tlx.training.engine.patience import starting

    trainer = run.trainer
    wanted = trainer.devices * trainer.nodes
    if not inside_launcher():
        if wanted != 1:
            raise runs.RunError(f"trainer.devices × nodes = {wanted}, but there is one process")
        return 0, 1
    if "RANK" not in os.environ:
        os.environ["RANK"] = os.environ["SLURM_PROCID"]
        os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
        os.environ.setdefault("MASTER_ADDR", SLURMEnvironment().main_address)
        os.environ.setdefault("MASTER_PORT", str(SLURMEnvironment().main_port))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world != wanted:
        raise runs.RunError(
            f"{world} processes were started, but trainer.devices × trainer.nodes = {wanted}; "
            "make them equal"
        )
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        limit = starting(trainer.timeout_minutes)
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=limit)
    same_everywhere("config", _digest(run))
    return rank, world


def _digest(run: Run) -> str:
    return hashlib.sha256(json.dumps(run.plain, sort_keys=True, default=str).encode()).hexdigest()


def wait_for_all() -> None:
    """Waits until every rank is here, so that none reads what rank 0 has not written yet."""
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def leave() -> None:
    """Closes the process group, if there is one (a mutator of the process)."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def same_everywhere(what: str, value: str) -> None:
    """Compares a value across ranks.

    Raises:
        RunError: a rank has another.
    """
    import torch.distributed as dist

    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    values: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise runs.RunError(f"ranks disagree on the {what}: {values}; start them from one folder")
