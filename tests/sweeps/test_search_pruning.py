"""Pruning: the decisions are Optuna's, survive restarts, and are the same on every rank."""

import json
import math
import shutil

import optuna
import pytest

import launching
from tlx.sweeps.search import Search
from tlx.training.engine import checkpoints, pruning

PRUNERS = {
    "median": {"startup_trials": 3, "warmup": 1},
    "successive_halving": {"min_resource": 1, "reduction_factor": 2},
    "hyperband": {"min_resource": 1, "max_resource": 8, "reduction_factor": 2},
    "none": {},
}
REFERENCE = {
    "median": optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner(1, 2),
    "hyperband": optuna.pruners.HyperbandPruner(1, 8, 2),
    "none": optuna.pruners.NopPruner(),
}


def search(path, pruner="median", **given):
    return Search(
        name="pruned",
        storage=str(path / "optuna.journal"),
        space={"x": "interval(0, 1)"},
        objectives=[("val/accuracy", "max")],
        budget=20,
        pruner=pruner,
        pruner_options=PRUNERS[pruner],
        **given,
    )


def curve(number):
    """Accuracy at 8 validations; trials differ, and cross."""
    top = 0.5 + 0.4 * math.sin(7 * number)
    return [top * (1 - math.exp(-(i + 1) / (1 + number % 3))) for i in range(8)]


def expected(pruner):
    """Trial to the validation at which Optuna's own loop ends it."""
    study = optuna.create_study(
        study_name="pruned", direction="maximize", pruner=REFERENCE[pruner],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    ended = {}
    for _ in range(20):
        trial = study.ask()
        for point, value in enumerate(curve(trial.number), 1):
            trial.report(value, point)
            if trial.should_prune():
                ended[trial.number] = point
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve(trial.number)[-1])
    return ended


@pytest.mark.parametrize("pruner", PRUNERS)
def test_decisions_are_optunas_own(pruner, tmp_path):
    found, ended = search(tmp_path, pruner), {}
    while (trial := found.next()) is not None:
        hook = pruning.Pruner(found.hook(trial, seed_index=0), every=100)
        for point, value in enumerate(curve(trial.number), 1):
            if hook(100 * point, {"accuracy": value, "loss": 1.0}):
                ended[trial.number] = point
                found.tell(trial, state="pruned")
                break
        else:
            found.tell(trial, curve(trial.number)[-1])
    found.close()
    assert ended == expected(pruner)
    assert bool(ended) == (pruner != "none")


@pytest.fixture
def begun(tmp_path):
    """A search with three good trials and one that is running, to be judged by `median`."""
    found = search(tmp_path)
    for _ in range(3):
        trial = found.next()
        hook = pruning.Pruner(found.hook(trial, seed_index=0), every=10)
        for point in range(1, 9):
            assert not hook(10 * point, {"accuracy": 0.9})
        found.tell(trial, 0.9)
    yield found, found.next()
    found.close()


def test_a_restart_changes_nothing(begun):
    found, trial = begun
    settings = found.hook(trial, seed_index=0)
    assert not pruning.Pruner(settings, every=10)(10, {"accuracy": 0.1})
    for _ in range(3):  # killed before it was told, each time
        assert not pruning.Pruner(settings, every=10)(10, {"accuracy": 0.2})
    assert found.study.trials[3].intermediate_values == {1: 0.1}
    for step in (20, 20, 30):  # told to end, and killed: it stays told
        assert pruning.Pruner(settings, every=10)(step, {"accuracy": 0.1})
    assert found.study.trials[3].intermediate_values == {1: 0.1, 2: 0.1}
    assert found.study.trials[3].user_attrs[pruning.PRUNED_AT] == 2
    found.tell(trial, state="pruned")
    assert not pruning.Pruner(settings, every=10)(40, {"accuracy": 0.1})  # told meanwhile


def test_validations_count_whatever_the_steps_between(begun):
    found, trial = begun
    hook = pruning.Pruner(found.hook(trial, seed_index=0), every=10)
    hook(10, {"accuracy": 0.95})
    hook(15, {"accuracy": 0.96})  # a stage ends
    hook(20, {"accuracy": 0.97})
    hook(30, {"accuracy": math.nan})
    assert found.study.trials[3].intermediate_values == {1: 0.95, 2: 0.96}


def test_a_storage_that_is_away_ends_no_run(begun, tmp_path, caplog):
    found, trial = begun
    hook = pruning.Pruner(found.hook(trial, seed_index=0), every=10)
    journal = tmp_path / "optuna.journal"
    journal.rename(tmp_path / "away")
    assert not hook(20, {"accuracy": 0.1})
    assert "was not judged" in caplog.text
    (tmp_path / "away").rename(journal)
    assert hook(30, {"accuracy": 0.1})


def test_only_a_trials_first_run_has_a_pruner(begun, tmp_path):
    found, trial = begun
    assert pruning.hook(tmp_path, every=10) is None
    for index, has in ((0, True), (1, False)):
        settings = found.hook(trial, seed_index=index)
        (tmp_path / pruning.FILE).write_text(json.dumps(settings))
        assert (pruning.hook(tmp_path, every=10) is not None) == has


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_all_ranks_end_at_the_same_validation_with_a_checkpoint(begun, world, tmp_path):
    found, trial = begun
    lines = [
        "dataset=digits",
        "dataset.labels_per_class=4",
        "backbone=timm",
        "backbone.name=test_resnet",
        "backbone.init=none",
        "backbone.image_size=32",
        "trainer=cpu",
        "trainer.epochs=null",
        "trainer.steps=12",
        "trainer.batch_size=8",
        "trainer.eval_every_steps=3",
        "logger=[csv]",
        f"trainer.devices={world}",
    ]
    folder = launching.freeze(lines, runs_dir=tmp_path / "runs")
    (folder / pruning.FILE).write_text(json.dumps(found.hook(trial, seed_index=0)))
    codes = launching.run(folder, world=world)
    assert codes == [1] * world, launching.log(folder)
    for rank in range(world):
        assert "Pruned: pruned at step 6" in launching.log(folder, rank)
    assert json.loads((folder / "record.json").read_text())["status"] == "pruned"
    payload, _ = next(checkpoints.sound(folder / "checkpoints", tag="last"), None)
    assert payload["progress"]["step"] == 6
    assert sorted(found.study.trials[3].intermediate_values) == [1, 2]
    assert found.tell(trial, state="pruned") == "pruned"
    if world == 2:  # the second seed's run is not judged
        other = launching.freeze([*lines, "seed=1"], runs_dir=tmp_path / "runs")
        (other / pruning.FILE).write_text(json.dumps(found.hook(trial, seed_index=1)))
        assert launching.run(other, world=2) == [0, 0], launching.log(other)
    shutil.rmtree(tmp_path / "runs")
