"""On a GPU: images a second of tlx's loop against a bare, hand-tuned PyTorch loop.

ResNet-50 and ViT-B/16 at 224 px, bf16-mixed, channels last, inputs already on the GPU on both
sides, so that the loops are compared and not the disks. A linear probe from stored activations, and
64 heads as one. Then the default experiment on the GPU.
Run: python -m benchmarks.gpu   (one GPU, about 15 minutes; never run yet)
"""

import subprocess
import sys
import time
import warnings
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import made, pairs
from tlx.frozen.heads import Heads, Start
from tlx.frozen.rules import Sgd
from tlx.tasks.head_losses import CrossEntropy

BATCH = 128
STEPS = 60
SKIP = 15
ITEMS = 20_000
NETWORKS = {"resnet50": 2048, "vit_base_patch16_224": 768}


def data() -> tuple[Tensor, Tensor]:
    """Random images and labels on the GPU, channels last."""
    inputs = torch.randn(4 * BATCH, 3, 224, 224, device="cuda")
    targets = torch.randint(0, 1000, (4 * BATCH,), device="cuda")
    return inputs.to(memory_format=torch.channels_last), targets


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of both sides."""
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def bare_step_s(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Seconds a step of a hand-tuned loop: autocast, fused optimizer, no synchronisation."""
    network = network.cuda().to(memory_format=torch.channels_last).train()
    optimizer = adamw(network.parameters())
    started = 0.0
    for step in range(STEPS):
        if step == SKIP:
            torch.cuda.synchronize()
            started = time.perf_counter()
        order = torch.randperm(len(inputs), device="cuda")[:BATCH]
        batch = inputs[order].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16):
            loss = functional.cross_entropy(network(batch), targets[order])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / (STEPS - SKIP)


def compare(name: str, width: int) -> str:
    """One line for one network."""
    inputs, targets = data()
    splits = made.splits(inputs, targets, 1000)

    def ours() -> float:
        trunk = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last)
        return made.tlx_step_s(
            trunk,
            width,
            splits,
            optimizer=adamw,
            steps=STEPS,
            batch_size=BATCH,
            precision="bf16-mixed",
            accelerator="gpu",
            skip=SKIP,
            pin=False,
        )

    def theirs() -> float:
        return bare_step_s(timm.create_model(name, num_classes=1000), inputs, targets)

    found = [1 / ratio for ratio in pairs.ratios(ours, theirs, pairs=7)]
    middle = sorted(found)[len(found) // 2]
    verdict = "ok" if middle >= 0.97 else "UNDER"
    return (
        f"{name}: images/s, tlx / bare loop: median {middle:.3f} "
        f"[{min(found):.3f}, {max(found):.3f}] over {len(found)} pairs, limit 0.97: {verdict}"
    )


def probe() -> str:
    """A linear probe of ViT-B/16 on 20,000 images: extraction against a bare inference loop."""
    inputs = torch.randn(ITEMS, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(0, 1000, (ITEMS,), device="cuda")
    splits = made.splits(inputs, targets, 1000)

    def trunk() -> nn.Module:
        return timm.create_model("vit_base_patch16_224", num_classes=0)

    def ours() -> float:
        return made.tlx_step_s(
            trunk(), 768, splits, optimizer=adamw, steps=ITEMS // BATCH, batch_size=BATCH,
            precision="bf16-mixed", accelerator="gpu", trained="head", stored=True, whole=True,
        )  # fmt: skip

    def theirs() -> float:
        network = trunk().cuda().eval()
        torch.cuda.synchronize()
        started = time.perf_counter()
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            for part in inputs.split(BATCH):
                network(part)
        torch.cuda.synchronize()
        return time.perf_counter() - started

    return pairs.summary(
        "ViT-B/16, 20,000 images: bare inference / extraction and one epoch of the head",
        pairs.ratios(theirs, ours, pairs=7),
        least=0.9,
    )


def heads() -> str:
    """A step of 64 heads against a step of one, on features that are there."""
    features = torch.randn(BATCH, 768, device="cuda")
    targets = torch.randint(0, 100, (BATCH,), device="cuda")

    def seconds(runs: int) -> float:
        starts = [
            Start(dict(nn.Linear(768, 100).cuda().named_parameters()), Sgd(), lr=0.1)
            for _ in range(runs)
        ]
        stack = Heads(starts, loss=CrossEntropy())
        for step in range(STEPS):
            if step == SKIP:
                torch.cuda.synchronize()
                started = time.perf_counter()
            stack.step(features, targets)
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / (STEPS - SKIP)

    found = pairs.ratios(lambda: seconds(64), lambda: seconds(1), pairs=7)
    return pairs.summary("step of 64 heads / of one head", found, limit=2)


def main() -> int:
    """Prints a line a network, then runs the default experiment."""
    warnings.filterwarnings("ignore")
    if not torch.cuda.is_available():
        print("no GPU here; nothing was measured")
        return 1
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    torch.backends.cudnn.benchmark = True
    for name, width in NETWORKS.items():
        print(compare(name, width), flush=True)
    print(probe(), flush=True)
    print(heads(), flush=True)
    command = [sys.executable, "-m", "tlx.cli", "train", "experiment=glyphs_to_digits"]
    overrides = ["trainer.accelerator=gpu", "runs_dir=runs/gpu", "logger=[csv]"]
    return subprocess.run([*command, *overrides], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
