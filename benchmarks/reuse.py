"""Training from stored activations, and many runs as one, against computing everything each time.

Run: python -m benchmarks.reuse   (about 40 minutes on two cores)
"""

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import made, pairs, template
from tlx.building import plans
from tlx.config.compose import compose
from tlx.config.run import typed
from tlx.execution import execute, preparing
from tlx.execution.lineage import Locator
from tlx.frozen.heads import Heads, Start
from tlx.frozen.rules import Sgd
from tlx.tasks.head_losses import CrossEntropy
from tlx.training.loaders import RankShare

ITEMS, CLASSES, BATCH, EPOCHS, BLOCKS = 768, 10, 64, 10, 12
# Proving the split costs the same for any number of images: over 768 it is a tenth of an epoch.
MORE_ITEMS = 2048
VIT: dict[str, Any] = {"img_size": 112, "num_classes": 0}
RATES = [10 ** (-3 + 3 * i / 63) for i in range(64)]


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of all sides."""
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def vit() -> nn.Module:
    """ViT-tiny at 112 px, 12 blocks, without weights to load."""
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", **VIT)


def images(count: int = ITEMS) -> tuple[Tensor, Tensor]:
    """Random images and targets, ready as tensors."""
    torch.manual_seed(1)
    return torch.randn(count, 3, 112, 112), torch.randint(0, CLASSES, (count,))


def indices(items: int, steps: int) -> Iterator[Tensor]:
    """Of the items of each step, in a new order each epoch."""
    per_epoch = items // BATCH
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(items)
        at = step % per_epoch * BATCH
        yield order[at : at + BATCH]


def bare_s(data: tuple[Tensor, Tensor], *, trained: tuple[str, ...], steps: int) -> float:
    """Seconds of a plain loop whose frozen part has `requires_grad=False`, inputs as tensors."""
    inputs, targets = data
    network = nn.ModuleDict({"backbone": vit(), "head": nn.Linear(192, CLASSES)})
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    stepper = adamw([p for p in network.parameters() if p.requires_grad])
    network["backbone"].eval()
    started = time.perf_counter()
    for index in indices(len(inputs), steps):
        outputs = network["head"](network["backbone"](inputs[index]))
        loss = functional.cross_entropy(outputs, targets[index])
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    return time.perf_counter() - started


def probe(count: int) -> str:
    """A linear probe of 10 epochs, extraction and the proof of the split included."""
    data = images(count)
    splits = made.splits(*data, CLASSES)
    steps = EPOCHS * count // BATCH

    def ours() -> float:
        return made.tlx_step_s(
            vit(), 192, splits, optimizer=adamw, steps=steps, batch_size=BATCH, trained="head",
            stored=True, whole=True,
        )  # fmt: skip

    def theirs() -> float:
        return bare_s(data, trained=("head",), steps=steps)

    return pairs.summary(
        f"linear probe of {count} images, {EPOCHS} epochs, bare / stored",
        pairs.ratios(theirs, ours, pairs=7),
        least=0.85 * EPOCHS,
    )


def probes(data: tuple[Tensor, Tensor]) -> str:
    """32 linear probes of 10 epochs as one stack, extraction included."""
    steps = EPOCHS * ITEMS // BATCH

    def ours() -> float:
        return stack_s(data, runs=32, steps=steps)

    def theirs() -> float:
        return bare_s(data, trained=("head",), steps=steps)

    return pairs.summary(
        "32 linear probes, 32 bare ones (one, times 32) / as one",
        [32 * ratio for ratio in pairs.ratios(theirs, ours, pairs=7)],
        least=100,
    )


def stack_s(data: tuple[Tensor, Tensor], *, runs: int, steps: int) -> float:
    """Seconds of extraction and of training many heads as one."""
    inputs, targets = data
    trunk = vit().eval()
    torch.manual_seed(0)
    starts = [
        Start(dict(nn.Linear(192, CLASSES).named_parameters()), Sgd(), lr=10 ** (-3 + 3 * i / runs))
        for i in range(runs)
    ]
    started = time.perf_counter()
    with torch.no_grad():
        features = torch.cat([trunk(part) for part in inputs.split(BATCH)])
    heads = Heads(starts, loss=CrossEntropy())
    for index in indices(len(inputs), steps):
        heads.step(features[index], targets[index])
    return time.perf_counter() - started


def top(data: tuple[Tensor, Tensor], blocks: int) -> str:
    """The top blocks of a ViT, steady state, against the bound of what must be computed."""
    splits = made.splits(*data, CLASSES)
    first = BLOCKS - blocks
    trained = (
        *(f"backbone.blocks.{i}." for i in range(first, BLOCKS)), "backbone.norm.",
        "backbone.fc_norm.", "head.",
    )  # fmt: skip
    steps = 10

    def ours() -> float:
        return made.tlx_step_s(
            vit(), 192, splits, optimizer=adamw, steps=ITEMS // BATCH + 2, batch_size=BATCH,
            trained=trained, stored=True, skip=2,
        )  # fmt: skip

    def theirs() -> float:
        return bare_s(data, trained=trained, steps=steps) / steps

    bound = (BLOCKS + 2 * blocks) / (3 * blocks)
    shares = [ratio / bound for ratio in pairs.ratios(theirs, ours)]
    return pairs.summary(
        f"top {blocks} of {BLOCKS} blocks, bare / stored, share of the bound {bound:.2f}",
        shares,
        least=0.85,
    )


def head_only(data: tuple[Tensor, Tensor]) -> str:
    """A step that trains the head alone, nothing stored, against full fine-tuning."""
    splits = made.splits(*data, CLASSES)
    size: dict[str, Any] = {"optimizer": adamw, "steps": 8, "batch_size": BATCH, "skip": 2}

    def full() -> float:
        return made.tlx_step_s(vit(), 192, splits, **size)

    def head() -> float:
        return made.tlx_step_s(vit(), 192, splits, trained="head", **size)

    return pairs.summary(
        "step, full / head only, nothing stored", pairs.ratios(full, head), least=3
    )


LINE = [
    *("dataset=digits", "backbone=timm", "backbone.name=test_resnet", "backbone.init=none"),
    *("backbone.image_size=32", "freeze_strategy=linear_probe", "optimizer=sgd", "trainer=cpu"),
    *("trainer.epochs=10", "trainer.batch_size=64", "logger=[csv]"),
]


def folders(root: str, rates: list[float], more: list[str]) -> list[Path]:
    """Prepared runs, one a learning rate."""
    found = []
    for rate in rates:
        line = [*LINE, *more, f"optimizer.lr={rate:.6g}", f"runs_dir={root}"]
        place = Locator().locate(typed(compose(line)))
        preparing.prepare(place)
        found.append(place.folder)
    return found


def timed(work: Any, places: Any) -> float:
    """Seconds of work on places, whose output is not shown."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work(places)
    return time.perf_counter() - started


def each(places: list[Path]) -> None:
    """Trains runs one by one."""
    for place in places:
        execute.run_here(place)


def whole_runs(*, logger: str, alone: int, epochs: int = 10) -> str:
    """64 runs as tlx runs them, activations in the store, as one against one by one."""
    with tempfile.TemporaryDirectory() as folder:
        more = [f"logger=[{logger}]", f"trainer.epochs={epochs}", f"cache_dir={folder}/store"]
        timed(each, folders(f"{folder}/warm", [0.5], more))
        count = iter(range(1000))

        def ours() -> float:
            places = folders(f"{folder}/one{next(count)}", RATES, more)
            return timed(execute.run_together, places)

        def theirs() -> float:
            return timed(each, folders(f"{folder}/many{next(count)}", RATES[:alone], more))

        found = [ratio * len(RATES) / alone for ratio in pairs.ratios(theirs, ours)]
    return pairs.summary(
        f"64 runs of {epochs} epochs, {logger} logger, one by one ({alone}, scaled) / as one",
        found,
        least=40,
    )


def against_the_template(*, alone: int, epochs: int) -> str:
    """64 runs of lightning-hydra-template's shape on ready features, against 64 as one."""
    with tempfile.TemporaryDirectory() as folder:
        more = ["logger=[csv]", f"trainer.epochs={epochs}", f"cache_dir={folder}/store"]
        timed(each, folders(f"{folder}/warm", [0.5], more))
        parts = features_of(compose([*LINE, *more]))
        count = iter(range(1000))

        def ours() -> float:
            places = folders(f"{folder}/one{next(count)}", RATES, more)
            return timed(execute.run_together, places)

        def theirs() -> float:
            def work(root: Path) -> None:
                for index, rate in enumerate(RATES[:alone]):
                    template.run(
                        root / str(index), parts, classes=10, lr=rate, epochs=epochs, batch=64
                    )

            return timed(work, Path(f"{folder}/template{next(count)}"))

        found = [ratio * len(RATES) / alone for ratio in pairs.ratios(theirs, ours)]
    return pairs.summary(
        f"64 runs of {epochs} epochs, the template's ({alone}, scaled) / tlx's as one",
        found,
        least=40,
    )


def features_of(config: Any) -> template.Parts:
    """Features and targets of a run's splits."""
    plan = plans.plan(typed(config), init="none")
    network, found = plan.model.network.eval(), {}
    for name in ("train", "val", "test"):
        loader = plan.eval_loader(getattr(plan.splits, name), RankShare())
        features, targets = [], []
        with torch.no_grad():
            for batch in loader:
                features.append(network.features(batch["input"]).pooled)
                targets.append(batch["target"])
        found[name] = torch.cat(features), torch.cat(targets)
    return found


def main() -> None:
    """Prints all lines."""
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(whole_runs(logger="csv", alone=8), flush=True)
    print(whole_runs(logger="csv", alone=4, epochs=100), flush=True)
    print(against_the_template(alone=8, epochs=10), flush=True)
    print(against_the_template(alone=2, epochs=100), flush=True)
    print(whole_runs(logger="wandb", alone=4), flush=True)
    data = images()
    print(head_only(data), flush=True)
    print(probe(MORE_ITEMS), flush=True)
    print(probes(data), flush=True)
    for blocks in (1, 2, 4):
        print(top(data, blocks), flush=True)


if __name__ == "__main__":
    main()
