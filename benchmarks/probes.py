"""The exact linear probe, against the best of 13 learning rates on the same features.

The features are a pretrained MobileNetV2's where its weights are ($TLX_REAL_DATA), else a random
one's; the images are rendered digits.

Run: python -m benchmarks.probes   (about 4 minutes on two cores)
"""

import math
import os
import statistics
import time
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import pairs
from tlx.config.compose import compose
from tlx.data.images.digits import glyphs
from tlx.frozen.heads import Heads, Start
from tlx.frozen.rules import Sgd
from tlx.fused.judging import outputs_of
from tlx.methods.probes import ProbeProblem, Solution
from tlx.tasks.head_losses import CrossEntropy
from tlx.training import optimizers
from tlx.training.engine import solve as probe
from tlx.training.engine.course import Course, Selection

CLASSES, PER_CLASS, TRAIN, SIDE = 10, 1024, 5120, 64
BATCH, EPOCHS, MOMENTUM = 256, 100, 0.9
# DINOv2's grid (Oquab 2023): SGD without weight decay, a cosine to 0, rates for batches of 256
RATES = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1]
WEIGHTS = Path(os.environ.get("TLX_REAL_DATA", "../shared/data")) / "mobilenetv2_100_in1k"


class Data:
    """Features and targets, shuffled and halved."""

    def __init__(self) -> None:
        network = timm.create_model("mobilenetv2_100", num_classes=1000)
        if WEIGHTS.is_dir():
            network.load_state_dict(load_file(WEIGHTS / "model.safetensors"))
        network.reset_classifier(0)
        made = glyphs(characters="digits", images_per_class=PER_CLASS)
        samples = [
            split[i] for split in (made.train, made.val, made.test) for i in range(len(split))
        ]
        pixels = np.stack([np.asarray(sample["input"].convert("RGB")) for sample in samples])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        mean, std = (
            torch.tensor(network.default_cfg[key])[:, None, None] for key in ("mean", "std")
        )
        with torch.no_grad():
            parts = [
                network.eval()((functional.interpolate(part, SIDE, mode="bilinear") - mean) / std)
                for part in images.split(256)
            ]
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
        features = torch.cat(parts)[order]
        targets = torch.tensor([sample["target"] for sample in samples])[order]
        self.train, self.targets = features[:TRAIN].clone(), targets[:TRAIN].clone()
        self.val, self.val_targets = features[TRAIN:].clone(), targets[TRAIN:].clone()

    def right(self, outputs: Tensor) -> Tensor:
        """Which validation items are classified as they are."""
        return outputs.argmax(-1) == self.val_targets


class Timed:
    """Three ways to a head; each remembers what its choice got right on validation."""

    def __init__(self, data: Data) -> None:
        self.data = data
        node = compose(["freeze_strategy=linear_probe", "optimizer=lbfgs"])["optimizer"]
        options = {k: v for k, v in node.items() if k != "_target_"}
        self.exact = optimizers.lbfgs(**{**options, "extend": False})  # as many as rates
        self.right: dict[str, Tensor] = {}
        self.chosen: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {"lbfgs": [], "sequence": [], "stack": []}
        self.passes = 0

    def lbfgs(self) -> float:
        """Seconds of the path and of the solution that it chooses, with validation."""
        started = time.perf_counter()
        data, loss = self.data, CrossEntropy()

        def gradient(outputs: Tensor) -> Tensor:
            grad = torch.empty_like(outputs)
            loss.gradient(outputs[None], data.targets[None], smoothing_g=None, out=grad[None])
            return grad

        def outputs(found: Solution) -> Tensor:
            return functional.linear(data.val, found.weight_CD.float(), found.bias_C.float())

        def judge(found: Solution) -> dict[str, float]:
            made = outputs(found)
            value = float(functional.cross_entropy(made, data.val_targets))
            return {"accuracy": float(data.right(made).double().mean()), "loss": value}

        course = Course(
            (), pace=probe.pace(self.exact, TRAIN), selection=Selection("accuracy", "max")
        )
        problem = ProbeProblem(data.train, gradient, outputs=CLASSES)
        best, _ = probe.choose(problem, self.exact, course=course, judge=judge)
        assert best.converged
        self.passes = course.progress.step
        self.chosen["lbfgs"], self.right["lbfgs"] = best.penalty, data.right(outputs(best))
        return self._noted("lbfgs", started)

    def sequence(self) -> float:
        """Seconds of a bare loop for each learning rate."""
        started = time.perf_counter()
        data, found = self.data, []
        for rate in RATES:
            linear = nn.Linear(data.train.shape[1], CLASSES)
            linear.load_state_dict(start())
            stepper = torch.optim.SGD(linear.parameters(), lr=rate, momentum=MOMENTUM, fused=True)
            for items, factor in steps():
                stepper.param_groups[0]["lr"] = rate * factor
                loss = functional.cross_entropy(linear(data.train[items]), data.targets[items])
                stepper.zero_grad()
                loss.backward()
                stepper.step()
            found.append(data.right(linear(data.val)))
        self._choose("sequence", torch.stack(found))
        return self._noted("sequence", started)

    def stack(self) -> float:
        """Seconds of the same grid as one stack of heads."""
        started = time.perf_counter()
        data, optimizer = self.data, Sgd(momentum=MOMENTUM, nesterov=False)
        stack = Heads([Start(start(), optimizer, rate) for rate in RATES], loss=CrossEntropy())
        for items, factor in steps():
            stack.step(data.train[items], data.targets[items], factors=[factor] * len(RATES))
        heads = [stack.head(run) for run in stack.runs]
        self._choose("stack", data.right(outputs_of(data.val, heads)))
        return self._noted("stack", started)

    def _choose(self, key: str, right_GN: Tensor) -> None:
        best = int(right_GN.double().mean(1).argmax())
        self.chosen[key], self.right[key] = RATES[best], right_GN[best]

    def _noted(self, key: str, started: float) -> float:
        self.seconds[key].append(time.perf_counter() - started)
        return self.seconds[key][-1]


def start() -> dict[str, Tensor]:
    """Weight and bias as DINOv2 starts them."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CLASSES, 1280, generator=generator) * 0.01
    return {"weight": weight, "bias": torch.zeros(CLASSES)}


def steps() -> list[tuple[Tensor, float]]:
    """Items and learning-rate factor of each step, the same for all rates."""
    generator = torch.Generator().manual_seed(1)
    epochs = [torch.randperm(TRAIN, generator=generator) for _ in range(EPOCHS)]
    batches = [batch for epoch in epochs for batch in epoch.split(BATCH)]
    total = len(batches)
    return [
        (batch, 0.5 * (1 + math.cos(math.pi * step / total))) for step, batch in enumerate(batches)
    ]


def accuracies(timed: Timed) -> list[str]:
    """What each chose, and McNemar's exact test of the probe against the grid."""
    lines = [
        f"  {key}: {100 * float(right.double().mean()):.2f}% of {len(right)} validation items, "
        f"at {timed.chosen[key]:g}"
        for key, right in timed.right.items()
    ]
    ours, theirs = timed.right["lbfgs"], timed.right["sequence"]
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    gap = 100 * (won - lost) / len(ours)
    good = gap >= -0.1 or p > 0.05
    lines.append(
        f"probe − best of the grid: {gap:+.2f} points ({won} won, {lost} lost, "
        f"McNemar p = {p:.2g}), "
        f"limit -0.1: {'ok' if good else 'MISSED'}"
    )
    return lines


def main(count: int = 7) -> None:
    """Prints all lines."""
    torch.set_num_threads(2)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, weights {WEIGHTS.is_dir()}"
    )
    timed = Timed(Data())
    what = f"probe of {TRAIN} × 1280, {CLASSES} classes / 13 rates × {EPOCHS} epochs, "
    for name, other, limit in (
        ("in sequence", timed.sequence, 0.2),
        ("as a stack", timed.stack, 1),
    ):
        print(
            pairs.summary(what + name, pairs.ratios(timed.lbfgs, other, pairs=count), limit=limit)
        )
    middle = {key: round(statistics.median(values), 3) for key, values in timed.seconds.items()}
    print(f"  median seconds: {middle}; {timed.passes} passes of the probe")
    print("\n".join(accuracies(timed)))


if __name__ == "__main__":
    main()
