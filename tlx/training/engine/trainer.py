"""The Lightning Trainer as tlx uses it: one object, quiet, entered once a stage."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import Strategy

from tlx.config.schema import Trainer
from tlx.training.engine.signals import OwnSignals


def make_trainer(
    node: Trainer,
    *,
    folder: Path,
    grad_clip: float | None = None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """A Trainer without limits, checkpoints, bars or samplers of its own: `fit` rules those."""
    for name in ("pytorch_lightning", "lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")
    gpu = torch.cuda.is_available() if node.accelerator == "auto" else node.accelerator == "gpu"
    world, strategy = node.devices * node.nodes, node.strategy
    of_slurm = "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    if strategy == "auto" and world > 1:
        strategy = "ddp"
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=node.devices,
        num_nodes=node.nodes,
        strategy=_strategy(strategy, world),
        precision=node.precision,
        accumulate_grad_batches=node.accumulate,
        gradient_clip_val=grad_clip,
        deterministic="warn" if node.deterministic else False,
        benchmark=not node.deterministic,
        logger=list(loggers) or False,
        callbacks=[OwnSignals(), *callbacks],
        plugins=SLURMEnvironment(auto_requeue=False) if of_slurm else None,
        max_epochs=-1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=10**9,
        default_root_dir=str(folder),
    )


def _strategy(name: str, world: int) -> str | Strategy:
    if name == "fsdp":
        from pytorch_lightning.strategies import ModelParallelStrategy

        return ModelParallelStrategy(
            data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return name
