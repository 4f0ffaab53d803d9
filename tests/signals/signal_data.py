"""A source of signals: slow and fast waves of several lengths."""

import torch
from signal_inputs import SIGNALS

from tlx.data.divide import divide
from tlx.data.draw import Draw
from tlx.data.items import Medium, Pool
from tlx.data.splits import Labels

MODALITY = "signal"
MEDIUM = Medium("signal", "a signal", lambda marks: iter(()), "in nothing")


def waves(*, count: int = 60, noise: float = 0.1, seed: int = 0):
    """Half of them slow, half fast."""
    generator = torch.Generator().manual_seed(0)
    signals = [
        (torch.arange(6.0 + i % 5) * (0.4 if i % 2 else 1.4)).sin()
        + noise * torch.randn(6 + i % 5, generator=generator)
        for i in range(count)
    ]
    ids = [f"wave{i:02d}" for i in range(count)]
    keys = [str(signal.tolist()) for signal in signals]
    pool = Pool(ids, [i % 2 for i in range(count)], keys, signals)
    labels = Labels("single", ("fast", "slow"))
    draw = Draw(test_fraction=0.2, val_fraction=0.2, seed=seed)
    return divide({"train": pool}, labels, draw=draw, medium=MEDIUM, inputs=SIGNALS)
