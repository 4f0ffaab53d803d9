"""Runs as lightning-hydra-template shapes them, on stored features: what a stack is held against.

A LightningModule with torchmetrics, a DataLoader over tensors, a Trainer a run with a checkpoint
of the best validation and a CSV logger, fit and then test from the best checkpoint.
"""

import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy

Parts = dict[str, tuple[Tensor, Tensor]]
"""Features [N, D] and targets [N] of train, val and test."""


class Probe(pl.LightningModule):
    """The template's module (src/models/mnist_module.py) with a linear head as its network."""

    def __init__(self, width: int, classes: int, *, lr: float) -> None:
        """Draws the head."""
        super().__init__()
        self.net, self.lr = nn.Linear(width, classes), lr
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc, self.val_acc, self.test_acc = (
            MulticlassAccuracy(classes, average="micro") for _ in range(3)
        )
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric() for _ in range(3))
        self.val_acc_best = MaxMetric()

    def on_train_start(self) -> None:
        """Forgets what the sanity check told the metrics."""
        for metric in (self.val_loss, self.val_acc, self.val_acc_best):
            metric.reset()

    def _step(self, batch: Any, name: str) -> Tensor:
        features, targets = batch
        outputs = self.net(features)
        loss: Tensor = self.criterion(outputs, targets)
        mean, accuracy = getattr(self, f"{name}_loss"), getattr(self, f"{name}_acc")
        mean(loss)
        accuracy(outputs.argmax(1), targets)
        self.log(f"{name}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{name}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        """The loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Any, _: int) -> None:
        """Adds a batch to the figures."""
        self._step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Logs the best accuracy so far."""
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True, prog_bar=True)

    def test_step(self, batch: Any, index: int) -> None:
        """Adds a batch to the figures."""
        self._step(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum, as the other side has it."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, nesterov=True)


def run(folder: Path, parts: Parts, *, classes: int, lr: float, epochs: int, batch: int) -> float:
    """One run; returns its test accuracy."""
    pl.seed_everything(0, verbose=False)
    loaders = {
        name: DataLoader(TensorDataset(*pair), batch_size=batch, shuffle=name == "train")
        for name, pair in parts.items()
    }
    best = ModelCheckpoint(
        dirpath=folder / "checkpoints", filename="epoch_{epoch:03d}", monitor="val/acc", mode="max",
        save_last=True, auto_insert_metric_name=False,
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, default_root_dir=folder, callbacks=[best],
        logger=CSVLogger(folder, name="csv"), enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=20,
    )  # fmt: skip
    probe = Probe(parts["train"][0].shape[1], classes, lr=lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(probe, loaders["train"], loaders["val"])
        found = trainer.test(
            probe,
            loaders["test"],
            ckpt_path=best.best_model_path,
            verbose=False,
            weights_only=False,
        )
    return float(found[0]["test/acc"])
