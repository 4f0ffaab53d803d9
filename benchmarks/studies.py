"""What a run costs a study: in a warm worker against a fresh process, and in the driver alone.

Run: python -m benchmarks.studies
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.pairs import ratios
from tlx.config.compose import Composer
from tlx.config.run import typed
from tlx.config.schema import ExecutorConfig
from tlx.execution import execute, preparing, runs
from tlx.execution.lineage import Locator
from tlx.results import record
from tlx.sweeps.driver import Driver, Pending
from tlx.sweeps.executor import Ended, Job
from tlx.sweeps.local import LocalExecutor

TINY = [
    *("dataset=digits", "dataset.classes=[0,1]", "dataset.labels_per_class=2", "trainer=cpu"),
    *("backbone=timm", "backbone.name=test_resnet", "backbone.init=none"),
    *("backbone.image_size=32", "trainer.steps=1", "trainer.batch_size=4", "logger=[]"),
]
OPTIONS = ExecutorConfig(workers=1, threads=1)


def prepared(composer: Composer, runs_dir: Path, number: int) -> Path:
    """A run that is one step, ready to be trained."""
    config = composer.compose([*TINY, f"seed={number}", f"runs_dir={runs_dir}"])
    found = Locator().locate(typed(config))
    preparing.prepare(found)
    return found.folder


class Trivial:
    """An executor whose jobs have ended when they start."""

    def __init__(self) -> None:
        self.over: list[Path] = []

    def room(self, job: Job) -> bool:
        return len(self.over) < 2

    def start(self, job: Job) -> None:
        blank = execute.blank(job.folder, runs.read_run(job.folder))
        record.write(job.folder, replace(blank, status="finished"))
        self.over.append(job.folder)

    def ended(self, timeout_s: float) -> list[Ended]:
        over, self.over = self.over, []
        return [Ended(folder, "finished") for folder in over]

    def stop(self) -> None:
        return

    def close(self) -> None:
        return


def worth(runs_dir: Path, pairs: int) -> list[float]:
    """Seconds of a one-step run in a fresh process, over those in a warm worker."""
    composer, count = Composer(), iter(range(10_000))
    executor = LocalExecutor(OPTIONS)
    executor.room(Job(runs_dir))  # starts the process that is forked
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def fresh() -> float:
        folder = prepared(composer, runs_dir, next(count))
        started = time.perf_counter()
        line = [sys.executable, "-m", "tlx.sweeps.worker", str(folder)]
        subprocess.run(line, check=True, capture_output=True, env=environment)
        return time.perf_counter() - started

    def warm() -> float:
        folder = prepared(composer, runs_dir, next(count))
        started = time.perf_counter()
        executor.start(Job(folder))
        while not (ended := executor.ended(5)):
            continue
        seconds = time.perf_counter() - started
        assert [end.outcome for end in ended] == ["finished"], (folder / runs.LOG).read_text()
        return seconds

    found = ratios(fresh, warm, pairs=pairs)
    executor.close()
    return found


def overhead(runs_dir: Path, count: int) -> float:
    """Milliseconds of the driver a run: composing, locating, preparing, handing over, ending."""
    started = time.perf_counter()
    composer, locator = Composer(), Locator()
    configs = (composer.compose([*TINY, f"seed={i}", f"runs_dir={runs_dir}"]) for i in range(count))
    driver = Driver(Trivial(), runs_dir, say=lambda text: None)
    driver.add([Pending(locator.locate(typed(config)), "trivial") for config in configs])
    driver.drive()
    assert {task.state for task in driver.tasks.values()} == {"finished"}
    return 1000 * (time.perf_counter() - started) / count


def main(pairs: int = 7, count: int = 1000) -> None:
    """Prints both figures."""
    with tempfile.TemporaryDirectory() as folder:
        found = sorted(worth(Path(folder) / "a", pairs))
        middle = statistics.median(found)
        verdict = "ok" if middle >= 20 else "UNDER"
        print(
            f"fixed cost of a run, fresh process / warm worker: median ratio {middle:.1f} "
            f"[{found[0]:.1f}, {found[-1]:.1f}] over {len(found)} pairs, at least 20: {verdict}"
        )
        each = overhead(Path(folder) / "b", count)
        verdict = "ok" if each <= 50 else "OVER"
        print(f"driver, {count} trivial runs: {each:.1f} ms a run, limit 50: {verdict}")


if __name__ == "__main__":
    main()
