"""Workers of one toy search, killed at random moments and started again."""

import itertools
import math
import os
import random
import signal
import time
from pathlib import Path

import optuna

from forking import CONTEXT
from tlx.sweeps.search import Search

SPACE = {"x": "interval(0, 1)", "mode": "a,b,[c,d]"}


def opened(storage, budget):
    return Search(
        name="killed",
        storage=storage,
        space=SPACE,
        objectives=[("val/loss", "min")],
        budget=budget,
        beat_s=0.5,
        stale_s=5,
    )


def value(params):
    return math.nan if 0.4 < params["x"] < 0.5 else params["x"]


def note(log, *words):
    """Appends one line, in one step."""
    line = " ".join(map(str, [time.monotonic(), os.getpid(), *words])) + "\n"
    with open(log, "ab", buffering=0) as file:
        file.write(line.encode())


def work(storage, budget, log, slow):
    """What a driver does, with sleeping for training."""
    found = opened(storage, budget)
    while not found.done():
        trial = found.next()
        if trial is None:
            time.sleep(0.02)
            continue
        note(log, "begin", trial.number)
        time.sleep(slow * random.uniform(0.02, 0.15))
        if trial.params["x"] > 0.9:
            note(log, "end", trial.number, found.tell(trial, state="pruned"))
        else:
            note(log, "end", trial.number, found.tell(trial, value(trial.params)))
    note(log, "done")


def start(*args):
    process = CONTEXT.Process(target=work, args=args)
    process.start()
    return process


def at_work(log, crew):
    """Places of the workers that have begun a trial and not ended it."""
    lines = log.read_text().splitlines() if log.exists() else []
    last = {line.split()[1]: line.split()[2] for line in lines}
    return [i for i, process in enumerate(crew) if last.get(str(process.pid)) == "begin"]


def run(storage, log: Path, *, budget, kills, workers=4, slow=1, limit_s=400):
    """Runs a search to its end; returns its trials, and when which process was killed.

    Every second kill hits a worker in the midst of a trial, the others whomever they hit. Work
    and pauses between kills take `slow` times as long.
    """
    killed, until = {}, time.monotonic() + limit_s
    crew = [start(storage, budget, log, slow) for _ in range(workers)]
    while any(process.is_alive() for process in crew):
        assert time.monotonic() < until, log.read_text()
        time.sleep(slow * random.uniform(0.02, 0.25))
        places = range(workers) if len(killed) % 2 else at_work(log, crew)
        if not places:
            continue
        at = random.choice(places)
        if len(killed) < kills and crew[at].is_alive():
            killed[crew[at].pid] = time.monotonic()
            os.kill(crew[at].pid, signal.SIGKILL)
            crew[at].join()
            crew[at] = start(storage, budget, log, slow)
    assert [process.exitcode for process in crew] == [0] * workers
    found = opened(storage, budget)
    trials = found.study.trials
    found.close()
    return trials, killed


def check(trials, killed, log: Path, *, budget):
    """The budget to the trial; nothing twice, nothing half, nothing lost."""
    states = [trial.state.name for trial in trials]
    finished = states.count("COMPLETE") + states.count("PRUNED")
    assert finished == budget
    assert finished + states.count("FAIL") == len(states), states
    assert [trial.number for trial in trials] == list(range(len(states)))
    for trial in trials:
        assert trial.params.keys() == SPACE.keys()
        right = value(trial.params)
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value == right
        elif trial.state == optuna.trial.TrialState.FAIL:
            assert math.isnan(right)
        else:
            assert trial.params["x"] > 0.9
    lines = [line.split() for line in log.read_text().splitlines()]
    for number in range(len(states)):
        begins = [
            (float(at), int(pid))
            for at, pid, what, *n in lines
            if what == "begin" and n == [str(number)]
        ]
        assert begins
        for (_, before), (at, _) in itertools.pairwise(begins):
            assert killed.get(before, math.inf) < at, f"trial {number} was worked on by two"
    return sum(len(line) > 3 and line[2] == "begin" for line in lines) - len(states)
