"""No checkpoint is kept that training cannot go on from, and a lost best one costs no run."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import made
from made import small, weights
from tlx.methods import strategies
from tlx.methods.stages import spans
from tlx.training.engine import checkpoints, restart
from tlx.training.engine.course import Selection
from tlx.training.engine.divergence import Diverged
from tlx.training.engine.module import TransferModule

DATA = made.tensors(24, 8)


class Stopped(Exception):
    """Ends a run at a step, as a kill does."""


class At(pl.Callback):
    """Does something before a step, once."""

    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer: Any, module: TransferModule, *_: Any) -> None:
        if module.step == self.step:
            self.what(trainer, module)


@torch.no_grad()
def spoil(trainer: Any, module: TransferModule) -> None:
    module.network.head.linear.weight.mul_(torch.inf)


@torch.no_grad()
def spoil_state(trainer: Any, module: TransferModule) -> None:
    for state in trainer.optimizers[0].state.values():
        state["exp_avg_sq"].fill_(torch.inf)  # no step moves any more, and no loss tells


def stop(trainer: Any, module: TransferModule) -> None:
    raise Stopped


def trained(folder: Path, *callbacks: Any, **more: Any) -> dict[str, Tensor]:
    net, layout = small(norm=True)
    options = {"steps": 24, "eval_every": 6, "checkpoint_every": 1, "final": "best", **more}
    made.train(
        net, layout, strategies.lp_ft(layout, head_steps=9, restore_best=True), DATA, folder,
        callbacks=callbacks, **options,
    )  # fmt: skip
    return weights(net)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return trained(tmp_path_factory.mktemp("calm"))


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, Tensor):
        yield value


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            spoil,
            r"loss is not finite at step 14 \(nan\): lower optimizer\.lr=0\.01",
        ),
        (spoil_state, r"at step 14 optimizer\..*\.exp_avg_sq is not finite, and was not saved"),
    ],
)
def test_only_finite_checkpoints_are_kept(how, says, calm, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=says):
        trained(tmp_path, At(13, how))
    left = checkpoints.found_in(tmp_path / "checkpoints")
    assert [found.step for found in left if found.tag == "last"] == [13, 12]
    for found in left:
        assert all(bool(t.isfinite().all()) for t in tensors(checkpoints.load(found.path)))
    assert same(trained(tmp_path), calm)  # it goes on from step 13


def test_a_checkpoint_of_before_that_is_not_finite_is_passed_over(tmp_path: Path, caplog) -> None:
    good = checkpoints.save(tmp_path, 1, {"w": torch.ones(2)})
    torch.save({"w": torch.tensor([1.0, torch.nan])}, tmp_path / "x")
    digest = checkpoints._digest(tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / f"last-000002-step0000000002-{digest}.pt")
    with caplog.at_level(logging.WARNING):
        found = next(checkpoints.sound(tmp_path, tag="last"), None)
    assert found is not None
    assert found[1] == good
    assert "step0000000002" in caplog.text


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_bad_number_is_found_and_masks_are_no_fault(bad, kind, tmp_path: Path) -> None:
    tensor = torch.zeros(3, 700, dtype=kind)
    payload = {"a": {"n": torch.arange(3), "none": torch.zeros(0)}, "b": [{"mask": tensor}]}
    assert checkpoints.not_finite(payload) is None
    tensor[1, 699] = bad
    assert checkpoints.not_finite(payload) == "b.0.mask"
    with pytest.raises(checkpoints.NotFinite, match=r"b\.0\.mask"):
        checkpoints.save(tmp_path, 1, payload)
    assert list(tmp_path.iterdir()) == []
    checkpoints.save(tmp_path, 1, payload, unusual={"mask"})


@pytest.mark.parametrize("lost", ["the newest", "all", "damaged"])
@pytest.mark.parametrize("step", [6, 13, 21])
def test_a_lost_best_checkpoint_leads_to_the_same_weights(lost, step, calm, tmp_path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, At(step, stop))
    best = checkpoints.found_in(tmp_path / "checkpoints", tag="best")
    for found in best if lost == "all" else best[:1]:
        if lost == "damaged":
            found.path.write_bytes(found.path.read_bytes()[:-9])
        else:
            found.path.unlink()
    assert same(trained(tmp_path), calm)


def saved(folder: Path, tag: checkpoints.Tag, step: int, best: int | None) -> Path:
    progress = {"step": step, "best_step": best, "stage": 0}
    return checkpoints.save(folder, step, {"progress": progress}, tag=tag)


def test_a_run_goes_on_from_where_its_best_weights_are(tmp_path: Path) -> None:
    _, layout = small()
    placed = spans(strategies.full(layout), total_steps=9, steps_per_epoch=3)

    def chosen(final: str) -> tuple[str, bool] | None:
        found = restart.choose(
            tmp_path,
            SimpleNamespace(is_global_zero=True, world_size=1),  # type: ignore[arg-type]
            spans=placed,
            selection=Selection("accuracy", "max", final=final),
            unusual=(),
        )
        return found and (found.path.name, found.best_lost)

    assert chosen("best") is None
    saved(tmp_path, "best", 2, 2)
    one = saved(tmp_path, "last", 2, 2)
    saved(tmp_path, "best", 4, 4).unlink()
    two = saved(tmp_path, "last", 4, 4)
    assert chosen("best") == (two.name, True)  # it holds these weights itself
    two.unlink()
    three = saved(tmp_path, "last", 5, 4)
    assert chosen("best") == (one.name, False)
    assert chosen("last") == (three.name, False)
    shutil.rmtree(tmp_path)
    saved(tmp_path, "last", 5, 4)
    assert chosen("best") is None  # it starts over
