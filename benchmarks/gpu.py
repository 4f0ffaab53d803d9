"""On a GPU: images a second of tlx's loop against a bare, hand-tuned PyTorch loop.

ResNet-50 and ViT-B/16 at 224 px, bf16-mixed, channels last, inputs already on the GPU on both
sides, so that the loops are compared and not the disks. Then the default experiment on the GPU.
Run: python -m benchmarks.gpu   (one GPU, about 8 minutes)
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

BATCH = 128
STEPS = 60
SKIP = 15
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
    command = [sys.executable, "-m", "tlx.cli", "train", "experiment=glyphs_to_digits"]
    overrides = ["trainer.accelerator=gpu", "runs_dir=runs/gpu", "logger=[csv]"]
    return subprocess.run([*command, *overrides], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
