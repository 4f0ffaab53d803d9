"""64 linear heads in one stack, against 64 bare PyTorch loops in sequence on the same features.

Run: python -m benchmarks.heads   (about 4 minutes on two cores)
"""

import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from benchmarks import pairs
from tlx.frozen.heads import Heads, Start
from tlx.frozen.rules import AdamW, Sgd
from tlx.tasks.head_losses import CrossEntropy

RUNS, WIDTH, BATCH, ITEMS, EPOCHS = 64, 512, 256, 4096, 10
RATES = [10 ** (-4 + 3 * run / (RUNS - 1)) for run in range(RUNS)]


def orders() -> list[torch.Tensor]:
    """The items of each step, the same for all runs."""
    generator = torch.Generator().manual_seed(0)
    epochs = [torch.randperm(ITEMS, generator=generator) for _ in range(EPOCHS)]
    return [batch for epoch in epochs for batch in epoch.split(BATCH)]


def bare_s(features, targets, heads, optimizer) -> float:
    """Seconds of one loop after another."""
    made = [nn.Linear(WIDTH, len(bias)) for _, bias in heads]
    for linear, (weight, bias) in zip(made, heads, strict=True):
        linear.load_state_dict({"weight": weight, "bias": bias})
    steps = orders()
    started = time.perf_counter()
    for linear, lr in zip(made, RATES, strict=True):
        stepper = optimizer(linear.parameters(), lr)
        for items in steps:
            loss = functional.cross_entropy(linear(features[items]), targets[items])
            stepper.zero_grad()
            loss.backward()
            stepper.step()
    return time.perf_counter() - started


def stacked_s(features, targets, heads, optimizer) -> float:
    """Seconds of one stack."""
    starts = [
        Start({"weight": weight, "bias": bias}, optimizer=optimizer, lr=lr)
        for (weight, bias), lr in zip(heads, RATES, strict=True)
    ]
    steps = orders()
    started = time.perf_counter()
    stack = Heads(starts, loss=CrossEntropy())
    for items in steps:
        stack.step(features[items], targets[items])
    return time.perf_counter() - started


def products_s(classes: int) -> float:
    """Seconds of the two matrix products of each step alone."""
    features = torch.randn(BATCH, WIDTH)
    weight, outputs = torch.randn(RUNS * classes, WIDTH), torch.empty(RUNS * classes, BATCH)
    grad = torch.empty_like(weight)
    started = time.perf_counter()
    for _ in range(EPOCHS * ITEMS // BATCH):
        torch.mm(weight, features.T, out=outputs)
        torch.mm(outputs, features, out=grad)
    return time.perf_counter() - started


def sgd_bare(parameters, lr) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, fused=True)


def adamw_bare(parameters, lr) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0, fused=True)


OPTIMIZERS = {"sgd": (Sgd(), sgd_bare), "adamw": (AdamW(), adamw_bare)}
LIMITS = {("sgd", 10): 1 / 10, ("adamw", 10): 1 / 8, ("sgd", 100): 1 / 2, ("adamw", 100): 1 / 2}


def compare(name: str, classes: int, *, count: int) -> list[str]:
    """Two lines: against the bare loops, and against the products."""
    torch.manual_seed(0)
    features, targets = torch.randn(ITEMS, WIDTH), torch.randint(classes, (ITEMS,))
    heads = [(torch.randn(classes, WIDTH) / WIDTH**0.5, torch.zeros(classes)) for _ in range(RUNS)]
    ours, theirs = OPTIMIZERS[name]
    seconds: dict[str, list[float]] = {"stack": [], "bare": [], "products": []}

    def noted(key: str, value: float) -> float:
        seconds[key].append(value)
        return value

    def stack() -> float:
        return noted("stack", stacked_s(features, targets, heads, ours))

    def bare() -> float:
        return noted("bare", bare_s(features, targets, heads, theirs))

    def products() -> float:
        return noted("products", products_s(classes))

    what = f"{RUNS} heads, C={classes}, {name}, stack / "
    lines = [
        pairs.summary(
            what + "bare loops",
            pairs.ratios(stack, bare, pairs=count),
            limit=LIMITS[name, classes],
        ),
        pairs.summary(what + "its products", pairs.ratios(stack, products, pairs=count), limit=2.2),
    ]
    middle = {key: round(statistics.median(values), 3) for key, values in seconds.items()}
    return [*lines, f"  median seconds: {middle}"]


def main(count: int = 7) -> None:
    """Prints all lines."""
    torch.set_num_threads(2)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for classes in (10, 100):
        for name in OPTIMIZERS:
            for line in compare(name, classes, count=count):
                print(line, flush=True)


if __name__ == "__main__":
    main()
