"""Seconds a training step: tlx against a bare PyTorch loop, and against stock Lightning.

Run: python -m benchmarks.step   (about 7 minutes on two cores)
"""

import time
import warnings
from typing import Any

import pytorch_lightning as pl
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForSequenceClassification

from benchmarks import made, pairs
from tlx.backbones.backbone import Backbone, Wanted
from tlx.backbones.export.texts import config_of
from tlx.backbones.transformers.text import transformers

WORDS, TOKENS, CLASSES = 2000, 64, 4
BERT = {
    "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024,
}  # fmt: skip


def bare_step_s(
    network: nn.Module, data: TensorDataset, optimizer: Any, *, steps: int, batch_size: int
) -> float:
    """Seconds a step of a plain loop over a plain DataLoader."""
    stepper = optimizer(list(network.parameters()))
    network.train()
    done, first = 0, 0.0
    while done < steps:
        for inputs, targets in DataLoader(data, batch_size, shuffle=True, drop_last=True):
            loss = functional.cross_entropy(network(inputs), targets)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            done += 1
            if done == 5:
                first = time.perf_counter()
            if done == steps:
                break
    return (time.perf_counter() - first) / (steps - 5)


class Stock(pl.LightningModule):
    """What a Lightning user writes first."""

    def __init__(self, network: nn.Module, optimizer: Any) -> None:
        """Keeps the parts."""
        super().__init__()
        self.network, self.optimizer = network, optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        """The optimizer."""
        return self.optimizer(list(self.parameters()))


def stock_step_s(
    network: nn.Module, data: TensorDataset, optimizer: Any, *, steps: int, batch_size: int
) -> float:
    """Seconds a step of a stock Trainer that logs nothing, shows nothing and saves nothing."""
    clock = made.Clock(skip=5, total=steps)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True)
    trainer.fit(Stock(network, optimizer), loader)
    return clock.seconds()


class Rows(pl.loggers.logger.DummyLogger):
    """Counts the figures that were logged."""

    figures = 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Counts."""
        self.figures += len(metrics)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of all sides."""
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def resnet18() -> str:
    """ResNet-18 at 64 px, batch 32."""
    inputs, targets = torch.randn(320, 3, 64, 64), torch.randint(0, 10, (320,))
    data, tensors = made.splits(inputs, targets, 10), TensorDataset(inputs, targets)
    size = {"steps": 25, "batch_size": 32}

    def ours() -> float:
        torch.manual_seed(0)
        trunk = timm.create_model("resnet18", num_classes=0)
        return made.tlx_step_s(trunk, 512, data, optimizer=adamw, **size)

    def theirs() -> float:
        torch.manual_seed(0)
        network = timm.create_model("resnet18", num_classes=10)
        return bare_step_s(network, tensors, adamw, **size)

    return pairs.summary(
        "step, ResNet-18 64 px, tlx / bare loop", pairs.ratios(ours, theirs), limit=1.05
    )


class OfIds(nn.Module):
    """The library's own classifier of texts, none of which is padded."""

    def __init__(self, network: nn.Module) -> None:
        """Keeps the network."""
        super().__init__()
        self.network = network

    def forward(self, ids_NT: Tensor) -> Tensor:
        """Logits [N, C] of token ids [N, T]."""
        mask_NT, kinds_NT = torch.ones_like(ids_NT), torch.zeros_like(ids_NT)
        out = self.network(input_ids=ids_NT, attention_mask=mask_NT, token_type_ids=kinds_NT)
        logits_NC: Tensor = out.logits
        return logits_NC


def bert() -> str:
    """A BERT of 4 layers, 256 wide, batch 32 of 64 tokens; dropout as it comes."""

    def backbone() -> Backbone:
        torch.manual_seed(0)
        wanted = Wanted(corpus=lambda: [" ".join(f"w{i}" for i in range(WORDS))])
        return transformers(wanted, name="bert", init="none", vocabulary="words", kwargs=BERT)

    ids_NT = torch.randint(5, WORDS, (320, TOKENS))
    targets = torch.randint(0, CLASSES, (320,))
    data, tensors = made.texts(ids_NT, targets, CLASSES), TensorDataset(ids_NT, targets)
    first = backbone()
    config = config_of(first.export, data.labels.names, first.reads)
    size = {"steps": 25, "batch_size": 32}

    def ours() -> float:
        return made.tlx_step_s(backbone().module, 256, data, optimizer=adamw, **size)

    def theirs() -> float:
        torch.manual_seed(0)
        network = OfIds(AutoModelForSequenceClassification.from_config(config))
        return bare_step_s(network, tensors, adamw, **size)

    return pairs.summary(
        "step, BERT 4 x 256, 64 tokens, tlx / bare loop", pairs.ratios(ours, theirs), limit=1.05
    )


def tiny() -> list[str]:
    """A step of about 1 ms: a small convolutional network, batch 16, five figures logged."""

    def trunk() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(256, 64), nn.ReLU(),
        )  # fmt: skip

    inputs, targets = torch.randn(1600, 1, 16, 16), torch.randint(0, 10, (1600,))
    data, tensors = made.splits(inputs, targets, 10), TensorDataset(inputs, targets)
    size = {"steps": 1000, "batch_size": 16}

    def ours() -> float:
        return made.tlx_step_s(
            trunk(), 64, data, optimizer=adamw, loggers=(Rows(),), log_every=20, **size
        )

    def stock() -> float:
        return stock_step_s(nn.Sequential(trunk(), nn.Linear(64, 10)), tensors, adamw, **size)

    def bare() -> float:
        return bare_step_s(nn.Sequential(trunk(), nn.Linear(64, 10)), tensors, adamw, **size)

    return [
        f"step of a bare loop: {bare() * 1e3:.2f} ms",
        pairs.summary(
            "step ~1 ms, five figures logged, tlx / stock Lightning",
            pairs.ratios(ours, stock),
            limit=1.1,
        ),
        pairs.summary(
            "step ~1 ms, stock Lightning / bare loop", pairs.ratios(stock, bare), limit=9
        ),
    ]


def main() -> None:
    """Prints all lines."""
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for line in [*tiny(), resnet18(), bert()]:
        print(line, flush=True)


if __name__ == "__main__":
    main()
