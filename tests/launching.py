"""Starts runs in fresh processes that a preloaded server forks, kills them where a test says."""

import faulthandler
import os
import signal
import socket
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from forking import CONTEXT

LIMIT_S = 240


def start(
    folder: Path,
    *,
    rank: int = 0,
    world: int = 1,
    port: int = 0,
    sabotage: Callable[[], None] | None = None,
) -> ForkServerProcess:
    """Starts one rank of the run whose config is frozen in `folder`."""
    process = CONTEXT.Process(target=_work, args=(folder, rank, world, port, sabotage))
    process.start()
    return process


def run(
    folder: Path, *, world: int = 1, sabotage: Mapping[int, Callable[[], None]] | None = None
) -> list[int]:
    """Runs all ranks of a frozen run to their end; returns their exit codes."""
    port = free_port()
    cuts = sabotage or {}
    ranks = [
        start(folder, rank=rank, world=world, port=port, sabotage=cuts.get(rank))
        for rank in range(world)
    ]
    ranks[0].join(LIMIT_S)
    for process in ranks:
        process.join(20 if ranks[0].exitcode is not None else 0)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in ranks]


def calm_and_killed(overrides: list[str], folder: Path, *, before: int) -> tuple[Path, Path]:
    """Folders of a run, and of the same one that was killed before its nth step and went on."""
    calm, killed = (freeze(overrides, runs_dir=folder / name) for name in ("calm", "killed"))
    assert run(calm) == [0], log(calm)
    kill = KillAt("tlx.training.engine.module:TransferModule", "training_step", before)
    assert run(killed, sabotage={0: kill}) == [-9], log(killed)
    assert run(killed) == [0], log(killed)
    return calm, killed


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(
    folder: Path, rank: int, world: int, port: int, sabotage: Callable[[], None] | None
) -> None:
    with open(folder / f"log-{rank}.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    faulthandler.enable()  # a rank that C++ code aborts leaves where it was
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(
            TORCHELASTIC_RUN_ID="test",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            LOCAL_WORLD_SIZE=str(world),
            GROUP_RANK="0",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    from tlx.execution import execute

    if sabotage is not None:
        sabotage()
    execute.run_here(folder)


def freeze(overrides: list[str], *, runs_dir: Path) -> Path:
    """Composes a config and freezes it in a run's folder, as `tlx train` does."""
    from tlx.config.compose import compose
    from tlx.config.run import typed
    from tlx.execution import preparing
    from tlx.execution.lineage import Locator

    config = compose([*overrides, f"runs_dir={runs_dir}"])
    found = Locator().locate(typed(config))
    preparing.prepare(found, overrides=overrides)
    return found.folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The final weights of a finished run."""
    return load_file(folder / "model.safetensors")


def logs(folder: Path) -> str:
    """What all ranks printed: the first may only tell that another is gone."""
    return "\n".join(
        f"{path.name}\n{path.read_text()}" for path in sorted(folder.glob("log-*.txt"))
    )


def log(folder: Path, rank: int = 0) -> str:
    """What a rank printed."""
    return (folder / f"log-{rank}.txt").read_text()


def kill_self() -> None:
    """What `kill -9` does: no handler, no flush, no farewell."""
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt:
    """Sabotage: the n-th call of a method of a class kills the process."""

    def __init__(self, owner: str, method: str, calls: int, *, after: bool = False) -> None:
        """Names the method, `tlx.training.engine.module:TransferModule`, and the call."""
        self.owner, self.method, self.calls, self.after = owner, method, calls, after

    def __call__(self) -> None:
        """Puts the trap in place."""
        import importlib

        module, _, name = self.owner.partition(":")
        owner: Any = importlib.import_module(module)
        owner = getattr(owner, name) if name else owner
        original, seen = getattr(owner, self.method), [0]

        def trapped(*args: Any, **kwargs: Any) -> Any:
            seen[0] += 1
            if seen[0] == self.calls and not self.after:
                kill_self()
            result = original(*args, **kwargs)
            if seen[0] == self.calls:
                kill_self()
            return result

        setattr(owner, self.method, trapped)


def no_all_reduce() -> None:
    """Sabotage: DDP keeps each rank's own gradients."""
    from torch.nn.parallel import DistributedDataParallel

    original = DistributedDataParallel.__init__

    def patched(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.require_backward_grad_sync = False

    DistributedDataParallel.__init__ = patched  # type: ignore[method-assign]


def another_config() -> None:
    """Sabotage: the rank trains at another learning rate than what is frozen."""
    from tlx.execution import runs

    original = runs.read_config

    def changed(folder: Path) -> dict[str, Any]:
        config = original(folder)
        return {**config, "optimizer": {**config["optimizer"], "lr": 0.5}}

    runs.read_config = changed


def dump_samples() -> None:
    """Sabotage: each rank writes down the indices of the samples it trains on."""
    from tlx.training.engine.module import TransferModule

    original = TransferModule.training_step

    def patched(self: Any, batch: Any, batch_idx: int) -> Any:
        path = Path(self.trainer.default_root_dir) / f"samples-{self.global_rank}.txt"
        with open(path, "a") as file:
            file.write(f"{self.step} {' '.join(map(str, batch['index'].tolist()))}\n")
        return original(self, batch, batch_idx)

    TransferModule.training_step = patched  # type: ignore[method-assign]


def dump_weights() -> None:
    """Sabotage: each rank writes its weights down when training is over."""
    from tlx.train import evaluation

    original = evaluation.evaluate

    def patched(session: Any) -> Any:
        state = {n: t.cpu() for n, t in session.plan.model.network.state_dict().items()}
        torch.save(state, session.folder / f"weights-{session.share.rank}.pt")
        return original(session)

    evaluation.evaluate = patched


class All:
    """Several sabotages at once."""

    def __init__(self, *parts: Callable[[], None]) -> None:
        """Keeps them."""
        self.parts = parts

    def __call__(self) -> None:
        """Puts each in place."""
        for part in self.parts:
            part()


def rank_weights(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    """What `dump_weights` wrote."""
    found: dict[str, torch.Tensor] = torch.load(folder / f"weights-{rank}.pt", weights_only=True)
    return found
