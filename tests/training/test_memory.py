"""Out of memory: what is computed at once is halved, and the result stays."""

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

import launching
import made
import studying
from tlx.backbones.backbone import Features
from tlx.config.compose import compose
from tlx.config.identity import run_id
from tlx.execution import execute, runs
from tlx.methods import strategies
from tlx.methods.stages import Group, Layout
from tlx.results import reading, record
from tlx.tasks.task import Network
from tlx.training.effects import Regularization
from tlx.training.engine import memory
from tlx.training.engine.memory import AtOnce, TooLarge
from tlx.training.regularization import neftune

FULL = "CUDA out of memory. Tried to allocate 20.00 MiB"
DATA = made.tensors(24, 8)


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """Each halving collects garbage: not among all that was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


class Small(nn.Module):
    """A layer on a device whose memory takes so many items, from a pass on."""

    def __init__(self, inner: nn.Module, most: int, *, since: int = 0) -> None:
        super().__init__()
        self.inner, self.most, self.since, self.passes = inner, most, since, 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += self.training
        if len(inputs) > self.most and (self.passes > self.since or not self.training):
            raise torch.OutOfMemoryError(FULL)
        return self.inner(inputs)


class FullBackward(torch.autograd.Function):
    """The identity, whose gradient does not fit for more than so many items."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, most: int) -> Tensor:
        context.most = most
        return inputs.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if len(gradient) > context.most:
            raise torch.OutOfMemoryError(FULL)
        return gradient, None


class SmallBackward(Small):
    def forward(self, inputs: Tensor) -> Tensor:
        made_ = self.inner(inputs)
        return FullBackward.apply(made_, self.most) if self.training else made_  # type: ignore[no-any-return]


def small(wrap: Callable[[nn.Module], nn.Module] | None = None, *, norm: bool = False) -> Any:
    torch.manual_seed(0)
    first: nn.Module = nn.Conv2d(3, 8, 3)
    norms = [nn.BatchNorm2d(8)] if norm else []
    trunk = nn.Sequential(first, *norms, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if wrap is not None:
        trunk[2 if not norm else 3] = wrap(trunk[2 if not norm else 3])
    head = nn.Module()
    head.linear = nn.Linear(8, made.CLASSES)  # type: ignore[assignment]
    head.forward = lambda features: head.linear(features.pooled)  # type: ignore[operator]
    net = Network(trunk, head, lambda m, x: Features(pooled=m(x)))
    names = tuple(n for n, _ in net.named_parameters() if n.startswith("backbone"))
    groups = (Group("stem", names, 0), Group("head", ("head.linear.weight",), 1))
    return net, Layout(groups=groups, fine_groups=groups)


def trained(folder: Path, wrap: Any = None, **options: Any) -> tuple[Tensor, Any]:
    """Weights of 8 steps with batches of 8, and the run's progress."""
    net, layout = small(wrap, norm=options.pop("norm", False))
    _, progress = made.train(
        net, layout, strategies.full(layout), DATA, folder, steps=8, eval_every=4,
        **{"batch_size": 8, "on_oom": "halve", **options},
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in net.parameters()]), progress


@pytest.mark.parametrize("kind", [Small, SmallBackward], ids=["forward", "backward"])
def test_halved_in_the_first_step_is_as_configured_from_the_start(
    kind: type[Small], tmp_path: Path
) -> None:
    found, progress = trained(tmp_path / "full", lambda layer: kind(layer, 2))
    wanted, _ = trained(tmp_path / "parts", accumulate=4)
    assert torch.equal(found, wanted)
    whole, _ = trained(tmp_path / "whole")
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    assert progress.notes["memory"] == {"accumulate": 4, "halved_at": [0, 0]}


def test_halved_in_the_middle_the_step_in_hand_is_done_again(tmp_path: Path) -> None:
    """Adam's moments go on, validations included; the log shows the same losses."""
    found, progress = trained(tmp_path / "full", lambda layer: Small(layer, 4, since=6))
    whole, _ = trained(tmp_path / "whole")
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    assert progress.notes["memory"] == {"accumulate": 2, "halved_at": [6]}
    assert progress.step == 8


def test_a_run_that_goes_on_goes_on_in_parts(tmp_path: Path) -> None:
    layers: list[Small] = []

    def wrap(layer: nn.Module) -> nn.Module:
        layers.append(Small(layer, 2))
        return layers[-1]

    trained(tmp_path, wrap)
    (tmp_path / "checkpoints" / memory.FILE).rename(tmp_path / "kept.json")
    assert json.loads((tmp_path / "kept.json").read_text())["accumulate"] == 4
    (tmp_path / "kept.json").rename(tmp_path / "checkpoints" / memory.FILE)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.unlink()
    _, progress = trained(tmp_path, wrap)
    assert progress.notes["memory"]["halved_at"] == [0, 0]  # not found anew


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "[]", "null", "[" * 9000),
        *('{"accumulate": 0}', '{"accumulate": "4"}', '{"accumulate": 1}'),
        *('{"accumulate": 4, "halved_at": 3}', '{"accumulate": 4, "halved_at": ["x"]}'),
    ],
)
def test_what_fits_is_found_anew_where_its_file_is_damaged(text: str, tmp_path: Path) -> None:
    (tmp_path / memory.FILE).write_text(text)
    assert memory.read(tmp_path, accumulate=2) == memory.BatchParts(2)


def refused(match: str, tmp_path: Path, wrap: Any = None, **options: Any) -> None:
    with pytest.raises(TooLarge, match=match):
        trained(tmp_path, wrap or (lambda layer: Small(layer, 2)), **options)


def test_batch_statistics_are_not_divided(tmp_path: Path) -> None:
    refused("backbone.1 takes its statistics.*frozen.norm_stats=freeze", tmp_path, norm=True)


def test_frozen_statistics_are_divided(tmp_path: Path) -> None:
    options = {"norm": True, "norm_stats": "freeze"}
    found, _ = trained(tmp_path / "full", lambda layer: Small(layer, 2), **options)
    whole, _ = trained(tmp_path / "whole", **options)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_what_depends_on_whole_batches_is_not_divided(tmp_path: Path) -> None:
    refused("regularization=neftune", tmp_path, effects=Regularization({"neftune": neftune()}))


def test_one_item_too_large_names_the_keys(tmp_path: Path) -> None:
    refused("one item at a time.*trainer.batch_size", tmp_path, lambda layer: Small(layer, 0))


def test_error_leaves_it_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trained(tmp_path, lambda layer: Small(layer, 2), on_oom="error")


def test_other_errors_are_no_lack_of_memory(tmp_path: Path) -> None:
    class Wrong(Small):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        trained(tmp_path, lambda layer: Wrong(layer, 0))


class FullUpdate(torch.optim.SGD):
    """SGD whose `at`-th update runs out of memory half-way."""

    at, updates = 6, 0

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        FullUpdate.updates += 1
        if FullUpdate.updates == self.at:
            self.param_groups[0]["params"][0].data.fill_(7.0)
            raise torch.OutOfMemoryError(FULL)
        super().step()
        return loss


@pytest.mark.parametrize("at", [6, 2])
def test_an_update_cut_off_goes_back_to_a_checkpoint(at: int, tmp_path: Path) -> None:
    FullUpdate.at, FullUpdate.updates = at, 0
    full = lambda groups: FullUpdate(groups, lr=0.05)  # noqa: E731
    if at == 2:  # nothing is saved yet
        with pytest.raises(TooLarge, match="optimizer=sgd"):
            trained(tmp_path, optimizer=full, lr=0.05)
        return
    found, _ = trained(tmp_path / "full", optimizer=full, lr=0.05)
    plain = lambda groups: torch.optim.SGD(groups, lr=0.05)  # noqa: E731
    whole, _ = trained(tmp_path / "whole", optimizer=plain, lr=0.05)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


# -- evaluation -----------------------------------------------------------------------------------


def test_an_evaluation_batch_is_computed_in_halves() -> None:
    layer = Small(nn.Linear(3, 2), 3).eval()
    batch = {
        "index": torch.arange(11),
        "input": {"x": torch.randn(11, 3)},
        "target": torch.arange(11),
    }
    at_once = AtOnce()
    for _ in range(2):
        parts = list(at_once.outputs(lambda inputs: layer(inputs["x"]), batch))
        torch.testing.assert_close(
            torch.cat([outputs for outputs, _ in parts]), layer.inner(batch["input"]["x"])
        )
        assert torch.cat([part["index"] for _, part in parts]).tolist() == list(range(11))
        assert torch.cat([part["target"] for _, part in parts]).tolist() == list(range(11))
    assert at_once.notes() == {"evaluated_at_once": 2}
    layer.most = 0
    with pytest.raises(TooLarge, match="one item at a time"):
        list(at_once.outputs(lambda inputs: layer(inputs["x"]), batch))


# -- whole runs -----------------------------------------------------------------------------------

RUN = [
    *("dataset=digits", "dataset.labels_per_class=8", "backbone=timm", "backbone.init=none"),
    *("dataset.classes=[0,1,2]", "dataset.folds=20", "dataset.fold=0"),  # 27 images to test on
    *("backbone.name=test_vit", "backbone.image_size=32", "trainer=cpu", "logger=[csv]"),
    *("trainer.epochs=null", "trainer.steps=6", "trainer.batch_size=16", "cache=off"),
    *("trainer.eval_every_steps=3", "trainer.eval_batch_size=16"),
]


class SmallDevice:
    """Sabotage: the trunk's first layer takes so many items in training, and in evaluation."""

    def __init__(self, training: int, evaluation: int) -> None:
        """Keeps them."""
        self.training, self.evaluation = training, evaluation

    def __call__(self) -> None:
        """Puts it in place."""
        forward = PatchEmbed.forward

        def limited(layer: Any, x: Tensor) -> Any:
            most = self.training if layer.training else self.evaluation
            if x.device.type != "meta" and len(x) > most:
                raise torch.OutOfMemoryError(FULL)
            return forward(layer, x)

        PatchEmbed.forward = limited  # type: ignore[method-assign]


def test_a_run_on_a_small_device_is_that_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = launching.freeze([*RUN, "trainer.accumulate=4"], runs_dir=tmp_path)
    halved = launching.freeze(RUN, runs_dir=tmp_path)
    execute.run_here(parts)
    capfd.readouterr()
    monkeypatch.setattr(PatchEmbed, "forward", PatchEmbed.forward)  # restored at the end
    SmallDevice(4, 10)()
    execute.run_here(halved)
    same_weights(halved, parts)
    found = record.read(halved)
    assert found.notes["memory"] == {"accumulate": 4, "halved_at": [0, 0]}
    assert found.notes["evaluated_at_once"] == 8
    assert "each batch is computed in 4 parts from here on" in capfd.readouterr().out
    first, second = (record.read(folder).splits["test"].metrics for folder in (parts, halved))
    assert second["loss"].value == pytest.approx(first["loss"].value, abs=1e-6)


def same_weights(one: Path, other: Path) -> None:
    weights = launching.weights(other)
    for name, weight in launching.weights(one).items():
        assert torch.equal(weights[name], weight), name


@pytest.mark.slow
def test_ranks_agree_on_the_next_launch(tmp_path: Path) -> None:
    """One rank's memory is smaller: all are ended, and go on in the parts that it needs."""
    two = [*RUN, "trainer.devices=2", "trainer.strategy=ddp"]
    parts = launching.freeze([*two, "trainer.accumulate=2"], runs_dir=tmp_path)
    halved = launching.freeze(two, runs_dir=tmp_path)
    assert launching.run(parts, world=2) == [0, 0], launching.log(parts)
    small_ = {1: SmallDevice(4, 64)}
    assert launching.run(halved, world=2, sabotage=small_) != [0, 0]
    assert "each batch is computed in 2 parts" in launching.log(halved, 1)
    assert launching.run(halved, world=2, sabotage=small_) == [0, 0], launching.log(halved)
    same_weights(halved, parts)


SITE = """
import os
if os.environ.get("RANK") == "1":
    from timm.layers import PatchEmbed
    import torch
    forward = PatchEmbed.forward
    def limited(layer, x):
        if x.device.type != "meta" and layer.training and len(x) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return forward(layer, x)
    PatchEmbed.forward = limited
"""


@pytest.mark.slow
def test_the_command_starts_its_ranks_again_in_more_parts(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    status, said = studying.tlx(
        "train", *RUN, "trainer.devices=2", cwd=tmp_path,
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
    )  # fmt: skip
    assert status == 0, said
    assert "a device's memory was full: again from the last checkpoint, in 2 parts" in said
    (folder,) = (path.parent for path in (tmp_path / "runs").glob("*/record.json"))
    assert record.read(folder).notes["memory"] == {"accumulate": 2, "halved_at": [0]}


def test_the_id_does_not_know_it() -> None:
    plain, error = (compose([*RUN, *more]) for more in ([], ["trainer.on_oom=error"]))
    assert run_id(plain) == run_id(error)
    assert plain["trainer"]["on_oom"] == "halve"


def test_a_stack_that_does_not_fit_is_trained_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tlx.frozen.heads import Heads

    probe = [*RUN, "cache=auto", "freeze_strategy=linear_probe", f"cache_dir={tmp_path / 'store'}"]
    folders = [
        launching.freeze([*probe, f"optimizer.lr={lr}"], runs_dir=tmp_path / "runs")
        for lr in (0.1, 0.01)
    ]

    def full(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError(FULL)

    with monkeypatch.context() as patch:
        patch.setattr(Heads, "step", full)
        with pytest.raises(runs.Apart, match="out of memory"):
            execute.run_together(folders)
    assert {reading.status_of(folder) for folder in folders} == {"interrupted"}
