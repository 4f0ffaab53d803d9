"""Batch norm over a part of one item: one value has no variance, which is told with its keys.

A part is what a rank computes at once: the batch over `trainer.accumulate`, devices and nodes. One
item is enough where a layer still sees several positions of it, and where it takes no statistics.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from tlx.config.schema import Trainer
from tlx.data.inputs import Spec
from tlx.data.splits import inputs_of
from tlx.methods import freezing
from tlx.methods.stages import Stage
from tlx.tasks.task import Network

TORCH_SAYS = "Expected more than 1 value per channel"


def check(
    network: Network,
    stages: Sequence[Stage],
    *,
    reads: Spec,
    trainer: Trainer,
    norm_stats: str,
    items: int | None = None,
) -> None:
    """Refuses statistics of a single value (a mutator of modes and of what takes gradients).

    Items of one shape alone are looked at, which is known before there is any data.

    Args:
        network: on the meta device.
        stages: of the run.
        reads: what the backbone takes.
        trainer: node of the config.
        norm_stats: `frozen.norm_stats`.
        items: of the training split; None: more than a batch.

    Raises:
        ValueError: a stage would measure the variance of one value.
    """
    if norm_stats == "recalibrate" and trainer.eval_batch_size == 1 and _layers(network):
        raise ValueError(
            "frozen.norm_stats=recalibrate measures batch norm over evaluation batches, and "
            "trainer.eval_batch_size=1 makes each of one item: raise it to 2 or more"
        )
    ranks, parts = trainer.devices * trainer.nodes, trainer.accumulate
    batch = trainer.batch_size if items is None else min(items, trainer.batch_size)
    if batch // (ranks * parts) != 1 or inputs_of(reads).padding(reads) is not None:
        return
    one = inputs_of(reads).example(reads, items=1, device=torch.device("meta"))
    single = _of_one_value(network, one)
    together = batch // parts > 1  # whose statistics are of all ranks
    for stage in stages:
        freezing.apply(network, stage.trains)
        freezing.set_modes(network.train(), norm_stats=norm_stats)
        for name, layer in single.items():
            if layer.training and not (together and isinstance(layer, SyncBatchNorm)):
                raise ValueError(_refusal(name, trainer, batch=batch, items=items))


@contextmanager
def explained() -> Iterator[None]:
    """Names the keys where torch refuses statistics of one value, as of texts of one word."""
    try:
        yield
    except ValueError as error:
        if TORCH_SAYS not in str(error):
            raise
        raise ValueError(
            f"a norm that trains got one value a channel, which has no variance ({error}): give "
            "each part of a batch two items or more (trainer.batch_size over trainer.accumulate, "
            f"devices and nodes), or keep the statistics of the start: {FREEZE}"
        ) from error


@contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Has norms that train take a batch's statistics without remembering them."""
    moving = [layer for layer in _layers(network).values() if layer.training]
    moving = [layer for layer in moving if layer.track_running_stats]
    for layer in moving:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in moving:
            layer.track_running_stats = True


FREEZE = "frozen.norm_stats=freeze"


def _layers(network: nn.Module) -> dict[str, _BatchNorm]:
    return {name: m for name, m in network.named_modules() if isinstance(m, _BatchNorm)}


def _of_one_value(network: Network, one: object) -> dict[str, nn.Module]:
    """The backbone's batch norms that see one value a channel of one item.

    A head's own norm is not among them: it passes over the statistics of one item.
    """
    single: dict[str, nn.Module] = {}
    handles = []
    for name, layer in _layers(network.backbone).items():

        def note(
            layer: nn.Module, inputs: tuple[Tensor, ...], *, name: str = f"backbone.{name}"
        ) -> None:
            if inputs[0].numel() == inputs[0].shape[1]:
                single[name] = layer

        handles.append(layer.register_forward_pre_hook(note))
    network.eval()
    try:
        with torch.no_grad():
            network.features(one)
    except (RuntimeError, NotImplementedError):
        pass  # a network that cannot be called without weights is told by its first step
    finally:
        for handle in handles:
            handle.remove()
    return single


def _refusal(name: str, trainer: Trainer, *, batch: int, items: int | None) -> str:
    keys = [key for key in ("accumulate", "devices", "nodes") if getattr(trainer, key) > 1]
    parts = trainer.accumulate * trainer.devices * trainer.nodes
    how = f"trainer.batch_size={trainer.batch_size}"
    if items is not None and items < trainer.batch_size:
        how = f"the training split has {items} items"
    if keys:
        how += (
            " in " + " × ".join(f"trainer.{key}={getattr(trainer, key)}" for key in keys) + " parts"
        )
    fixes = [f"lower trainer.{' or trainer.'.join(keys)}"] if keys else []
    if items is None or items >= trainer.batch_size:
        fixes.append(f"raise trainer.batch_size to {2 * parts} or more")
    elif not keys:
        fixes.append("give more items")
    fixes.append(f"keep the statistics of the start: {FREEZE}")
    return (
        f"{name} takes the mean and variance of a batch, and sees one value a channel where a part "
        f"of it has one item: {how}; {', or '.join(fixes)}"
    )
