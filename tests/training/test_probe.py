"""A solved head in a run: scikit-learn's accuracy on the same features, and a whole record."""

import csv
import json
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from tlx.base.ends import Interrupted
from tlx.building import plans
from tlx.config import changes
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.config.identity import normalise, run_id
from tlx.config.run import typed
from tlx.execution import execute, runs
from tlx.methods.probes import Solution
from tlx.training.engine import solve as probe
from tlx.training.engine.course import Course, Selection
from tlx.training.engine.signals import StopFlag
from tlx.training.loaders import RankShare
from tlx.training.logs.progress import Display
from tlx.training.optimizers import lbfgs
from tlx.training.reuse import fixed
from tlx.training.session import STORE, Session

BASE = [
    *("dataset=digits", "backbone=timm", "backbone.name=test_resnet", "backbone.init=none"),
    *("backbone.image_size=32", "trainer=cpu"),
    *("freeze_strategy=linear_probe", "optimizer=lbfgs"),
]

TFIDF = [
    "trainer=cpu",
    "freeze_strategy=linear_probe",
    "optimizer=lbfgs",
    "optimizer.tolerance=1e-4",
]


# 27 images to test on: on hundreds of them a run spends most of its time
FEW = [
    *("dataset.labels_per_class=8", "dataset.classes=[0,1,2]"),
    *("dataset.folds=20", "dataset.fold=0"),
]


@pytest.fixture(autouse=True)
def _as_before():
    """A run sets torch's determinism."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(before, warn_only=warned)


def run(folder, *overrides):
    config = compose([*BASE, *overrides, f"runs_dir={folder}"])
    return execute.run(config), folder / run_id(normalise(config)), config


def features_of(config, plan):
    """Features and targets of each split, computed with the plain network."""
    network = plan.model.network.eval()
    found = {}
    for name in ("train", "val", "test"):
        loader = plan.eval_loader(getattr(plan.splits, name), RankShare())
        with torch.no_grad():
            parts = [(network.with_features(b["input"])[0].pooled, b["target"]) for b in loader]
        found[name] = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
    return found


def test_accuracy_equals_sklearns_on_the_same_features(tmp_path):
    penalties = [1e-4, 1e-6, 1e-5]
    made, folder, config = run(
        tmp_path, f"optimizer.penalties={penalties}", "optimizer.tolerance=1e-6"
    )
    found = features_of(config, plans.plan(typed(config), init="none"))
    chosen = made.notes["lbfgs"]
    features, targets = found["train"]
    solver = LogisticRegression(
        C=1 / (chosen["penalty"] * len(targets)), tol=1e-8, max_iter=1000, solver="newton-cholesky"
    ).fit(features.astype(np.float64), targets)
    for split in ("val", "test"):
        assert made.splits[split].metrics["accuracy"].value == solver.score(*found[split])
    weights = load_file(folder / runs.WEIGHTS)
    scale = np.abs(solver.coef_).max()
    np.testing.assert_allclose(
        weights["head.linear.weight"], solver.coef_, rtol=0, atol=1e-4 * scale
    )
    with open(folder / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    expected = solver.predict_proba(found["test"][0].astype(np.float64))
    names = json.loads(lines[0]["probabilities"])
    mine = [[json.loads(line["probabilities"])[name] for name in sorted(names)] for line in lines]
    np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-4)


def test_the_record_tells_how_it_went(tmp_path):
    path = ["optimizer.penalties=[1e-4,1e-6,1e-5]", "optimizer.extend=false"]
    made, folder, _ = run(tmp_path, *path)
    (stage,) = made.stages
    assert (stage.name, stage.ended_by, stage.boundary) == ("head", "convergence", "backbone")
    assert stage.end == made.used_steps <= made.budget_steps
    assert (stage.computed, stage.reused) == (808 + 270, 0)
    assert made.cached
    assert made.notes["lbfgs"]["penalties"] == [1e-4, 1e-5, 1e-6]
    assert made.notes["lbfgs"]["error"] <= 0.01
    assert made.selected.step == made.used_steps
    assert made.selected.value == made.splits["val"].metrics["accuracy"].value
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    along = [float(row["train/penalty"]) for row in rows]
    assert along[:3] == [1e-4, 1e-5, 1e-6]
    assert along[-1] == made.notes["lbfgs"]["penalty"]
    losses = [float(row["train/loss"]) for row in rows]
    assert losses[0] > losses[1] > losses[2]
    solved = rows[3:]  # to the end, the chosen one last
    assert float(solved[-1]["val/accuracy"]) == max(float(row["val/accuracy"]) for row in solved)
    assert not list(folder.glob("checkpoints/*"))
    again, _, _ = run(tmp_path, "optimizer.penalties=[1e-5]")
    assert (again.stages[0].computed, again.stages[0].reused) == (0, 808 + 270)


def test_tfidf_stays_sparse_and_is_sklearns(tmp_path, monkeypatch):
    words = ["dataset=stdlib_docs", "dataset.labels_per_class=20", "backbone=tfidf"]
    config = compose(
        [
            *TFIDF,
            *words,
            "backbone.features=300",
            "optimizer.penalties=[1e-4]",
            f"runs_dir={tmp_path}",
        ]
    )
    install = StopFlag.install
    with monkeypatch.context() as patch:  # a signal is heeded before all vectors are made
        patch.setattr(StopFlag, "install", lambda flag: signalled(install, flag))
        patch.setattr(fixed, "Sparse", None)
        with pytest.raises(Interrupted, match="after 0 passes"):
            execute.run(config)
    made = execute.run(config)
    assert not list((tmp_path / STORE).rglob("*.*"))  # no dense row is stored
    (stage,) = made.stages
    plan = plans.plan(typed(config), init="none")
    assert (stage.boundary, stage.computed) == (
        "backbone",
        len(plan.splits.train) + len(plan.splits.val),
    )
    found = features_of(config, plan)
    features, targets = found["train"]
    classes = 1 + targets.max()
    penalty = made.notes["lbfgs"]["penalty"]
    strength = (1 if classes > 2 else 2) / (penalty * len(targets))
    solver = LogisticRegression(C=strength, tol=1e-6, max_iter=1000).fit(features, targets)
    for split in ("val", "test"):
        value = made.splits[split].metrics["accuracy"].value
        assert value == pytest.approx(solver.score(*found[split]), abs=0.005)


def test_the_same_twice_is_the_same(tmp_path):
    few = [*FEW, "optimizer.penalties=[1e-5]"]
    first, one, _ = run(tmp_path / "a", *few)
    second, other, _ = run(tmp_path / "b", *few)
    assert first.splits["test"].metrics == second.splits["test"].metrics
    weights, twin = (load_file(folder / runs.WEIGHTS) for folder in (one, other))
    assert all(torch.equal(weights[name], twin[name]) for name in weights)


def test_smoothing_is_part_of_the_loss(tmp_path):
    few = [*FEW, "optimizer.penalties=[1e-6]"]
    sharp, _, _ = run(tmp_path, *few)
    smooth, _, _ = run(tmp_path, *few, "regularization=[label_smoothing]")
    assert smooth.stages[0].ended_by == "convergence"
    assert smooth.splits["test"].metrics["ece"] != sharp.splits["test"].metrics["ece"]


@pytest.mark.parametrize("final", ["best", "last"])
def test_a_single_penalty_is_solved_once(final, tmp_path):
    made, folder, _ = run(
        tmp_path,
        *(*FEW, "optimizer.penalties=[1e-5]", f"final_weights={final}"),
    )
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2
    assert made.notes["lbfgs"]["penalty"] == 1e-5


def test_it_says_where_it_has_not_converged(tmp_path, capsys):
    made, _, _ = run(
        tmp_path,
        *(*FEW, "optimizer.penalties=[1e-7,1e-8]"),
        *("optimizer.most_iterations=1", "optimizer.extend=false"),
    )
    said = capsys.readouterr().out
    assert "raise optimizer.most_iterations" in said
    assert "that were tried; a wider range of optimizer.penalties may be better" in said
    assert made.stages[0].ended_by == "budget"
    assert not made.notes["lbfgs"]["converged"]


def signalled(install, flag):
    """Takes over signals, and receives one."""
    install(flag)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_stops_it_and_features_stay(tmp_path, monkeypatch):
    few = [*FEW, "optimizer.penalties=[1e-5]"]

    install = StopFlag.install
    with monkeypatch.context() as patch:
        patch.setattr(StopFlag, "install", lambda flag: signalled(install, flag))
        with pytest.raises(Interrupted, match="solves again"):
            run(tmp_path, *few)
    made, _, _ = run(tmp_path, *few)
    assert made.stages[0].computed == 0
    assert made.stages[0].reused > 0


def test_weaker_penalties_are_left_out_when_validation_has_turned(tmp_path):
    """Not before: far too strong ones all give the same accuracy, but not the same loss."""
    penalties = [10.0**-power for power in range(-4, 13)]
    few = ["dataset.labels_per_class=10", "optimizer.most_iterations=200"]
    made, _, _ = run(tmp_path, *few, f"optimizer.penalties={penalties}")
    tried = made.notes["lbfgs"]["penalties"]
    assert tried == penalties[: len(tried)]
    assert 4 <= penalties.index(made.notes["lbfgs"]["penalty"]) < len(tried) < len(penalties)
    whole, _, _ = run(tmp_path, *few, f"optimizer.penalties={penalties}", "optimizer.patience=null")
    assert whole.notes["lbfgs"]["penalties"] == penalties


class Solved:
    """A problem whose solution for a penalty is the penalty; `starts` tells from which it began."""

    def __init__(self):
        self.starts = {}

    def solve(self, penalty, *, start, tolerance, most_iterations):
        self.starts.setdefault(penalty, None if start is None else start.penalty)
        nothing = torch.zeros(0)
        return Solution(nothing, nothing, penalty, passes=1, error=tolerance, converged=True)


def chosen(figures, *, metric="accuracy", mode="max", **options):
    """The penalty that is chosen, those that were tried, and the step of the best validation.

    Args:
        figures: from a penalty's power of ten to accuracy and loss on validation.
        metric: monitored.
        mode: of it.
        options: of lbfgs.
    """
    exact = lbfgs(**{"penalties": [1.0, 0.1, 0.01], "patience": None, **options})
    course = Course((), pace=probe.pace(exact, 9), selection=Selection(metric, mode))
    problem = Solved()
    best, tried = probe.choose(
        problem,
        exact,
        course=course,
        judge=lambda found: dict(
            zip(("accuracy", "loss"), figures(math.log10(found.penalty)), strict=True)
        ),
    )
    assert course.progress.step <= exact.most_passes
    return best.penalty, [round(math.log10(each)) for each in tried], problem.starts


def test_of_equal_figures_the_lower_loss_counts():
    best, tried, _ = chosen(lambda power: (0.9, abs(power + 1)))
    assert (best, tried) == (0.1, [0, -1, -2])
    best, _, _ = chosen(lambda power: (0.9 - (power < -1), power))
    assert best == 0.1, "a worse figure is not mended by a lower loss"


@pytest.mark.parametrize(
    ("optimum", "tried"),
    [(3, [0, -1, -2, 1, 2, 3, 4]), (-4, [0, -1, -2, -3, -4, -5]), (-1, [0, -1, -2])],
)
def test_the_path_goes_on_while_its_end_is_the_best(optimum, tried):
    best, found, starts = chosen(lambda power: (1 - abs(power - optimum), 0.0))
    assert best == pytest.approx(10.0**optimum)
    assert found == tried
    if optimum == 3:
        assert starts[10.0] == 1.0, "beyond the strongest it starts from the strongest"
    assert chosen(lambda power: (1 - abs(power - optimum), 0.0), extend=False)[1] == [0, -1, -2]


def test_what_rough_solutions_hide_is_found():
    """Roughly solved, the strongest has the lower loss; at its optimum the next one has."""
    exact = lbfgs(penalties=[1.0, 0.1, 0.01], patience=None)
    course = Course((), pace=probe.pace(exact, 9), selection=Selection("accuracy", "max"))

    def judge(found):
        power = math.log10(found.penalty)
        rough = found.error > exact.tolerance
        return {"accuracy": 0.9, "loss": -power if rough else abs(power + 2)}

    best, tried = probe.choose(Solved(), exact, course=course, judge=judge)
    assert best.penalty == 0.01
    assert best.error == exact.tolerance
    assert [round(math.log10(each)) for each in tried] == [0, -1, -2, 1, -3]


def test_a_path_without_an_optimum_ends():
    _, tried, _ = chosen(lambda power: (0.5, -power), metric="loss", mode="min")
    assert tried == [0, -1, -2, *range(1, 13)]


def test_a_single_penalty_stays_alone():
    assert chosen(lambda power: (power, power), penalties=[1.0])[:2] == (1.0, [0])


@pytest.mark.parametrize(
    ("overrides", "concerned"),
    [
        (["optimizer=lbfgs", "freeze_strategy=linear_probe"], True),
        ([*BASE[-2:], "optimizer.penalties=[0.1]"], False),
        (["optimizer=adamw"], False),
    ],
)
def test_only_paths_have_got_a_new_id(overrides, concerned):
    assert ("penalty_path" in changes.marks(compose(overrides))) == concerned


REFUSED = {
    "freeze_strategy": "freeze_strategy=last_layer",
    "regularization.weight_decay": "regularization=[weight_decay]",
    "regularization.ema": "regularization=[ema]",
    "regularization.l2_sp": "regularization=[l2_sp]",
    "regularization.early_stopping": "regularization=[early_stopping]",
    "regularization.dropout": "regularization=[label_smoothing,dropout]",
    "augmentation.standard": "augmentation=[standard]",
    "augmentation.mixup": "augmentation=[mixup]",
    "schedule": "schedule=cosine",
    "schedule.warmup_steps": "schedule.warmup_steps=3",
    "cache": "cache=off",
    "frozen.dropout": "frozen.dropout=on",
    "frozen.norm_stats": "frozen.norm_stats=train",
    "frozen.norm_affine": "frozen.norm_affine=train",
    "frozen.embeddings": "frozen.embeddings=train",
    "trainer.devices": "trainer.devices=2",
    "trainer.accumulate": "trainer.accumulate=2",
    "trainer.compile": "trainer.compile=true",
    "final_weights": "final_weights=last",
    "optimizer.penalties": "optimizer.penalties=[0.1,0.1]",
    "optimizer.tolerance": "optimizer.tolerance=0",
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_would_be_ignored_is_refused(place):
    with pytest.raises(CheckError) as found:
        compose([*BASE, REFUSED[place]])
    assert [problem.place for problem in found.value.problems] == [place]


def test_other_optimizers_are_left_alone():
    compose(["freeze_strategy=full", "augmentation=[standard]", "schedule=linear", "cache=off"])


def test_more_than_a_linear_head_is_refused_before_anything_is_solved(tmp_path):
    """Where the config cannot tell."""
    config = compose([*BASE, *FEW, f"runs_dir={tmp_path}"])
    plan = plans.plan(typed(config), init="none")
    (span,) = plan.spans
    more = {**span.stage.trains, "backbone.conv1.0.weight": 1.0}
    wider = replace(span, stage=replace(span.stage, trains=more))
    session = Session(tmp_path, plan, RankShare())
    assert session.reuse is not None
    with pytest.raises(ValueError, match=r"backbone\.conv1\.0\.weight.*linear_probe"):
        probe.solve(
            session.trainer,
            session.module,
            exact=plan.procedure.exact,
            course=Course((wider,), pace=plan.pace, selection=plan.selection),
            reuse=session.reuse,
            display=Display(total_steps=1, stages=["head"], metric="accuracy", silent=True),
        )
