"""Stages, selection, averaging, accumulation and divergence, through the real loop."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import made
from made import small, weights
from tlx.base.ends import Interrupted
from tlx.data.splits import Labels
from tlx.methods import strategies
from tlx.methods.penalties import l2_sp
from tlx.methods.schedules import cosine
from tlx.methods.stages import Stage, Until, spans
from tlx.tasks.classification import classification
from tlx.training.effects import Effects, Penalty, Regularization, Stopping
from tlx.training.engine.course import Course, Pace, Selection
from tlx.training.engine.divergence import Diverged
from tlx.training.engine.fit import Conductor
from tlx.training.engine.module import TransferModule
from tlx.training.regularization import ema

DATA = made.tensors(24, 8)


def test_accumulation_equals_the_whole_batch(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 2, 4):
        net, layout = small()
        sgd = lambda groups: torch.optim.SGD(groups, lr=0.05)  # noqa: E731
        made.train(
            net, layout, strategies.full(layout), DATA, tmp_path / str(accumulate), steps=30,
            batch_size=8, accumulate=accumulate, optimizer=sgd, lr=0.05,
        )  # fmt: skip
        found.append(weights(net))
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, atol=1e-5, rtol=0)


def test_a_plateau_hands_its_rest_to_the_next_stage(tmp_path: Path) -> None:
    net, layout = small()
    stages = strategies.lp_ft(layout, head_fraction=0.5)
    stuck = replace(stages[0], until=Until(fraction=0.5, plateau=2))
    nothing = lambda groups: torch.optim.SGD(groups, lr=0.0)  # noqa: E731
    _, progress = made.train(
        net, layout, (stuck, stages[1]), DATA, tmp_path, steps=40, eval_every=4,
        optimizer=nothing, lr=0.0,
    )  # fmt: skip
    first, second = progress.stages
    assert (first.ended_by, first.end) == ("plateau", 12)
    assert (second.ended_by, second.start, second.end) == ("budget", 12, 40)


def test_early_stopping_ends_the_run_and_patience_starts_anew(tmp_path: Path) -> None:
    net, layout = small()
    nothing = lambda groups: torch.optim.SGD(groups, lr=0.0)  # noqa: E731
    head, rest = strategies.lp_ft(layout, head_steps=8)
    _, progress = made.train(
        net, layout, (head, rest), DATA, tmp_path, steps=40, eval_every=4, optimizer=nothing,
        lr=0.0, early_stopping=Stopping(patience=3, min_delta=0.0),
    )  # fmt: skip
    # Two validations in the first stage, the second waiting; anew in the second: 1 + 3 more.
    assert [s.ended_by for s in progress.stages] == ["budget", "early_stopping"]
    assert progress.step == 8 + 4 * 4


def test_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    net, layout = small()
    seen: dict[int, dict[str, Tensor]] = {}
    values: dict[int, float] = {}

    class Watch(pl.Callback):
        def on_validation_start(self, trainer: Any, module: TransferModule) -> None:
            seen[module.step] = weights(module.network)

    metrics = classification(Labels("single", ("a", "b", "c"))).metrics

    module, progress = made.train(
        net, layout, strategies.full(layout), DATA, tmp_path, steps=40, eval_every=4,
        callbacks=[Watch()], final="best", lr=0.05,
        optimizer=lambda g: torch.optim.SGD(g, lr=0.05),
    )  # fmt: skip
    final = weights(module.network)
    for step, state in seen.items():
        net.load_state_dict(state)
        net.eval()
        with torch.no_grad():
            logits = net(DATA.inputs)
        right = {"logits": logits, "target": torch.tensor(DATA.targets)}
        values[step] = metrics(right)["accuracy"]
    best = max(values, key=lambda step: (values[step], -step))
    assert progress.best_step == best
    assert progress.best_value == pytest.approx(values[best])
    assert all(torch.equal(final[name], seen[best][name]) for name in final)
    assert not all(torch.equal(final[name], seen[40][name]) for name in final)


# -- stages: the head alone does best, as it often does where labels are few -----------------------

FALLS = {4: 0.7, 8: 0.9, 12: 0.8, 16: 0.4, 20: 0.6, 24: 0.5}


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Tensor]]:
    """Validations give FALLS; the weights of each validation, by step."""
    seen: dict[int, dict[str, Tensor]] = {}

    def judged(self: Conductor, collected: Any) -> tuple[dict[str, float], bool]:
        seen[self.progress.step] = weights(self.module.network)
        return {"loss": 1.0, "accuracy": FALLS[self.progress.step]}, False

    monkeypatch.setattr(Conductor, "_judged", judged)
    return seen


def staged(folder: Path, *, restore_best: bool = False, **options: Any) -> Any:
    """Three stages of 12, 4 and 8 steps: of 3, 1 and 2 validations."""
    net, layout = small()
    head, *_ = strategies.full(layout)
    parts = [(layout.groups[2:], 12), (layout.groups[1:], 4), (layout.groups, None)]
    stages = [
        replace(
            head,
            name=f"stage {number}",
            trains={name: 1.0 for group in groups for name in group.parameters},
            until=Until(steps=steps),
            restore_best=restore_best,
        )
        for number, (groups, steps) in enumerate(parts)
    ]
    return made.train(
        net, layout, stages, DATA, folder, steps=24, eval_every=4, final="best", **options
    )


@pytest.mark.parametrize(("select_from", "step"), [("last_stage", 20), ("run", 8)])
def test_the_best_is_looked_for_in_the_last_stage(
    select_from: str, step: int, falling: dict[int, dict[str, Tensor]], tmp_path: Path
) -> None:
    module, progress = staged(tmp_path, select_from=select_from)
    assert (progress.best_step, progress.best_value) == (step, FALLS[step])
    final = weights(module.network)
    assert all(torch.equal(final[name], seen) for name, seen in falling[step].items())


@pytest.mark.parametrize(("select_from", "before"), [("last_stage", 16), ("run", 8)])
def test_a_stage_starts_from_the_best_of_the_stage_before(
    select_from: str,
    before: int,
    falling: dict[int, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = []
    enter = Conductor.enter_stage

    def watched(self: Conductor) -> None:
        starts.append(weights(self.module.network))
        enter(self)

    monkeypatch.setattr(Conductor, "enter_stage", watched)
    staged(tmp_path, restore_best=True, select_from=select_from)
    for start, step in zip(starts[1:], (8, before), strict=True):
        assert all(torch.equal(start[name], seen) for name, seen in falling[step].items())


@pytest.mark.parametrize("save", [3, 5])
def test_runs_that_are_killed_again_and_again_keep_the_same_best(
    save: int, falling: dict[int, dict[str, Tensor]], tmp_path: Path, monkeypatch: Any
) -> None:
    """Between a validation, whose best is written, and the checkpoint that knows of it."""
    calm, _ = staged(tmp_path / "calm", restore_best=True)
    saves, real = iter(range(99)), Conductor._save

    def killed(self: Conductor, trainer: Any) -> None:
        if self.progress.step == 4 * (save + 1) and next(saves) < 3:
            raise KeyboardInterrupt
        real(self, trainer)

    monkeypatch.setattr(Conductor, "_save", killed)
    for _ in range(3):
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            staged(tmp_path / "killed", restore_best=True)
    again, progress = staged(tmp_path / "killed", restore_best=True)
    assert progress.best_step == 20
    final = weights(again.network)
    assert all(torch.equal(final[name], w) for name, w in weights(calm.network).items())


def test_one_stage_has_the_same_best_either_way(
    falling: dict[int, dict[str, Tensor]], tmp_path: Path
) -> None:
    best = []
    for select_from in ("last_stage", "run"):
        net, layout = small()
        _, progress = made.train(
            net, layout, strategies.full(layout), DATA, tmp_path / select_from, steps=24,
            eval_every=4, final="best", select_from=select_from,
        )  # fmt: skip
        best.append(progress.best_step)
    assert best == [8, 8]


def test_a_last_stage_that_is_shorter_than_the_interval_is_validated(tmp_path: Path) -> None:
    net, layout = small()
    _, progress = made.train(
        net, layout, strategies.lp_ft(layout, head_steps=19), DATA, tmp_path, steps=20,
        eval_every=7, final="best",
    )  # fmt: skip
    assert progress.best_step == 20


def test_early_stopping_in_a_stage_keeps_the_best_of_that_stage() -> None:
    stages = [Stage("head", {"w": 1.0}, Until(steps=8)), Stage("all", {"w": 1.0})]
    selection = Selection("accuracy", "max", early_stopping=Stopping(2, 0.0))
    course = Course(
        spans(stages, total_steps=40, steps_per_epoch=4), pace=Pace(40, 4, 1, 4),
        selection=selection,
    )  # fmt: skip
    values = iter([0.9, 0.95, 0.5, 0.6, 0.55, 0.55])
    while not course.over:
        course.enter_stage()
        while not course.progress.stage_over:
            course.progress.step = course.segment_end()
            value = next(values)
            course.select(value)
            course.decide(value)
        course.leave_stage({"w": 1})
    assert [stage.ended_by for stage in course.progress.stages] == ["budget", "early_stopping"]
    assert (course.progress.best_step, course.progress.best_value) == (16, 0.6)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.99])
def test_ema_never_validates_or_keeps_initial_weights(start: float, tmp_path: Path) -> None:
    net, layout = small()
    before = weights(net)
    validated: list[bool] = []

    class Watch(pl.Callback):
        def on_validation_batch_start(self, trainer: Any, module: TransferModule, *_: Any) -> None:
            now = module.network.state_dict()
            validated.append(all(torch.equal(now[n], before[n]) for n in before))

    module, _ = made.train(
        net, layout, strategies.full(layout), DATA, tmp_path, steps=20, eval_every=4,
        callbacks=[Watch()], averaging=ema(decay=0.9, start_fraction=start).parts[0],
    )  # fmt: skip
    assert validated
    assert not any(validated)
    assert not all(torch.equal(module.network.state_dict()[n], before[n]) for n in before)


def test_ema_is_the_average_of_the_steps(tmp_path: Path) -> None:
    net, layout = small()
    steps: list[dict[str, Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: TransferModule, *_: Any) -> None:
            steps.append(weights(module.network))

    module, _ = made.train(
        net, layout, strategies.full(layout), DATA, tmp_path, steps=12,
        callbacks=[Watch()], averaging=ema(decay=0.5).parts[0],
    )  # fmt: skip
    average = steps[0]
    for update, state in enumerate(steps[1:]):
        decay = min(0.5, (1 + update) / (10 + update))
        average = {n: average[n] * decay + state[n] * (1 - decay) for n in average}
    for name, value in average.items():
        torch.testing.assert_close(module.network.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_carried_state_is_that_of_the_stage_before(tmp_path: Path) -> None:
    """`previous` keeps the head's moments, `none` starts them anew; step counts tell."""
    counts: dict[str, dict[str, float]] = {}
    for carry in ("previous", "none", "all"):
        net, layout = small()
        a = Stage("head", dict.fromkeys(layout.head.parameters, 1.0), Until(steps=5))
        b = Stage("stem", dict.fromkeys(layout.groups[0].parameters, 1.0), Until(steps=5))
        c = Stage("both", {**a.trains, **b.trains})

        class Watch(pl.Callback):
            carried = carry

            def on_train_end(self, trainer: Any, module: TransferModule) -> None:
                optimizer = trainer.optimizers[0]
                counts[self.carried] = {
                    name: float(optimizer.state[p]["step"])
                    for g in optimizer.param_groups
                    for name, p in zip(g["names"], g["params"], strict=True)
                }

        made.train(
            net, layout, (a, b, c), DATA, tmp_path / carry, steps=14, carry=carry,
            callbacks=[Watch()],
        )  # fmt: skip
    head, stem = "head.linear.weight", "backbone.0.weight"
    assert (counts["previous"][head], counts["previous"][stem]) == (4, 9)
    assert (counts["none"][head], counts["none"][stem]) == (4, 4)
    assert (counts["all"][head], counts["all"][stem]) == (9, 9)


def test_learning_rates_are_base_times_scale_times_schedule(tmp_path: Path) -> None:
    net, layout = small()
    stages = strategies.discriminative(layout, decay=2.0)
    seen: list[tuple[int, dict[str, float]]] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, module: TransferModule, opt: Any) -> None:
            rates = {n: g["lr"] for g in opt.param_groups for n in g["names"]}
            seen.append((module.step, rates))

    made.train(
        net, layout, stages, DATA, tmp_path, steps=20, callbacks=[Watch()], lr=0.01,
        schedule=cosine(warmup_steps=4),
    )  # fmt: skip
    factor = cosine(warmup_steps=4).factor
    for step, rates in seen:
        for group in layout.groups:
            scale = 2.0 ** (group.level - 2)
            for name in group.parameters:
                assert rates[name] == pytest.approx(0.01 * scale * factor(step, 20), rel=1e-9)


def test_l2_sp_equals_its_formula_by_hand(tmp_path: Path) -> None:
    alpha, beta = 0.1, 0.05

    def penalty(step: Any) -> Tensor:
        named = dict(step.network.named_parameters())
        trunk = {n: named[n] for n in step.anchor}
        heads = [p for n, p in named.items() if n.startswith("head.")]
        return l2_sp(trunk, step.anchor, heads, alpha=alpha, beta=beta)

    net, layout = small()
    start = weights(net)
    anchor = {n: t for n, t in start.items() if n.startswith("backbone.")}
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.05)  # noqa: E731
    module, _ = made.train(
        net, layout, strategies.full(layout), DATA, tmp_path, steps=6, batch_size=24,
        effects=Regularization({"l2_sp": Effects(Penalty(penalty))}), anchor=anchor,
        optimizer=sgd, lr=0.05,
    )  # fmt: skip
    by_hand, _ = small()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05)
    targets = torch.tensor(DATA.targets)
    for _ in range(6):
        loss = nn.functional.cross_entropy(by_hand(DATA.inputs), targets)
        for name, p in by_hand.named_parameters():
            pull = p if name.startswith("head.") else p - start[name]
            loss = loss + (beta if name.startswith("head.") else alpha) / 2 * pull.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(module.network.state_dict()[name], value, atol=1e-5, rtol=0)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    net, layout = small()
    with pytest.raises(Diverged, match=r"lower optimizer\.lr"):
        made.train(
            net, layout, strategies.full(layout), DATA, tmp_path, steps=40, lr=1e30,
            optimizer=lambda g: torch.optim.SGD(g, lr=1e30),
        )  # fmt: skip


def test_a_signal_stops_at_a_step_and_the_run_goes_on_bit_identically(tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: TransferModule, *_: Any) -> None:
            if module.step == 13:
                os.kill(os.getpid(), signal.SIGTERM)

    results: list[Mapping[str, Tensor]] = []
    for folder, callbacks in (("calm", []), ("stopped", [Stop()])):
        net, layout = small(norm=True)
        stages = strategies.gradual(layout, every_steps=9)
        again = {"steps": 30, "eval_every": 6}
        if callbacks:
            with pytest.raises(Interrupted, match="step 14"):
                made.train(
                    net, layout, stages, DATA, tmp_path / folder, callbacks=callbacks, **again
                )
            net, layout = small(norm=True)
        module, _ = made.train(net, layout, stages, DATA, tmp_path / folder, **again)
        results.append(weights(module.network))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    net, layout = small()
    made.train(net, layout, strategies.full(layout), DATA, tmp_path, steps=4)
    from tlx.training.engine import checkpoints

    payload, _ = next(checkpoints.sound(tmp_path / "checkpoints", tag="last"), None) or ({}, None)
    payload["identity"] = {"run": "another"}
    checkpoints.save(tmp_path / "checkpoints", 4, payload)
    net, layout = small()
    with pytest.raises(ValueError, match="belongs to"):
        made.train(net, layout, strategies.full(layout), DATA, tmp_path, steps=8)
