"""An update of the gradient that is made here: sharpness-aware minimisation, by hand and by tlx."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

import made
from tlx.backbones.backbone import Features
from tlx.base.ends import Interrupted
from tlx.methods import strategies
from tlx.methods.order import Order, step_seed
from tlx.methods.stages import Group, Layout
from tlx.tasks.task import Network
from tlx.training.effects import Effects, Penalty, Regularization, Setting, Update
from tlx.training.engine.module import TransferModule
from tlx.training.regularization import weight_decay

DATA = made.tensors(24, 8)
RATE, RHO = 0.1, 0.05


def sharpness_aware(terms: Any, again: Any, params: Mapping[str, nn.Parameter]) -> None:
    """Foret et al. 2021, equation 3: the gradient at the highest point nearby."""
    steps = torch.autograd.grad(sum(terms.values()), list(params.values()))
    norm = torch.stack([step.norm() for step in steps]).norm()
    with torch.no_grad():
        for parameter, step in zip(params.values(), steps, strict=True):
            parameter.add_(step, alpha=RHO / float(norm))
    sum(again().values()).backward()
    with torch.no_grad():
        for parameter, step in zip(params.values(), steps, strict=True):
            parameter.sub_(step, alpha=RHO / float(norm))


def random_network() -> tuple[Network, Layout]:
    """With a norm and dropout, so that statistics and draws are seen."""
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.3),
    )  # fmt: skip
    head = made.small()[0].head
    net = Network(trunk, head, lambda module, x: Features(pooled=module(x)))
    names = [n for n, _ in net.named_parameters()]
    groups = tuple(
        Group(part, tuple(n for n in names if n.startswith(part)), level)
        for level, part in enumerate(("backbone", "head"))
    )
    return net, Layout(groups=groups, fine_groups=groups)


def trained(folder: Path, *, callbacks: Any = (), **recipe: Any) -> tuple[Network, Any]:
    net, layout = random_network()
    options = {"sam": Effects(Update(sharpness_aware)), "size": Effects(Penalty(size))}
    _, progress = made.train(
        net, layout, strategies.full(layout), DATA, folder, steps=12, batch_size=8, eval_every=5,
        callbacks=callbacks, effects=Regularization(options), lr=RATE,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9), **recipe,
    )  # fmt: skip
    return net, progress


def size(step: Any) -> Tensor:
    return 0.1 * step.features.pooled.square().mean()


def test_the_update_is_that_of_a_loop_by_hand(tmp_path: Path) -> None:
    found, _ = trained(tmp_path)
    net, _ = random_network()
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    order, targets = Order(len(DATA), batch_size=8, seed=0), torch.tensor(DATA.targets)

    def loss(items: Any, step: int) -> Tensor:
        torch.manual_seed(step_seed(0, step, 0))
        features, logits = net.with_features(DATA.inputs[items])
        assert features.pooled is not None
        term = 0.1 * features.pooled.square().mean()
        return functional.cross_entropy(logits, targets[items]) + term

    for step in range(12):
        items = list(order.batch_at(step)[1])
        optimizer.zero_grad()
        loss(items, step).backward()
        params = [p for p in net.parameters() if p.grad is not None]
        grads = [p.grad.clone() for p in params if p.grad is not None]
        scale = RHO / float(torch.stack([g.norm() for g in grads]).norm())
        for parameter, grad in zip(params, grads, strict=True):
            parameter.data.add_(grad, alpha=scale)
        moved = {n: b.clone() for n, b in net.named_buffers()}
        optimizer.zero_grad()
        loss(items, step).backward()
        for parameter, grad in zip(params, grads, strict=True):
            parameter.data.sub_(grad, alpha=scale)
        for name, buffer in net.named_buffers():
            buffer.data.copy_(moved[name])
        optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    plain, layout = random_network()
    made.train(
        plain, layout, strategies.full(layout), DATA, tmp_path / "plain", steps=12, batch_size=8,
        lr=RATE, optimizer=lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9),
    )  # fmt: skip
    moved_by = plain.state_dict()["backbone.0.weight"] - found.state_dict()["backbone.0.weight"]
    assert moved_by.abs().max() > 1e-3


def test_a_run_that_is_stopped_goes_on_bit_identically(tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: TransferModule, *_: Any) -> None:
            if module.step == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    calm, _ = trained(tmp_path / "calm")
    with pytest.raises(Interrupted, match="step 7"):
        trained(tmp_path / "stopped", callbacks=[Stop()])
    again, progress = trained(tmp_path / "stopped")
    assert progress.resumes == 1
    for name, value in calm.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"accumulate": 2}, "sam takes the gradient of a whole batch, and trainer.accumulate=2"),
        ({"ranks": 2}, "sam computes a step's gradient itself, which ranks do not share"),
        ({"sharded": True}, "sam computes a step's gradient itself, which ranks do not share"),
        ({"precision": "16-mixed"}, "trainer.precision=16-mixed scales losses"),
    ],
)
def test_what_cannot_be_updated_so_is_refused(facts: dict[str, Any], message: str) -> None:
    net, _ = random_network()
    options = Regularization({"sam": Effects(Update(sharpness_aware))})
    plain: dict[str, Any] = {"task": None, "backbone": None, "network": net, "stages": ()}
    options.check(Setting(**plain))
    with pytest.raises(ValueError, match=message):
        options.check(Setting(**plain, **facts))


def test_one_update_owns_the_gradient() -> None:
    sam = Effects(Update(sharpness_aware))
    Regularization({"sam": sam, "decay": weight_decay()})
    with pytest.raises(ValueError, match="sam, other all set update; keep one"):
        Regularization({"sam": sam, "other": sam})
