"""Kills runs at random moments, starts them again, and compares every bit with a calm run.

`make chaos`, or `PYTHONPATH=.:tests python -m chaos.kills [--kills N] [--seed S] [KIND...]`: prints
a line for each kind of run; exits with 1 where anything differs. A kill is SIGKILL to every process
of a run, or, where ranks train together, to one of them in every second case. A run is killed one
to five times and then left to end; what it leaves on disk must be what the calm run left.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import launching
from golden import runs

HERE = Path(__file__).resolve().parent
LIMIT_S = 300
BASE = (
    *runs.TRAINER,
    *runs.SGD,
    *("trainer.steps=24", "trainer.eval_every_steps=6", "trainer.checkpoint_every_steps=2"),
)
KINDS: dict[str, tuple[str, ...]] = {
    "images": (*runs.IMAGES, "augmentation=[standard]"),
    "ema": (*runs.IMAGES, "regularization=[ema,dropout]", "augmentation=[standard]"),
    "accumulate": runs.RUNS["accumulate"],
    "gradual": (*runs.IMAGES, "freeze_strategy=gradual"),
    "store": (*runs.RUNS["stored"], "dataset.labels_per_class=40"),
    "texts": runs.RUNS["texts"],
    "tokens": runs.RUNS["tokens"],
    "language": runs.RUNS["language"],
    "ranks": runs.RUNS["ranks"],
    "evaluation": (*runs.RUNS["texts"], "trainer.steps=2", "trainer.eval_every_steps=2"),
    "fused": (*runs.RUNS["stack"], "optimizer.lr=0.01,0.02"),
    "first_seconds": runs.RUNS["images"],
    "evaluate": runs.RUNS["images"],
}
"""Name to overrides. The last three are started as commands, in processes of their own."""
COMMANDS = ("fused", "first_seconds", "evaluate")
# what a clock or the machine says, what a run that went on had no need to compute again, and the
# digests of files that hold such things
VOLATILE = {
    *("wall_s", "samples_per_s", "peak_memory_bytes", "computed", "reused", "saved_s", "cached"),
    *("timings", "time", "files"),
}
# who ran, when, where and with what: the run's id stands for the rest of its config
UNCOMPARED = {
    *("progress", "provenance", "overrides", "config", "log", "log-0", "log-1"),
    *("manifest", "report", "cost", "runs"),  # of a study, which names times and places
}


class Started(Protocol):
    """Processes of one start of a run."""

    def alive(self) -> bool:
        """Whether any of them is."""

    def kill(self, draw: random.Random) -> None:
        """Kills them, or some of them, and waits for all."""

    def wait(self) -> list[int]:
        """Exit codes at their end."""


class Command:
    """A command in a process group of its own; killed with all its descendants."""

    def __init__(self, words: list[str], log: Path) -> None:
        """Starts `tlx WORDS`; what it prints is added to a file."""
        with log.open("a", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tlx.cli", *words],
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Whether the command itself is."""
        return self.process.poll() is None

    def kill(self, draw: random.Random) -> None:
        """Kills the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> list[int]:
        """The command's exit code."""
        return [self.process.wait(LIMIT_S)]


class Ranks:
    """The ranks of a run whose config is frozen in a folder, forked with everything imported."""

    def __init__(self, folder: Path, world: int) -> None:
        """Starts them."""
        port = launching.free_port()
        self.processes = [
            launching.start(folder, rank=rank, world=world, port=port) for rank in range(world)
        ]

    def alive(self) -> bool:
        """Whether all are."""
        return all(process.is_alive() for process in self.processes)

    def kill(self, draw: random.Random) -> None:
        """Kills all at once or, of several, one; then those that have not noticed in a minute."""
        if len(self.processes) > 1 and draw.random() < 0.5:
            draw.choice(self.processes).kill()
            until = time.monotonic() + 60
            for process in self.processes:
                process.join(max(0, until - time.monotonic()))
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def wait(self) -> list[int]:
        """Exit codes, rank by rank."""
        for process in self.processes:
            process.join(LIMIT_S)
        return [-1 if p.exitcode is None else p.exitcode for p in self.processes]


@dataclass(frozen=True)
class Outcome:
    """What came of the kills of one kind of run: kills that hit, runs ended, what differs."""

    kills: int
    ended: int
    differences: tuple[str, ...]


def facts_of(folder: Path) -> dict[str, Any]:
    """Everything that a runs folder holds and a result rests on, by file."""
    facts: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() or hidden or path.stem in UNCOMPARED:
            continue
        if path.name == "model.safetensors":
            facts[name] = runs.digest_of(path.parent)
        elif path.name == "metrics.csv":
            facts[name] = _columns(path)
        elif path.suffix == ".json":
            facts[name] = _lasting(json.loads(path.read_text(encoding="utf-8")))
        else:
            facts[name] = path.read_bytes()
    return facts


def _columns(path: Path) -> list[list[str]]:
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    lasting = [at for at, name in enumerate(rows[0]) if name.split("/")[-1] not in VOLATILE]
    return [[row[at] for at in lasting] for row in rows]


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in VOLATILE}
    return [_lasting(v) for v in value] if isinstance(value, list) else value


def differences(calm: dict[str, Any], killed: dict[str, Any]) -> list[str]:
    """A line for each file that only one holds, or that is not the same."""
    lines = [f"{name}: only in the calm run" for name in calm.keys() - killed.keys()]
    lines += [f"{name}: only in the killed run" for name in killed.keys() - calm.keys()]
    lines += [f"{n}: differs" for n in calm.keys() & killed.keys() if calm[n] != killed[n]]
    return sorted(lines)


class Trial:
    """One runs folder in which a kind of run is started again and again."""

    def __init__(self, kind: str, folder: Path, *, finished: Path | None = None) -> None:
        """Makes the folder, with a copy of a finished run's where runs are evaluated."""
        self.kind, self.folder = kind, folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.log = folder.parent / f"{folder.name}.log"
        self.world = 2 if kind == "ranks" else 1
        overrides = [*BASE, *KINDS[kind]]
        if kind not in COMMANDS:
            self.run = launching.freeze(overrides, runs_dir=folder)
            return
        if finished is not None:
            shutil.copytree(finished, folder)
            (run,) = (path.parent for path in folder.glob("*/record.json"))
            self.words = ["evaluate", str(run)]
        else:
            many = ["-m"] if kind == "fused" else []
            self.words = ["train", *many, *overrides, f"runs_dir={folder}"]

    def start(self) -> Started:
        """Starts it, as for the first time."""
        if self.kind in COMMANDS:
            return Command(self.words, self.log)
        return Ranks(self.run, self.world)

    def output(self) -> str:
        """What was printed."""
        logs = [self.log] if self.kind in COMMANDS else sorted(self.folder.glob("*/log-*.txt"))
        return "\n".join(log.read_text(encoding="utf-8") for log in logs if log.exists())


def chaos(kind: str, kills: int, folder: Path, draw: random.Random) -> Outcome:
    """Kills a kind of run until so many kills have hit; what differs from a calm run."""
    finished = None
    if kind == "evaluate":
        finished = _ended(Trial("first_seconds", folder / "finished")).folder
    calm = _ended(Trial(kind, folder / "calm", finished=finished))
    since = time.monotonic()  # of the second, for the first had to import things
    again = _ended(Trial(kind, folder / "again", finished=finished))
    whole_s = time.monotonic() - since
    span_s = min(3.0, whole_s) if kind == "first_seconds" else whole_s
    right, hits, ended = facts_of(calm.folder), 0, 0
    lines = [f"{kind}, undisturbed: {line}" for line in differences(right, facts_of(again.folder))]
    while hits < kills:
        trial = Trial(kind, folder / f"killed-{ended}", finished=finished)
        for _ in range(min(draw.randint(1, 5), kills - hits)):
            started = trial.start()
            until = time.monotonic() + draw.uniform(0, span_s)
            while started.alive() and time.monotonic() < until:
                time.sleep(0.01)
            if not started.alive():
                break
            started.kill(draw)
            hits += 1
        wrong = _wrong(trial, right)
        lines += [f"{kind}, {trial.folder.name}: {line}" for line in wrong]
        if not wrong:
            shutil.rmtree(trial.folder)
        ended += 1
    return Outcome(kills=hits, ended=ended, differences=tuple(lines))


def _wrong(trial: Trial, right: dict[str, Any]) -> list[str]:
    codes = trial.start().wait()
    if any(codes):
        return [f"ended with {codes}: {trial.output()[-2000:]}"]
    return differences(right, facts_of(trial.folder))


def _ended(trial: Trial) -> Trial:
    codes = trial.start().wait()
    if any(codes):
        raise RuntimeError(f"the calm run ended with {codes}: {trial.output()}")
    return trial


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Works in a folder with data of its own, and caches of its own (changes the process)."""
    before = Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "WANDB_MODE", "PYTHONPATH")}
    os.environ.update(
        XDG_CACHE_HOME=str(folder / "cache"),
        WANDB_MODE="offline",
        PYTHONPATH=f"{HERE.parent.parent}{os.pathsep}{HERE.parent}",
    )
    try:
        os.chdir(folder)
        runs.write_data(folder)
        yield
    finally:
        os.chdir(before)
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def main(words: list[str], say: Callable[[str], None] = print) -> int:
    """Kills runs of each kind; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[])
    parser.add_argument("--kills", type=int, default=300, help="kills that hit, over all kinds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args(words)
    kinds = chosen.kinds or list(KINDS)
    say(f"seed {chosen.seed}")
    hits, lines = 0, []
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    for at, kind in enumerate(kinds):
        share = (chosen.kills - hits) // (len(kinds) - at)
        since = time.monotonic()
        with room(folder / kind):
            outcome = chaos(kind, share, folder / kind, random.Random(f"{chosen.seed} {kind}"))
        hits += outcome.kills
        lines += outcome.differences
        wall_s = time.monotonic() - since
        counts = f"{outcome.kills} kills, {outcome.ended} runs ended"
        say(f"{kind}: {counts}, {len(outcome.differences)} differences, {wall_s:.0f} s")
        for line in outcome.differences:
            say(f"  {line}")
    say(f"{hits} kills of {len(kinds)} kinds of runs: {len(lines)} differences")
    if lines:
        say(f"what differs is left in {folder}")
    else:
        shutil.rmtree(folder)
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
