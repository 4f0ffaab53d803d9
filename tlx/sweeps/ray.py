"""Runs as Ray tasks, on an existing cluster or on one that Ray makes of this machine.

The worker is a process of its own under the task, so that a crash costs its run and no Ray
process. Ray's own retries are off: the driver starts a lost run again, and counts.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from tlx.config import schema
from tlx.execution import runs
from tlx.sweeps import child, needs, snapshot
from tlx.sweeps.executor import Ended, Job, Outcome

STORE_BYTES = 100_000_000
"""Of a cluster of our own: nothing is passed but exit statuses."""

STOP = ".stop"
"""In a run's folder: asks its task to stop. Ray promises no more than to try to cancel a task."""

GRACE_S = 90.0
"""How long stopping may take: network file systems show a new file late."""


PASSED = ("HF_", "OMP_", "PYTHON", "TLX_", "TORCH_", "TRANSFORMERS_", "WANDB_")
"""Beginnings of the variables that go along to the workers; a cluster has its own."""


def train(folder: str, environment: Mapping[str, str], cwd: str) -> tuple[Outcome, str | None]:
    """The Ray task: runs the worker of a run; a cancelled task has its worker save first."""
    place = Path(folder)
    worker = child.Child(flag=place / STOP)
    command = child.worker_command(place)
    try:
        status = worker.run(
            command,
            log=place / runs.LOG,
            environment=environment,
            cwd=cwd if os.path.isdir(cwd) else None,
        )
    except KeyboardInterrupt:  # how Ray cancels
        worker.stop()
        status = worker.wait()
    return child.understand(place, status)


@final
class RayExecutor:
    """Hands runs to Ray, which places them by the CPUs and (parts of) GPUs that they need."""

    def __init__(self, node: schema.ExecutorConfig, *, runs_dir: Path) -> None:
        """Connects with the first run.

        Args:
            node: the config's `executor`.
            runs_dir: folder of the runs; every machine of the cluster must see it.
        """
        self.node = node
        self.runs_dir = runs_dir.absolute()
        self._running: dict[Any, Path] = {}
        self._ours = False
        self._environment: dict[str, str] = {}

    def room(self, job: Job) -> bool:
        """Whether fewer than `executor.workers` runs are at Ray, null: `executor.max_jobs`."""
        return len(self._running) < int(self.node.workers or self.node.max_jobs)

    def start(self, job: Job) -> None:
        """Queues a run at Ray.

        Raises:
            RunError: the run wants several nodes, or more than any machine of the cluster has.
        """
        if job.nodes > 1:
            raise runs.RunError(
                f"trainer.nodes={job.nodes}: executor=ray trains a run on one machine; "
                "use executor=slurm"
            )
        ray = self._connect()
        wanted = self._resources(job)
        _require(ray, job, wanted)
        task = ray.remote(train).options(
            num_cpus=wanted["CPU"],
            num_gpus=wanted.get("GPU", 0),
            memory=wanted.get("memory"),
            max_retries=0,
            name=job.folder.name,
        )
        (job.folder / STOP).unlink(missing_ok=True)
        reference = task.remote(str(job.folder), self._environment, os.getcwd())
        self._running[reference] = job.folder

    def ended(self, timeout_s: float) -> list[Ended]:
        """What ended since the last call."""
        if not self._running:
            return []
        import ray

        known = list(self._running)
        done, _ = ray.wait(known, num_returns=1, timeout=timeout_s)
        if done:  # and all that ended beside it
            done, _ = ray.wait(known, num_returns=len(known), timeout=0)
        return [_end(self._running.pop(reference), reference) for reference in done]

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Cancels every task; those that train save first."""
        if not self._running:
            return
        import ray

        for reference, folder in self._running.items():
            (folder / STOP).touch()
            ray.cancel(reference, force=False)
        until = time.monotonic() + GRACE_S
        while self._running and time.monotonic() < until and not hurry():
            self.ended(1.0)

    def close(self) -> None:
        """Kills what still runs; leaves the cluster, and ends one of our own."""
        if not self._running and not self._ours:
            return
        import ray

        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _connect(self) -> Any:
        try:
            import ray
        except ImportError as error:
            raise runs.RunError("executor=ray needs Ray: pip install ray") from error
        if not ray.is_initialized():
            self._environment = {k: v for k, v in os.environ.items() if k.startswith(PASSED)}
            if self.node.snapshot:
                copy = snapshot.take(self.runs_dir, paths=self.node.snapshot_paths or ())
                self._environment |= snapshot.environment(copy)
            _open(ray, self.node.address or os.environ.get("RAY_ADDRESS"))
        return ray

    def _resources(self, job: Job) -> dict[str, float]:
        def there() -> bool:
            return bool(self._connect().cluster_resources().get("GPU", 0) > 0)

        found: dict[str, float] = {"CPU": (self.node.cpus or 1) * job.devices}
        if gpus := needs.gpus_each(job.folder, self.node, there=there) * job.devices:
            found["GPU"] = gpus
        if self.node.memory_gb is not None:
            found["memory"] = int(self.node.memory_gb * 2**30)
        return found


def _open(ray: Any, address: str | None) -> None:
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="warning",
            **({} if address else own),
        )
    except ConnectionError as error:
        raise runs.RunError(
            f"no Ray cluster at {address!r} (executor.address, or RAY_ADDRESS): {error}; start one "
            "with `ray start --head`, or name none for Ray on this machine alone"
        ) from error


def _require(ray: Any, job: Job, wanted: Mapping[str, float]) -> None:
    """Passes what some machine of the cluster has; Ray would wait for it in silence."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(k, 0) >= v for k, v in wanted.items()) for node in nodes):
        have = "; ".join(
            ", ".join(f"{node.get(kind, 0):g} {kind}" for kind in wanted) for node in nodes
        )
        need = ", ".join(f"{value:g} {kind}" for kind, value in wanted.items())
        raise runs.RunError(
            f"{job.folder.name} needs {need}; the machines of the Ray cluster have {have}. "
            "Lower executor.cpus, .gpus or .memory_gb, or trainer.devices"
        )


def _end(folder: Path, reference: Any) -> Ended:
    """How a run's task ended, with what Ray says where the task could not."""
    import ray

    try:
        outcome, reason = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Ended(folder, "interrupted")
    except ray.exceptions.RayTaskError as error:
        return Ended(folder, "failed", f"its Ray task failed: {error.cause!r}")
    except ray.exceptions.RayError as error:  # worker, machine or memory gone
        return Ended(folder, "lost", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    return Ended(folder, outcome, reason)
