"""Search by ask and tell: samplers, budget, failures, repeatability, on a toy objective."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml

from tlx.config import schema
from tlx.config.places import conf_dir
from tlx.execution import leases
from tlx.sweeps import search, search_claims, search_rules
from tlx.sweeps.search import Search
from tlx.sweeps.search_runs import SearchError, Trial, planned, value_of
from tlx.training.engine import pruning

SPACE = {
    "optimizer.lr": "tag(log, interval(1e-5, 1e-1))",
    "freeze_strategy.k": "range(1, 9)",
    "freeze_strategy": "lp_ft,full,gradual",
}
LOSS = (("val/loss", "min"),)

GP = pytest.param("gp", marks=pytest.mark.slow)  # a trial takes it a second


@pytest.fixture
def opened(tmp_path):
    """Opens searches over one journal, and closes them at the end."""
    made = []

    def new(**given):
        settings = {
            "name": "toy",
            "storage": str(tmp_path / "optuna.journal"),
            "space": SPACE,
            "objectives": LOSS,
            "budget": 12,
            "sampler_options": {"startup_trials": 4},
        }
        made.append(Search(**{**settings, **given}))
        return made[-1]

    yield new
    for found in made:
        found.close()


def toy(params):
    best = {"lp_ft": 0.0, "full": 0.5, "gradual": 1.0}
    return (
        (math.log10(params.get("optimizer.lr", 1e-3)) + 3) ** 2
        + (params.get("freeze_strategy.k", 4) - 4) ** 2 / 16
        + best[params.get("freeze_strategy", "lp_ft")]
    )


def exhaust(found, objective=toy):
    """Works on a search to its end; returns the parameters in order."""
    tried = []
    while (trial := found.next()) is not None:
        tried.append(dict(trial.params))
        found.tell(trial, objective(trial.params))
    return tried


@pytest.mark.parametrize("sampler", ["tpe", GP, "cmaes", "qmc", "random"])
def test_every_sampler_spends_the_budget_within_the_space(opened, sampler):
    found = opened(sampler=sampler)
    tried = exhaust(found)
    assert len(tried) == found.finished() == 12
    assert found.done()
    for params in tried:
        assert list(params) == list(SPACE)
        assert 1e-5 <= params["optimizer.lr"] <= 1e-1
        assert params["freeze_strategy.k"] in range(1, 9)
        assert params["freeze_strategy"] in {"lp_ft", "full", "gradual"}
    assert len({params["optimizer.lr"] for params in tried}) == 12
    (best,) = found.best()
    assert toy(best.params) == min(toy(params) for params in tried)


@pytest.mark.slow
def test_what_learns_beats_what_does_not(opened):
    """On a bowl: the median of the last ten trials, against random search's."""
    space = {"optimizer.lr": "tag(log, interval(1e-9, 1e3))"}
    late = {}
    for sampler in ("tpe", "gp", "cmaes", "random"):
        found = opened(name=sampler, sampler=sampler, space=space, budget=40)
        late[sampler] = sorted(toy(params) for params in exhaust(found)[-10:])[5]
    assert max(late["tpe"], late["gp"], late["cmaes"]) < late["random"] / 4, late


def test_qmc_is_scipys_sobol_sequence(opened):
    from scipy.stats import qmc

    from tlx.sweeps.search_samplers import own_seed

    space = {key: "interval(0, 1)" for key in "abc"}
    found = opened(sampler="qmc", space=space, budget=16, seed=7)
    tried = exhaust(found, lambda params: sum(params.values()))
    expected = qmc.Sobol(3, scramble=True, seed=own_seed(7, -1)).random(16)
    assert np.allclose([list(params.values()) for params in tried], expected)


@pytest.mark.parametrize("fails", [False, True])
def test_grid_takes_every_cell_once(opened, fails):
    space = {"a": "range(3)", "b": "x,y", "c": {"type": "float", "low": 0, "high": 1, "step": 0.5}}
    found = opened(sampler="grid", space=space, budget=1000)
    tried = exhaust(found, lambda params: math.nan if fails and params["a"] == 1 else 1.0)
    assert len(tried) == len({tuple(params.values()) for params in tried}) == 18
    assert found.done()
    assert (found.finished(), found.failed()) == ((12, 6) if fails else (18, 0))


@pytest.mark.parametrize("sampler", [GP, "qmc", "random", "grid"])
def test_two_objectives_work_with(opened, sampler):
    objectives = [("val/accuracy", "max"), ("parameters/trainable", "min")]
    space = {"x": "range(12)", "mode": "a,b"}
    found = opened(space=space, sampler=sampler, objectives=objectives, budget=8)
    assert len(exhaust(found, lambda params: [params["x"], params["x"] ** 2])) == 8


@pytest.mark.parametrize("sampler", ["tpe", GP, "cmaes", "qmc", "random"])
def test_hyperband_goes_with(opened, sampler):
    found = opened(sampler=sampler, pruner="hyperband", budget=8)
    while (trial := found.next()) is not None:
        hook = pruning.Pruner(found.hook(trial, seed_index=0), every=1)
        pruned = any(hook(i, {"loss": toy(trial.params) / i}) for i in range(1, 10))
        found.tell(trial, toy(trial.params), state="pruned" if pruned else "finished")
    assert found.finished() == 8


def test_a_node_of_the_config_opens_a_search(tmp_path):
    node = schema.SearchConfig(space=SPACE, trials=3, pruner="successive_halving")
    found = search.opened(
        node, name="node", folder=tmp_path, monitor=("val/accuracy", "max"), base="abc"
    )
    assert len(exhaust(found)) == 3
    found.close()
    assert (tmp_path / search.JOURNAL).is_file()


@pytest.mark.parametrize("path", sorted(conf_dir().glob("search/*.yaml")), ids=lambda p: p.stem)
def test_options_fit_the_schema(path):
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert node["sampler"] == path.stem in search_rules.SAMPLERS
    assert node.keys() <= {field.name for field in dataclasses.fields(schema.SearchConfig)}


def test_two_objectives_end_in_a_front(opened):
    objectives = [("val/accuracy", "max"), ("parameters/trainable", "min")]
    found = opened(space={"x": "interval(0, 1)"}, objectives=objectives, budget=20)
    while (trial := found.next()) is not None:
        x = trial.params["x"]
        found.tell(trial, [min(x, 0.5), x])  # beyond 0.5 there is only loss
    best = [trial.params["x"] for trial in found.best()]
    inside = [t.params["x"] for t in found.study.trials if t.params["x"] <= 0.5]
    assert sorted(best)[: len(inside)] == sorted(inside)
    assert len(best) <= len(inside) + 1


# -- repeatable -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", GP, "cmaes", "qmc", "random", "grid"])
def test_one_worker_draws_the_same_however_often_it_is_restarted(opened, sampler, tmp_path):
    space = SPACE if sampler != "grid" else {"a": "range(4)", "freeze_strategy": "lp_ft,full"}
    calm = exhaust(opened(sampler=sampler, space=space, seed=5))
    tried = {}
    for restart in range(100):
        storage = str(tmp_path / "restarted.journal")
        found = opened(storage=storage, sampler=sampler, space=space, seed=5)
        if (trial := found.next()) is None:
            break
        assert trial.resumed == (restart % 2 == 1)
        tried[trial.number] = dict(trial.params)
        if trial.resumed:  # else it goes without a word
            found.tell(trial, toy(trial.params))
        found.close()
    assert [tried[number] for number in sorted(tried)] == calm


def test_another_seed_draws_others(opened):
    one, two = (exhaust(opened(name=str(seed), seed=seed)) for seed in range(2))
    assert not {params["optimizer.lr"] for params in one} & {p["optimizer.lr"] for p in two}


# -- claims -----------------------------------------------------------------------------------


def test_no_more_are_begun_than_the_budget_wants(opened):
    first, second = opened(budget=3), opened(budget=3)
    trials = [first.next(), second.next(), first.next()]
    assert {trial.number for trial in trials} == {0, 1, 2}
    assert first.next() is None
    assert second.next() is None
    assert not first.done()
    assert second.tell(trials[1], math.nan) == "failed"
    another = first.next()  # in place of the failed one
    assert another.number == 3
    for trial in (trials[0], trials[2], another):
        first.tell(trial, 1.0)
    assert first.done()
    assert (second.finished(), second.failed()) == (3, 1)


def test_the_trial_of_a_worker_that_is_gone_is_taken_over_as_it_is(opened):
    first, second = opened(), opened()
    begun, other = first.next(), second.next()
    first.close()
    taken = second.next()
    assert taken == Trial(begun.number, begun.params, resumed=True)
    assert second.next().number == 2
    assert second.tell(other, 1.0) == second.tell(taken, 2.0) == "finished"
    assert first.tell(begun, 3.0) == "finished"  # too late; the first word holds
    assert [trial.value for trial in second.study.trials[:2]] == [2.0, 1.0]
    assert second.finished() == 2


def test_a_silent_worker_elsewhere_is_gone_after_a_while(tmp_path):
    place = search_claims.Files(tmp_path / "optuna.journal")
    watch = search_claims.Watch(place, stale_s=0.05)
    far = leases.Holder("elsewhere/pid:[1]", 1, 1, "abc")
    assert watch.gone(far)  # it has never been here
    place.beat("abc", 0)
    assert not watch.gone(far)
    search_claims.time.sleep(0.1)
    assert watch.gone(far)
    place.beat("abc", 1)
    assert not watch.gone(far)
    place.leave("abc")
    assert watch.gone(far)


def test_a_lower_budget_leaves_what_was_begun(opened):
    found = opened(budget=3)
    first = found.next()
    found.next()
    found.tell(first, 1.0)
    found.close()
    lower = opened(budget=1)
    assert lower.next() is None
    assert lower.done()
    higher = opened(budget=2)
    assert higher.next().resumed


def test_trials_that_somebody_else_adds_count_nowhere(opened):
    found = opened(budget=2)
    found.study.enqueue_trial({"optimizer.lr": 0.01})
    found.study.add_trial(optuna.create_trial(value=-1.0))
    found.study.ask()
    exhaust(found)
    assert found.finished() == 2
    assert len(found.trials()) == 2
    assert found.best()[0] in found.trials()
    assert found.done()


def test_another_space_under_the_same_name_is_refused(opened):
    opened()
    with pytest.raises(SearchError, match="another space"):
        opened(space={"optimizer.lr": "interval(0, 1)"})
    with pytest.raises(SearchError, match="another objectives"):
        opened(objectives=[("val/loss", "max")])
    with pytest.raises(SearchError, match="another base"):
        opened(base="dataset=cifar10")
    with pytest.raises(SearchError, match=r"another meaning of its configs .*since: a_mark\)"):
        opened(base=" a_mark")
    opened(budget=99, sampler="random", pruner="median")


def test_a_line_cut_off_by_a_kill_is_taken_away(opened, tmp_path):
    journal = tmp_path / "optuna.journal"
    found = opened(budget=5)
    found.tell(found.next(), 1.0)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker' + b"x" * 9000)
    again = opened(budget=5)
    exhaust(again)
    assert again.finished() == 5
    assert journal.read_bytes().startswith(whole)
    for line in journal.read_text().splitlines():
        json.loads(line)


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failed_trial_and_ends_nothing(opened, value):
    found = opened(budget=3)
    trial = found.next()
    assert found.tell(trial, value) == "failed"
    assert str(value) in found.study.trials[0].user_attrs["reason"]
    exhaust(found)
    assert (found.finished(), found.failed()) == (3, 1)


@pytest.mark.parametrize("damage", [b"\xff\x00\n", b'{"op_code": 4}\n', b"[]\n", b"7\n", b"{\n"])
def test_a_damaged_journal_is_told_by_name_with_the_ways_on(damage, opened, tmp_path):
    path = tmp_path / "optuna.journal"
    exhaust(opened(budget=2))
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:3], damage, *whole[3:]]))
    with pytest.raises(SearchError, match=r"optuna\.journal is damaged.*move it away"):
        opened(budget=2)
    path.rename(tmp_path / "moved")
    assert len(exhaust(opened(budget=2))) == 2


def test_a_search_of_failures_ends(opened):
    found = opened(budget=4)
    assert len(exhaust(found, lambda params: math.nan)) == 4
    assert found.done()
    assert found.finished() == 0
    assert found.best() == []


def test_pruned_trials_count_and_keep_their_last_value(opened):
    found = opened(budget=2)
    trial = found.next()
    key = found.study._storage.get_all_trials(0)[0]._trial_id
    found.study._storage.set_trial_intermediate_value(key, 1, 0.25)
    assert found.tell(trial, state="pruned") == "pruned"
    assert found.study.trials[0].value == 0.25
    assert found.finished() == 1


def test_the_number_of_values_must_fit(opened):
    found = opened()
    with pytest.raises(ValueError, match="give one each of val/loss"):
        found.tell(found.next(), [1.0, 2.0])


# -- runs -------------------------------------------------------------------------------------


def test_a_trials_runs_differ_in_their_seeds(opened):
    trial = Trial(3, {"optimizer.lr": 1e-05, "freeze_strategy": "lp_ft"})
    lines = planned(trial, base=["dataset=digits"], seeds=[0, 1])
    same = ["dataset=digits", "optimizer.lr=1e-05", "freeze_strategy=lp_ft"]
    assert lines == [[*same, "seed=0"], [*same, "seed=1"]]


def record(value, *, trainable=7, status="finished"):
    figure = SimpleNamespace(value=value)
    return SimpleNamespace(
        run="r",
        status=status,
        splits={"val": SimpleNamespace(metrics={"accuracy": figure})},
        parameters=SimpleNamespace(trainable=trainable, total=9),
        selected=SimpleNamespace(monitor="val/special", value=2 * value),
        wall_s=3.0,
    )


def test_the_value_of_a_trial_is_the_mean_over_its_runs():
    objectives = [("val/accuracy", "max"), ("parameters/trainable", "min"), ("wall_s", "min")]
    runs = [record(0.5), record(0.75)]
    assert value_of(runs, objectives) == (0.625, 7.0, 3.0)
    assert value_of(runs, [("val/special", "max")]) == (1.25,)
    broken = value_of([record(0.5), record(0.1, status="failed")], objectives)
    assert all(math.isnan(value) for value in broken)
    with pytest.raises(SearchError, match="val/acuracy"):
        value_of(runs, [("val/acuracy", "max")])


METRICS = {"accuracy": "max", "loss": "min"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"objectives": {"test/accuracy": "max"}}, "is no test"),
        ({"objectives": {"ood/accuracy": "max"}}, "validation only"),
        ({"objectives": {"val/acuracy": "max"}}, "did you mean 'val/accuracy'"),
        ({"objectives": {"accuracy": "max"}}, "did you mean 'val/accuracy'"),
        ({"objectives": {"parameters/trained": "min"}}, "did you mean 'parameters/trainable'"),
        ({"objectives": {"val/accuracy": "min"}}, "better at its max"),
        ({"objectives": {"val/accuracy": "up"}}, "give max or min"),
        ({"sampler": "tpee"}, "did you mean 'tpe'"),
        ({"pruner": "hyperbond"}, "did you mean 'hyperband'"),
        ({"space": {}}, "is empty"),
        ({"sampler": "grid"}, "no end of values"),
        ({"storage": "postgres://host/db"}, "postgresql+psycopg://host/db"),
        ({"storage": "postgresql+psycopg://me:secret@host/db"}, "PGPASSWORD"),
        ({"storage": "study.db"}, "NAME.journal"),
        ({"objectives": {"wall_s": "min"}, "pruner": "median"}, "at a run's end only"),
        (
            {"objectives": {"val/accuracy": "max", "wall_s": "min"}, "pruner": "median"},
            "several objectives",
        ),
        (
            {"objectives": {"val/accuracy": "max", "wall_s": "min"}, "sampler": "cmaes"},
            "one objective",
        ),
    ],
)
def test_what_cannot_be_searched_is_told_before(change, part):
    node = {"space": {"optimizer.lr": "interval(1e-5, 1e-1)"}, "sampler": "tpe", "pruner": "none"}
    assert search_rules.problems(node, metrics=METRICS) == []
    (problem,) = search_rules.problems({**node, **change}, metrics=METRICS)
    assert part in str(problem)
    assert "secret" not in str(problem)


def test_optuna_opens_the_journal_by_its_own_means(opened, tmp_path):
    found = opened(budget=3)
    exhaust(found)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / search.JOURNAL))
    study = optuna.load_study(study_name="toy", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 3
    assert study.metric_names == ["val/loss"]


def test_sqlite_holds_a_search_too(opened, tmp_path):
    found = opened(storage=f"sqlite:///{tmp_path / 'search.db'}", budget=6)
    assert exhaust(found) == exhaust(opened(budget=6))
